"""A pattern's `$` also matches before a final newline; names and addresses must not get one through."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.wire.destination import DestinationError, parse_destination
from dataplane.wire.ingress import IngressError, parse_ingress


@pytest.mark.parametrize("text", ["db.internal\n:22", "db.internal:22\n", "10.0.0.1\n:22", "ssh://db\n:22"])
def test_destinations_with_line_ends_are_refused(text: str) -> None:
    with pytest.raises(DestinationError):
        parse_destination(text)


@pytest.mark.parametrize(
    "rule",
    [{"hostname": "a.example.com\n", "service": "hello_world"}, {"hostname": "a.b", "service": "http_status:404\n"}],
)
def test_ingress_rules_with_line_ends_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(IngressError):
        parse_ingress({"ingress": [rule, {"service": "http_status:404"}]})
