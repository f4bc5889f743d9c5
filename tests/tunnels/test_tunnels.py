"""Tunnels: names, secrets and tokens, deletion; configurations and their versions (AC-51, AC-68, AC-69)."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as db_connection
from django.utils import timezone

from accounts.actor import Actor
from accounts.audit import edge_version
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import AuditEvent
from dataplane.wire.credentials import TunnelCredentials
from tests.factories import Cast, make_cast
from tests.tunnels.helpers import CONFIG, SECRET, actor_of, events_of, make_tunnel
from tunnels.actions.configurations import current_configuration, publish_configuration
from tunnels.actions.tunnels import (
    create_tunnel,
    credentials,
    delete_tunnel,
    rename_tunnel,
    replace_tunnel_secret,
    rotate_tunnel_token,
    tunnel_token,
)
from tunnels.models import Tunnel, TunnelConfiguration
from tunnels.secrets import token_secret
from tunnels.snapshots import load_snapshot


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


@pytest.fixture
def tunnel(cast: Cast) -> Tunnel:
    return make_tunnel(cast.widgetcorp, cast.alice)


def accepted(tunnel: Tunnel) -> list[str]:
    """What edges accept for the tunnel."""
    (found,) = [row for row in load_snapshot()["tunnels"] if row["id"] == str(tunnel.pk)]
    hashes: list[str] = found["secret_sha256"]
    return hashes


def sha256(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def test_create_tunnel_keeps_only_hashes(cast: Cast, alice: Actor) -> None:
    before = edge_version()
    tunnel = create_tunnel(cast.widgetcorp, name=" ssh-pool ", secret=SECRET, actor=alice)
    row = Tunnel.objects.filter(pk=tunnel.pk).values().get()
    assert row["name"] == "ssh-pool"
    assert row["secret_sha256"] == sha256(SECRET)
    assert SECRET.hex() not in str(row)
    assert edge_version() == before + 1
    event = AuditEvent.objects.get()
    assert (event.name, event.target_id) == ("tunnels.tunnel.created", str(tunnel.pk))
    assert event.new == {"name": "ssh-pool", "config_source": "local"}


def test_the_token_carries_a_derived_secret_that_is_stored_nowhere(tunnel: Tunnel) -> None:
    parsed = TunnelCredentials.from_token(tunnel_token(tunnel))
    assert (parsed.account_tag, parsed.tunnel_id) == (tunnel.organization_id, tunnel.pk)
    message = b"\0".join((b"tunnel-token", str(tunnel.pk).encode(), b"1"))
    assert parsed.secret == hmac.new(b"\x11" * 32, message, hashlib.sha256).digest()
    assert accepted(tunnel) == [sha256(parsed.secret), sha256(SECRET)]
    assert tunnel_token(tunnel) == tunnel_token(tunnel)


def test_credentials_file(tunnel: Tunnel) -> None:
    document = credentials(tunnel, SECRET)
    assert set(document) >= {"AccountTag", "TunnelSecret", "TunnelID", "TunnelName"}
    assert document["TunnelName"] == "ssh-pool"
    file = {key: value for key, value in document.items() if key != "TunnelName"}
    assert TunnelCredentials.from_file_json(json.dumps(file)).secret == SECRET
    derived = {key: value for key, value in credentials(tunnel).items() if key != "TunnelName"}
    parsed = TunnelCredentials.from_file_json(json.dumps(derived))
    assert parsed.secret == token_secret(tunnel.pk, 1)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "x" * 101,
        "a\nb",
        "a\x1b[1m",
        "2f829629-ce7f-4d14-8569-cee157f20ebc",
        "ee82087624654611bf2179ca3b3414b6",
    ],
)
def test_names_that_are_refused(cast: Cast, alice: Actor, name: str) -> None:
    with pytest.raises(InvalidInput):
        create_tunnel(cast.widgetcorp, name=name, secret=None, actor=alice)
    assert not Tunnel.objects.exists()


@pytest.mark.parametrize("size", [0, 31, 513])
def test_secrets_that_are_refused(cast: Cast, alice: Actor, size: int) -> None:
    with pytest.raises(InvalidInput):
        create_tunnel(cast.widgetcorp, name="x", secret=b"s" * size, actor=alice)


def test_unknown_config_source_is_refused(cast: Cast, alice: Actor) -> None:
    with pytest.raises(InvalidInput):
        create_tunnel(cast.widgetcorp, name="x", secret=None, config_source="remote", actor=alice)


def test_names_are_unique_among_live_tunnels_of_one_organization(cast: Cast, alice: Actor, tunnel: Tunnel) -> None:
    with pytest.raises(Conflict):
        make_tunnel(cast.widgetcorp, cast.alice)
    other = make_tunnel(cast.widgetcorp, cast.alice, "other")
    with pytest.raises(Conflict):
        rename_tunnel(other, name="ssh-pool", actor=alice)
    make_tunnel(cast.evilcorp, cast.mallory)
    delete_tunnel(tunnel, cascade=False, actor=alice)
    assert rename_tunnel(other, name="ssh-pool", actor=alice).name == "ssh-pool"
    assert AuditEvent.objects.latest("id").old == {"name": "other"}


def test_rotation_ends_every_earlier_secret(tunnel: Tunnel, alice: Actor) -> None:
    old = set(accepted(tunnel))
    rotated = rotate_tunnel_token(tunnel, cut=False, actor=alice)
    new = accepted(rotated)
    assert len(new) == 1
    assert not old & set(new)
    assert sha256(TunnelCredentials.from_token(tunnel_token(rotated)).secret) == new[0]
    assert load_snapshot()["tunnels"][0]["min_registered_at"] == 0.0

    cut = rotate_tunnel_token(tunnel, cut=True, actor=alice)
    assert cut.token_generation == 3
    assert cut.reconnect_after is not None
    assert load_snapshot()["tunnels"][0]["min_registered_at"] == cut.reconnect_after.timestamp()
    assert events_of(tunnel.organization).count("tunnels.tunnel.token_rotated") == 2

    # A clock that was set back must not make the next cut invisible to edges.
    Tunnel.objects.all_organizations(reason="test").update(reconnect_after=timezone.now() + timedelta(hours=1))
    before = load_snapshot()["tunnels"][0]["min_registered_at"]
    rotate_tunnel_token(tunnel, cut=True, actor=alice)
    assert load_snapshot()["tunnels"][0]["min_registered_at"] > before


def test_replace_tunnel_secret(tunnel: Tunnel, alice: Actor) -> None:
    old = set(accepted(tunnel))
    replaced = replace_tunnel_secret(tunnel, secret=b"n" * 32, actor=alice)
    assert sha256(b"n" * 32) in accepted(replaced)
    assert not old & set(accepted(replaced))


def test_a_deleted_tunnel_is_gone_for_every_action(tunnel: Tunnel, alice: Actor) -> None:
    before = edge_version()
    delete_tunnel(tunnel, cascade=False, actor=alice)
    assert edge_version() > before
    assert load_snapshot()["tunnels"] == []
    for action in (
        lambda: delete_tunnel(tunnel, cascade=True, actor=alice),
        lambda: rename_tunnel(tunnel, name="x", actor=alice),
        lambda: rotate_tunnel_token(tunnel, cut=True, actor=alice),
        lambda: publish_configuration(tunnel, config=CONFIG, actor=alice),
    ):
        with pytest.raises(NotFound):
            action()


def test_publish_configuration(tunnel: Tunnel, alice: Actor) -> None:
    assert current_configuration(tunnel) is None
    first = publish_configuration(tunnel, config=CONFIG, actor=alice)
    second = publish_configuration(tunnel, config={"ingress": [{"service": "http_status:503"}]}, actor=alice)
    assert (first.version, second.version, second.source) == (1, 2, "cloudflare")
    assert current_configuration(tunnel) == second
    tunnel.refresh_from_db()
    assert tunnel.config_source == "cloudflare", "a published configuration makes the tunnel a remote one"
    row = load_snapshot()["tunnels"][0]
    assert (row["remote"], row["config_version"], row["config"]) == (True, 2, second.config)
    event = AuditEvent.objects.latest("id")
    assert (event.name, event.old, event.new) == (
        "tunnels.configuration.published", {"version": 1}, {"version": 2, "rules": 1},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"ingress": [{"hostname": "a.b", "service": "ssh://h:22"}]}, "last"),
        ({"ingress": [{"service": "ssh://h:22"}, {"service": "http_status:404"}]}, "rule 1"),
        ({"ingress": [{"service": "nonsense"}]}, "nonsense"),
        ({"ingress": [{"service": "http_status:9999"}]}, "http_status"),
        ({"ingress": "x"}, "list"),
        ({"ingress": [{"service": "hello_world"}], "originRequest": {"connectTimeout": "10s"}}, "integer"),
        ({"ingress": [{"service": "hello_world"}], "note": "x" * 300_000}, "bytes"),
        ({"ingress": [{"service": "hello_world"}], "note": b"bytes"}, "JSON"),
    ],
)
def test_a_configuration_connectors_would_refuse_is_refused_here(
    tunnel: Tunnel, alice: Actor, config: dict[str, Any], fault: str
) -> None:
    before = edge_version()
    with pytest.raises(InvalidInput) as refused:
        publish_configuration(tunnel, config=config, actor=alice)
    assert fault in refused.value.message
    assert not TunnelConfiguration.objects.exists()
    assert edge_version() == before


@pytest.mark.django_db(transaction=True)
def test_configurations_published_in_parallel_get_versions_of_their_own() -> None:
    cast = make_cast()
    tunnel = make_tunnel(cast.widgetcorp, cast.alice)
    barrier = threading.Barrier(6)
    faults: list[Exception] = []

    def publish() -> None:
        try:
            barrier.wait(timeout=10)
            publish_configuration(tunnel, config=CONFIG, actor=actor_of(cast.alice))
        except Exception as error:  # noqa: BLE001 - the assertion below shows it
            faults.append(error)
        finally:
            db_connection.close()

    threads = [threading.Thread(target=publish) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert faults == []
    assert sorted(TunnelConfiguration.objects.values_list("version", flat=True)) == [1, 2, 3, 4, 5, 6]
    assert AuditEvent.objects.filter(name="tunnels.configuration.published").count() == 6
