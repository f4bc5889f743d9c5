"""Two configurations side by side."""

from __future__ import annotations

from tunnels.differences import MAX_COMPARED_LINES, compare


def config(*services: str) -> dict[str, object]:
    return {"ingress": [{"service": service} for service in services]}


def test_equal_configurations_have_no_rows() -> None:
    assert compare(config("a"), config("a")) == []


def test_changed_added_and_removed_lines_are_paired() -> None:
    rows = compare(config("a", "b"), config("a", "c"))
    changed = [row for row in rows if row.kind == "changed"]
    assert [(row.old.strip(), row.new.strip()) for row in changed] == [('"service": "b"', '"service": "c"')]
    assert changed[0].old_number == changed[0].new_number
    added = compare(config("a"), config("a", "b"))
    assert {row.kind for row in added} >= {"added", "same"}
    assert all(row.old_number is None for row in added if row.kind == "added")


def test_long_stretches_that_are_the_same_are_left_out() -> None:
    many = [f"s{number}" for number in range(100)]
    rows = compare(config(*many, "x"), config(*many, "y"))
    assert len(rows) < 20
    assert rows[0].kind == "skipped"


def test_huge_documents_are_not_paired() -> None:
    many = [f"s{number}" for number in range(MAX_COMPARED_LINES)]
    assert {row.kind for row in compare(config(*many), config("x"))} == {"removed", "added"}
