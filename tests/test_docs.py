"""Docs say what the code does."""

from __future__ import annotations

from tools.check_docs import problems, threat_model_problems


def test_docs_match_the_code() -> None:
    assert problems() == []


def test_a_threat_without_evidence_is_found() -> None:
    good = "| AC-01 | x | `test_docs.py::test_docs_match_the_code` |\n| F-1 | x | Later: not built. |\n"
    assert threat_model_problems(good) == []
    for bad in (
        "| AC-01 | x | `test_docs.py::test_that_nobody_wrote` |",
        "| AC-01 | x | `nowhere/test_x.py::test_x` |",
        "| F-1 | x | it is fine |",
        good + good,
    ):
        assert threat_model_problems(bad + "\n")
