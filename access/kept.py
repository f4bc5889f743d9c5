"""Rules made ready once per edit instead of once per request (1,000 groups take some 20 ms to read)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import deepcopy
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")
Made = TypeVar("Made")
# Rules and entries of lists that one store holds, at about half a kilobyte each.
MAX_WEIGHT = 200_000


class _Store(Generic[Made]):
    """What was made of rows, for as long as the rows stay the same.

    Rows are read from the database at each request and compared by content, not by time stamp: no edit, however it was
    made, leaves an old rule in force. Threads may share one.
    """

    def __init__(self, weight: Callable[[Made], int]) -> None:
        self._weigh = weight
        self._made: dict[Hashable, tuple[Any, Made]] = {}
        self._weight = 0

    def _known(self, key: Hashable, content: Any) -> Made | None:
        kept = self._made.get(key)
        return kept[1] if kept is not None and kept[0] == content else None

    def _keep(self, key: Hashable, content: Any, made: Made) -> Made:
        self._weight += 1 + self._weigh(made)
        if self._weight > MAX_WEIGHT:
            self._made.clear()
            self._weight = 1 + self._weigh(made)
        self._made[key] = (content, made)
        return made


class Kept(_Store[Made], Generic[Row, Made]):
    """By rows that are at hand."""

    def __init__(
        self, make: Callable[[Row], Made], columns: Callable[[Row], tuple[Any, ...]], weight: Callable[[Made], int]
    ) -> None:
        super().__init__(weight)
        self._make, self._columns = make, columns

    def of(self, key: Hashable, row: Row) -> Made:
        columns = self._columns(row)
        made = self._known(key, columns)
        # A copy: whoever changes the row's lists in place must not change what it is compared with.
        return self._keep(key, deepcopy(columns), self._make(row)) if made is None else made


class KeptTexts(_Store[Made]):
    """By the texts of rows (accounts.prepared.RowText), so that only edited rows have to be read."""

    def known(self, key: Hashable, text: str | None) -> Made | None:
        return self._known(key, text)

    def keep(self, key: Hashable, text: str, made: Made) -> Made:
        return self._keep(key, text, made)
