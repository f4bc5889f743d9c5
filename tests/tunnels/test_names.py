from __future__ import annotations

import pytest

from accounts.errors import InvalidInput
from tunnels.names import is_within, normalize_domain, normalize_hostname, parents, skeleton


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.COM.", "example.com"),
        (" a.b ", "a.b"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("ＡＣＭＥ.com", "acme.com"),
        ("_acme-challenge.example.com", "_acme-challenge.example.com"),
    ],
)
def test_names_have_one_spelling(text: str, expected: str) -> None:
    assert normalize_domain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "a..b", "-a.com", "a-.com", "a b.com", "a" * 64 + ".com", ".".join(["a" * 60] * 5), "exa mple",
        "a/b.com", "192.0.2.1", "::1", "xn--.com", "xn--a.com", "a\n.com", "*.example.com", "ex*.com", "\u202eacme.com",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        normalize_domain(text)


def test_wildcards_stand_only_in_front() -> None:
    assert normalize_hostname("*.Example.com") == "*.example.com"
    for text in ("*", "a.*.example.com", "*.*.example.com", "**.example.com"):
        with pytest.raises(InvalidInput):
            normalize_hostname(text)


def test_strict_names_have_no_underscore() -> None:
    with pytest.raises(InvalidInput):
        normalize_domain("_x.example.com", strict=True)


@pytest.mark.parametrize(
    "lookalike",
    [
        "аcme.com",  # Cyrillic a
        "acmе.com",  # Cyrillic e
        "асме.com",  # all Cyrillic
        "αcme.com",  # Greek alpha
        "acmé.com",
        "àcme.com",
        "ɑcme.com",  # Latin alpha
    ],
)
def test_lookalikes_have_the_skeleton_of_what_they_imitate(lookalike: str) -> None:
    name = normalize_domain(lookalike)
    assert name.startswith("xn--")
    assert skeleton(name) == "acme.com"


def test_skeleton_leaves_plain_names_alone() -> None:
    assert skeleton("ssh-1.example.com") == "ssh-1.example.com"


def test_family() -> None:
    assert parents("a.b.c") == ["b.c", "c"]
    assert is_within("a.b.c", "b.c")
    assert is_within("b.c", "b.c")
    assert not is_within("ab.c", "b.c")
