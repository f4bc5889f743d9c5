"""External evaluators asked about live streams. An edge waits for the answer about all streams it asked about, so what
is not remembered is asked at once, within one deadline, and no organization takes all the places: one whose evaluator
hangs holds up neither the worker nor the ends of other organizations' streams.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime

from access import country, external
from access.models import Application
from access.selectors import ExternalFacts
from accounts.models import AccessSession

# Of one call by an edge, altogether.
EXTERNAL_SECONDS = 2.0
# Questions under way at once, and of them those of one organization.
MAX_QUESTIONS = 16
MAX_OF_ORGANIZATION = 4
_TOO_SLOW = "the evaluator does not answer."


class Unasked(Exception):
    """What the stream depends on is noted; after `LiveAnswers.ask` it can be judged."""


class Unfinished(Exception):
    """The evaluators answer, but there are too many to ask in one call. The edge asks again, and what was answered is
    remembered until then (access/external.py)."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    organization_id: str
    session: AccessSession
    ip: str
    pair: external.Pair

    @property
    def key(self) -> tuple[str, str, external.Pair]:
        return self.session.nonce, self.ip, self.pair


@dataclass(slots=True)
class LiveAnswers:
    """Of one call."""

    now: datetime
    is_asked: bool = False
    wanted: dict[tuple[str, str, external.Pair], _Wanted] = field(default_factory=dict)
    facts: dict[tuple[str, str, external.Pair], external.Fact] = field(default_factory=dict)
    # Organization and address of those that said nothing in this call, nor since one before.
    silent: set[tuple[str, str]] = field(default_factory=set)

    def about(
        self, session: AccessSession | None, pairs: Iterable[external.Pair], *, application: Application, ip: str
    ) -> ExternalFacts:
        """Raises Unasked before `ask`, Unfinished after it."""
        if session is None:
            return {}
        wanted = [_Wanted(application.organization_id, session, ip, pair) for pair in external.asked_of(pairs)]
        found = {item.pair: fact for item in wanted if (fact := self._fact(item)) is not None}
        left = [item for item in wanted if item.pair not in found]
        if left and self.is_asked:
            raise Unfinished
        if left:
            self.wanted |= {item.key: item for item in left}
            raise Unasked
        return found

    def ask(self) -> None:
        """All that is wanted: of every organization in turn, until the time is over."""
        self.is_asked = True
        until = time.monotonic() + EXTERNAL_SECONDS
        queues: dict[str, deque[_Wanted]] = {}
        for item in self.wanted.values():
            queues.setdefault(item.organization_id, deque()).append(item)
        running: dict[Future[external.Fact], _Wanted] = {}
        spoke: set[tuple[str, str]] = set()
        pool = ThreadPoolExecutor(MAX_QUESTIONS, thread_name_prefix="external-evaluation")
        try:
            while (running or queues) and time.monotonic() < until:
                self._fill(pool, queues, running)
                done, _ = wait(running, max(0.0, until - time.monotonic()), FIRST_COMPLETED)
                for future in done:
                    item = running.pop(future)
                    self.facts[item.key] = future.result()
                    spoke.add(_evaluator(item))
        finally:
            # Whoever still waits for an evaluator does so on its own, and remembers the answer for the next call.
            pool.shutdown(wait=False, cancel_futures=True)
        late = {_evaluator(item) for item in running.values()} - spoke
        self.silent = {evaluator for evaluator in late if external.note_silence(*evaluator)}

    def _fill(
        self,
        pool: ThreadPoolExecutor,
        queues: dict[str, deque[_Wanted]],
        running: dict[Future[external.Fact], _Wanted],
    ) -> None:
        """One question of each organization after the other, as long as there are places."""
        places = Counter(item.organization_id for item in running.values())
        while len(running) < MAX_QUESTIONS:
            free = [key for key in queues if places[key] < MAX_OF_ORGANIZATION]
            if not free:
                return
            organization_id = min(free, key=lambda key: places[key])
            item = queues[organization_id].popleft()
            if not queues[organization_id]:
                del queues[organization_id]
            places[organization_id] += 1
            # Signed here: the organization's key comes from the database, which the threads leave alone.
            question = external.prepare(
                item.pair, session=item.session, ip=item.ip, country=country.lookup(item.ip), now=self.now
            )
            running[pool.submit(external.answer_to, question)] = item

    def _fact(self, item: _Wanted) -> external.Fact | None:
        fact = self.facts.get(item.key)
        if fact is None and _evaluator(item) in self.silent:
            return _TOO_SLOW
        return fact if fact is not None else external.remembered(item.pair, session=item.session, ip=item.ip)


def _evaluator(item: _Wanted) -> tuple[str, str]:
    return item.organization_id, item.pair[0]
