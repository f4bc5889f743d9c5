"""Docs say what the code does."""

from __future__ import annotations

from tools.check_docs import problems


def test_docs_match_the_code() -> None:
    assert problems() == []
