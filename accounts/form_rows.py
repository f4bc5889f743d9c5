"""Forms of rows that grow and shrink by submits of their own (`step`): rules, published hostnames. No JavaScript."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

RowT = TypeVar("RowT")
MAX_ROWS = 200
_ADD, _REMOVE, _MOVE_UP = "add-row", "remove-row-", "move-up-"


def row_prefixes(names: Iterable[str], start: str, end: str) -> list[str]:
    """ "rule-0-", "rule-2-", … : of the rows that were sent, in order; each has a field `end`."""
    middles = (name.removeprefix(start).removesuffix(end) for name in names)
    return [f"{start}{number}-" for number in sorted(int(part) for part in middles if part.isdigit())[:MAX_ROWS]]


class FormRows(Generic[RowT]):
    def __init__(self, rows: list[RowT]) -> None:
        self.rows = rows

    def new_row(self) -> RowT:
        raise NotImplementedError

    def take_step(self, step: str) -> bool:
        """Do what an "Add", "Remove" or "Move up" button asks. False: the form wants to be saved."""
        if step == _ADD:
            if len(self.rows) < MAX_ROWS:
                self.rows.append(self.new_row())
        elif step.startswith(_REMOVE):
            self.remove(*_numbers(step.removeprefix(_REMOVE)))
        elif step.startswith(_MOVE_UP):
            self._move_up(*_numbers(step.removeprefix(_MOVE_UP)))
        else:
            return False
        return True

    def remove(self, number: int = MAX_ROWS, place: int | None = None) -> None:
        """`place`: only that value of the row, where rows have several."""
        if place is None and number < len(self.rows):
            del self.rows[number]

    def _move_up(self, number: int = 0, _: int | None = None) -> None:
        if 0 < number < len(self.rows):
            self.rows[number - 1], self.rows[number] = self.rows[number], self.rows[number - 1]


def _numbers(text: str) -> list[int]:
    """Of "3", or of "3-value-1"; nothing of what no button of ours sends."""
    parts = text.split("-value-")
    is_known = len(parts) <= 2 and all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts)
    return [int(part) for part in parts] if is_known else []
