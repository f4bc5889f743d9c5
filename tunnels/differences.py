"""Two configurations side by side, line by line. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

CONTEXT_LINES = 3
# Comparing takes time that grows with the square of what differs; longer documents are shown without pairing lines.
MAX_COMPARED_LINES = 4000


@dataclass(frozen=True)
class DiffRow:
    """`kind`: same, changed, removed, added, or skipped (then `old` says how many lines are left out)."""

    kind: str
    old_number: int | None = None
    old: str = ""
    new_number: int | None = None
    new: str = ""


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[DiffRow]:
    """Rows for a table with two sides; empty when nothing differs."""
    before, after = _lines(old), _lines(new)
    if before == after:
        return []
    if len(before) + len(after) > MAX_COMPARED_LINES:
        removed = [DiffRow("removed", number, line) for number, line in enumerate(before, 1)]
        return removed + [DiffRow("added", None, "", number, line) for number, line in enumerate(after, 1)]
    rows: list[DiffRow] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            rows += _unchanged(before[i1:i2], i1, j1, is_first=i1 == 0, is_last=i2 == len(before))
        else:
            rows += _changed(before[i1:i2], after[j1:j2], i1, j1)
    return rows


def _lines(config: Mapping[str, Any]) -> list[str]:
    return json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True, default=str).splitlines()


def _unchanged(lines: list[str], i: int, j: int, *, is_first: bool, is_last: bool) -> list[DiffRow]:
    """Only what is near a change; in between, how much was left out."""
    rows = [DiffRow("same", i + n + 1, line, j + n + 1, line) for n, line in enumerate(lines)]
    head = 0 if is_first else CONTEXT_LINES
    tail = 0 if is_last else CONTEXT_LINES
    if len(rows) <= head + tail + 1:
        return rows
    skipped = DiffRow("skipped", None, str(len(rows) - head - tail))
    return [*rows[:head], skipped, *rows[len(rows) - tail :]]


def _changed(before: list[str], after: list[str], i: int, j: int) -> list[DiffRow]:
    rows = []
    for n in range(max(len(before), len(after))):
        has_old, has_new = n < len(before), n < len(after)
        kind = "changed" if has_old and has_new else "removed" if has_old else "added"
        rows.append(
            DiffRow(
                kind,
                i + n + 1 if has_old else None,
                before[n] if has_old else "",
                j + n + 1 if has_new else None,
                after[n] if has_new else "",
            )
        )
    return rows
