"""Doing together what arrives at the same time, as databases commit in groups.

    first caller      work([a]) ...............|
    meanwhile         b, c, d wait             |
    then b            ......................... work([b, c, d]) ....|

Nobody waits for company: the first caller of a key works at once with what is there, and those who come meanwhile are
the next group, led by the first of them. So an idle machine sees no delay, and a busy one shares its transactions.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")


class _Entry(Generic[ItemT, OutcomeT]):
    __slots__ = ("is_done", "item", "outcome", "woken")

    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.woken = threading.Event()
        self.is_done = False
        self.outcome: OutcomeT | Exception | None = None


class Gathering(Generic[ItemT, OutcomeT]):
    """`work` gets one to `most` items of one key and returns an outcome for each; an exception among them, or raised,
    is raised to its caller (to all of them)."""

    def __init__(self, work: Callable[[Sequence[ItemT]], Sequence[OutcomeT | Exception]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        # A key is here while somebody works for it.
        self._waiting: dict[str, deque[_Entry[ItemT, OutcomeT]]] = {}

    def run(self, key: str, item: ItemT) -> OutcomeT:
        """Called in many threads; the work is done in one of them."""
        entry: _Entry[ItemT, OutcomeT] = _Entry(item)
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque()
            else:
                waiting.append(entry)
        if waiting is not None:
            entry.woken.wait()
        if not entry.is_done:
            self._lead(key, entry)
        if isinstance(entry.outcome, Exception):
            raise entry.outcome
        return cast(OutcomeT, entry.outcome)

    def _lead(self, key: str, first: _Entry[ItemT, OutcomeT]) -> None:
        with self._lock:
            waiting = self._waiting[key]
            group = [first, *(waiting.popleft() for _ in range(min(len(waiting), self._most - 1)))]
        outcomes: Sequence[OutcomeT | Exception] = [RuntimeError("The work was interrupted.")] * len(group)
        try:
            outcomes = self._work([entry.item for entry in group])
        except Exception as error:  # noqa: BLE001 - raised again, to everybody it concerns
            outcomes = [error] * len(group)
        finally:
            self._hand_over(key)
            for entry, outcome in zip(group, outcomes, strict=True):
                entry.outcome, entry.is_done = outcome, True
                entry.woken.set()

    def _hand_over(self, key: str) -> None:
        with self._lock:
            waiting = self._waiting[key]
            if waiting:
                waiting.popleft().woken.set()
            else:
                del self._waiting[key]
