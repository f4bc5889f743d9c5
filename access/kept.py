"""Rules made ready once per edit instead of once per request (1,000 groups take some 20 ms to read)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import deepcopy
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")
Made = TypeVar("Made")
# Rules and entries of lists that one Kept holds, at about half a kilobyte each.
MAX_WEIGHT = 200_000


class Kept(Generic[Row, Made]):
    """What was made of rows, for as long as the rows stay the same.

    Rows are read from the database at each request and compared by content, not by time stamp: no edit, however it was
    made, leaves an old rule in force. Threads may share one.
    """

    def __init__(
        self, make: Callable[[Row], Made], columns: Callable[[Row], tuple[Any, ...]], weight: Callable[[Made], int]
    ) -> None:
        self._make, self._columns, self._weigh = make, columns, weight
        self._made: dict[Hashable, tuple[tuple[Any, ...], Made]] = {}
        self._weight = 0

    def of(self, key: Hashable, row: Row) -> Made:
        columns = self._columns(row)
        known = self._made.get(key)
        if known is not None and known[0] == columns:
            return known[1]
        made = self._make(row)
        self._weight += 1 + self._weigh(made)
        if self._weight > MAX_WEIGHT:
            self._made.clear()
            self._weight = 1 + self._weigh(made)
        # A copy: whoever changes the row's lists in place must not change what it is compared with.
        self._made[key] = (deepcopy(columns), made)
        return made
