"""Connectors say what they run; no tenant's words may make the edge's report too large to be accepted."""

from __future__ import annotations

from dataplane.edge.registration import Registration
from dataplane.edge.reports import MAX_LOCAL_CONFIG_BYTES, MAX_LOCAL_CONFIGS_BYTES, choose_local_configs


def registration(size: int) -> Registration:
    return Registration(
        tunnel_id="t", client_id="c", index=0, version="", arch="", features=(), registered_at=0.0,
        revocation_marks=(0.0, 0.0),
        local_config={"ingress": []}, local_config_bytes=size,
    )  # fmt: skip


def test_small_configurations_are_told_and_large_ones_are_not() -> None:
    small, large = registration(500), registration(MAX_LOCAL_CONFIG_BYTES + 1)
    assert choose_local_configs([large, small]) == {id(small)}


def test_many_configurations_share_a_budget_smallest_first() -> None:
    flood = [registration(MAX_LOCAL_CONFIG_BYTES) for _ in range(200)]
    small = registration(500)
    told = choose_local_configs([*flood, small])
    assert id(small) in told
    assert sum(r.local_config_bytes for r in [*flood, small] if id(r) in told) <= MAX_LOCAL_CONFIGS_BYTES
    assert len(told) == MAX_LOCAL_CONFIGS_BYTES // MAX_LOCAL_CONFIG_BYTES
