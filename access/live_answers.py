"""External evaluators asked about live streams. An edge waits for the answer about all streams it asked about, so one
organization's evaluator that hangs must not hold the worker, and the ends of other streams, for long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from access import country, external
from access.models import Application
from access.selectors import ExternalFacts
from accounts.models import AccessSession

# Of one call by an edge, altogether.
EXTERNAL_SECONDS = 2.0
_TOO_SLOW = "the evaluator does not answer."


class Unfinished(Exception):
    """The evaluators answer, but there are too many to ask in one call. The edge asks again, and what was answered is
    remembered until then (access/external.py)."""


@dataclass(slots=True)
class LiveAnswers:
    """Of one call."""

    until: float = field(default_factory=lambda: time.monotonic() + EXTERNAL_SECONDS)
    # Organization and address of those that took all the time there is and said nothing: not asked again, no answer.
    silent: set[tuple[str, str]] = field(default_factory=set)

    def about(
        self,
        session: AccessSession | None,
        pairs: Iterable[tuple[str, str]],
        *,
        application: Application,
        ip: str,
        now: datetime,
    ) -> ExternalFacts:
        """Raises Unfinished."""
        wanted, own = list(pairs), application.organization_id
        if session is None or not wanted:
            return {}
        if any((own, pair[0]) in self.silent for pair in wanted):
            return dict.fromkeys(wanted, _TOO_SLOW)
        if time.monotonic() > self.until:
            raise Unfinished
        found = external.ask_all(wanted, session=session, ip=ip, country=country.lookup(ip), now=now)
        if time.monotonic() > self.until:
            self.silent |= {(own, pair[0]) for pair, fact in found.items() if isinstance(fact, str)}
        return found
