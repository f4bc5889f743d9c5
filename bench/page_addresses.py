"""What bench.pages asks for: every page of the dashboard, the pages of the people who log in, and the API's lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

Ask = Callable[[], Any]
HOST = "testserver"
SEARCHES = (
    ("access_log", "q=lena.fischer"),
    ("access_log", "q=no-such-thing"),
    ("access_log", "decision=denied"),
    ("access_log", "page=400"),
    ("certificates", "q=user00042"),
    ("certificates", "q=no-such-thing"),
    ("certificates", "state=revoked"),
    ("audit_log", "q=no-such-thing"),
    ("audit_log", "area=access.policy"),
    ("applications", "q=payments"),
    ("applications", "page=30"),
    ("users", "q=karim"),
    ("users", "page=150"),
)


@dataclass(frozen=True)
class Page:
    name: str
    address: str
    ask: Ask
    # Denials answer 403; everything else that is not 200 is a fault of the benchmark or of the page.
    status: int = 200


def all_pages(organization: Any) -> Iterator[Page]:
    """Inside a transaction that is rolled back: one of everything is made beside the load."""
    from tests.world import make_world

    organization.identity_providers.filter(name="One-time PIN").update(name="PIN of the load")
    world = make_world(organization, domain="world.load.test")
    _as_if_running(organization)
    yield from anchors(organization)
    yield from _dashboard(organization, world)
    yield from _api(organization, world)
    yield from _public(organization)
    yield from anchors(organization)  # again: the machine may have been busier at the start


def _as_if_running(organization: Any) -> None:
    """Edges that report, and the samples of the last month: Home and the tunnels' pages then show what they have to
    show every day."""
    from django.utils import timezone

    from tunnels.models import Connection, Connector, Edge, HourOfActivity

    later = timezone.now() + timedelta(hours=1)
    Connection.objects.filter(organization=organization, connector__tunnel__name__startswith="tunnel ").update(
        last_seen_at=later
    )
    Connector.objects.filter(organization=organization).update(last_seen_at=later)
    Edge.objects.update(last_seen_at=later)
    hours = HourOfActivity.objects.filter(organization=organization)
    hours.update(samples=12, tunnels_seen=2400, tunnels_up=2350, sessions_peak=4000)


def anchors(organization: Any) -> Iterator[Page]:
    """/healthz: one SELECT 1 without session and template. The frame: a list with nothing in it."""
    from django.urls import reverse

    client = _owner()
    yield Page("anchor: healthz", "/healthz", lambda: client.get("/healthz"))
    frame = reverse("application_drafts", args=[organization.team_name])
    yield Page("anchor: frame", frame, lambda: client.get(frame))


def _owner() -> Any:
    from django.test import Client

    from accounts.models import User

    client = Client(headers={"host": HOST})
    client.force_login(User.objects.get(email="owner@load.test"))
    return client


# --- The dashboard -----------------------------------------------------------------------------------------------
def _dashboard(organization: Any, world: Any) -> Iterator[Page]:
    client = _owner()
    for name, address in _addresses(organization, world):
        yield Page(name, address, lambda address=address: client.get(address))


def _addresses(organization: Any, world: Any) -> Iterator[tuple[str, str]]:
    """Each page twice where it has arguments: of an object made just now, and of the busiest one of its kind."""
    from django.urls import reverse

    from tests.test_every_url import team_routes

    arguments, busiest = world.url_arguments(), _busiest(organization)
    busy = {**arguments, **busiest}
    for route in team_routes():
        names = [part.partition(":")[2] for part in route.path.replace(">", "<").split("<") if ":" in part]
        values = {name: arguments[name] for name in names}
        if "token_id" in values and str(route.name).startswith("api_token"):
            values["token_id"] = world.api_token.pk
        if route.name in {"policy_edit", "policy_delete"}:
            values["policy_id"] = world.reusable.pk
        yield str(route.name), reverse(str(route.name), kwargs=values)
        if len(names) == 2 and names[1] in busiest:
            yield f"{route.name} (busiest)", reverse(str(route.name), kwargs={n: busy[n] for n in names})
    for name, query in SEARCHES:
        yield f"{name} ?{query}", f"{reverse(name, args=[organization.team_name])}?{query}"


def _busiest(organization: Any) -> dict[str, Any]:
    from access.models import Application, Group
    from accounts.models import Identity
    from tunnels.models import Tunnel, Zone

    return {
        "application_id": Application.objects.filter(organization=organization).order_by("-created_at")[1].pk,
        "identity_id": Identity.objects.filter(organization=organization).order_by("email").first().pk,
        "group_id": Group.objects.filter(organization=organization).order_by("-name").first().pk,
        "tunnel_id": Tunnel.objects.filter(organization=organization).order_by("name").last().pk,
        "zone_id": Zone.objects.filter(organization=organization).order_by("name").last().pk,
    }


# --- The API -----------------------------------------------------------------------------------------------------
def _api(organization: Any, world: Any) -> Iterator[Page]:
    """Every list of /client/v4 that needs nothing but the organization, and the records of one zone."""
    from django.test import Client

    from access.models import ClientAuthority
    from controlplane.api import api
    from tests.controlplane.api_kit import make_api

    ClientAuthority.objects.filter(organization=organization).delete()  # the world's certificate is none

    headers = {"host": HOST, "authorization": f"Bearer {make_api(organization).token}"}
    client = Client(headers=headers)
    zone = _busiest(organization)["zone_id"]
    known = {"{account_id}": organization.pk, "{zone_id}": zone}
    for operation in api.operations():
        if operation.method != "GET" or operation.path.endswith("}") or operation.path.startswith("/zones/{zone_id}/a"):
            continue
        path = "/client/v4" + operation.path
        for name, value in known.items():
            path = path.replace(name, str(value))
        if "{" not in path:
            yield Page(f"api {operation.path}", path, lambda path=path: client.get(path))


# --- The pages of those who log in ---------------------------------------------------------------------------------
def _public(organization: Any) -> Iterator[Page]:
    from django.utils import timezone

    from access.decisions import decide
    from access.facts import Asker
    from access.login_links import login_url
    from access.models import Application, TokenKey
    from access.tokens import mint_organization_token
    from accounts.models import AccessSession
    from dataplane.wire.names import COOKIE_AUTH
    from tests.access.edge_client import EdgeBrowser

    TokenKey.objects.filter(organization=organization).delete()  # the world's is no key
    now = timezone.now()
    visitor, person = EdgeBrowser(), EdgeBrowser()
    host = organization.team_domain
    session = AccessSession.objects.filter(organization=organization, expires_at__gt=now, identity__disabled_at=None)
    session = session.select_related("identity", "organization").order_by("identity__email")[0]
    person.set_cookie(host, COOKIE_AUTH, mint_organization_token(session, now=now))
    asker = Asker("203.0.113.7", now, session)
    newest = (
        Application.objects.filter(organization=organization).select_related("organization").order_by("-created_at")
    )
    application = next(row for row in newest[1:] if not decide(row, asker).allowed)
    login = login_url(application, hostname=application.hostname, redirect_path="/", app_session="x" * 40)
    for name, browser, address, status in (
        ("public login", visitor, f"https://{host}/", 200),
        ("public login to an application", visitor, login, 200),
        ("public denied", person, login, 403),
        ("public launcher", person, f"https://{host}/", 200),
        ("public launcher ?q=payments", person, f"https://{host}/?q=payments", 200),
        ("public my account", person, f"https://{host}/account", 200),
        ("public second factors", person, f"https://{host}/cdn-cgi/access/account", 200),
        ("public who am I", person, f"https://{host}/cdn-cgi/access/get-identity", 200),
        ("public not found", visitor, f"https://{host}/no-such-page", 404),
        ("public keys", visitor, f"https://{host}/cdn-cgi/access/certs", 200),
    ):
        parts = urlsplit(address)
        yield Page(name, parts.path, lambda browser=browser, address=address: browser.get(address), status)
