"""Takes the pictures of docs/screenshots/: a filled installation, each section of the dashboard and the pages of
end users, in light and dark, on a desktop and on a phone.

`python -m tools.screenshots [FOLDER]`; visits every page it finds a link to and prints its status and whatever the
browser complained about; PICTURES says which of them are kept, in which forms.
"""

from __future__ import annotations

import base64
import contextlib
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from nacl.public import PrivateKey
from playwright.sync_api import Browser, ConsoleMessage, Page

from demo.first_login import HOSTNAME, build_application, create_tunnel, identity_provider, operator_cli, run_tunnel
from demo.installation import Installation, installation
from demo.person import Person
from demo.sshd import sshd
from tools.chromium import chromium
from tools.services import free_port

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
FORMS = {"light": ("light", WIDE), "dark": ("dark", WIDE), "phone": ("light", PHONE), "phone-dark": ("dark", PHONE)}
_MAX_PAGES = 150
_MAX_HEIGHT = 980  # pixels, except for Home; the folder stays below 6 MB, and what follows is more of the same
_DOWNLOADS = (".pub", ".pem", ".sh", ".csv", ".json")  # no pages

# Which pages are kept, and in which forms: each section in light, one page of each section also in the others.
PICTURES = {
    "home": ("light", "dark", "phone", "phone-dark"),
    "access-applications": ("light", "phone"),
    "access-applications-add": ("light",),
    "access-applications-id": ("light",),
    "access-applications-id-way-in": ("light", "dark", "phone"),
    "access-applications-id-policies": ("light",),
    "access-applications-id-policies-id-edit": ("light",),
    "access-groups": ("light",),
    "access-policies": ("light",),
    "access-service-auth": ("light",),
    "access-service-auth-ssh": ("light",),
    "access-service-auth-ssh-id": ("light",),
    "tunnels": ("light",),
    "tunnels-id": ("light", "dark", "phone"),
    "tunnels-id-hostnames": ("light",),
    "dns-id": ("light", "dark", "phone"),
    "team-users-id": ("light", "phone"),
    "team-members": ("light", "dark"),
    "access-lists": ("light",),
    "access-log": ("light", "phone"),
    "access-log-id": ("light", "dark"),
    "access-certificates": ("light",),
    "logs-audit": ("light",),
    "settings-login-page": ("light", "dark"),
    "settings-organization": ("light", "phone"),
    "settings-api-tokens": ("light",),
    "people-login": ("light", "dark", "phone"),
    "people-approve": ("light", "phone"),
    "people-start": ("light", "dark", "phone"),
    "people-account": ("light",),
    "people-denied": ("light", "phone"),
}
_ORGANIZATION = "/accounts/{account}"


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sallyport-pictures-") as directory, contextlib.ExitStack() as stack:
        here = fill(Path(directory), stack)
        with chromium() as browser:
            complaints = photograph(browser, here, folder)
            complaints += photograph_people(browser, here, folder)
    complaints += [f"{name} was not found" for name in PICTURES if not (folder / f"{name}-light.png").exists()]
    print("\n".join(complaints) or "no complaints from the browser")
    return 1 if complaints else 0


def fill(base: Path, stack: contextlib.ExitStack) -> Installation:
    """The tutorial done once, by API and command line, so that pages have something to show."""
    port = free_port()
    issuer = stack.enter_context(identity_provider(port))
    here = stack.enter_context(installation(base / "var", FETCH_ALLOWED_PRIVATE_HOSTS=f"127.0.0.1:{port}"))
    server = stack.enter_context(sshd(base / "sshd", principals=["alice"]))
    application = build_application(here, issuer, [f"127.0.0.1:{server.port}"])
    operator = Person.at("operator", base, here)
    tunnel_id = create_tunnel(operator)
    stack.enter_context(run_tunnel(operator, tunnel_id))
    operator_cli(operator, "tunnel", "route", "dns", "ssh-pool", HOSTNAME)
    authority = here.api("POST", f"/accounts/{{account}}/access/apps/{application['id']}/ca")
    server.ca_file.write_text(authority["public_key"] + "\n", encoding="utf-8")
    for name in ("alice", "carol"):
        person = Person.at(name, base, here)
        person.configure(HOSTNAME)
        person.ssh(f"{server.account}@{HOSTNAME}", "true")
    furnish(here)
    return here


def furnish(here: Installation) -> None:
    """What an organization has after some weeks: further applications, a shared policy, machines, lists, tags."""
    here.api("POST", f"{_ORGANIZATION}/access/tags", {"name": "production"})
    offices = {"name": "Offices", "type": "IP", "items": [{"value": "198.51.100.0/24", "description": "Lisbon"}]}
    here.api("POST", f"{_ORGANIZATION}/gateway/lists", offices)
    token = here.api("POST", f"{_ORGANIZATION}/access/service_tokens", {"name": "ansible"})
    here.api("POST", "/accounts/{account}/cfd_tunnel", {"name": "database-hosts", "config_src": "cloudflare"})
    own = {"name": "Deployment", "decision": "non_identity", "include": [{"service_token": {"token_id": token["id"]}}]}
    team = {"name": "Widget team", "decision": "allow", "include": [{"email_domain": {"domain": "widgetcorp.test"}}]}
    domain = here.facts["zone"]
    for name, label, policies in (("Build hosts", "build", [team, own]), ("Database hosts", "db", [team])):
        body = {"type": "self_hosted", "name": name, "domain": f"{label}.{domain}", "tags": ["production"]}
        ordered = [{**policy, "precedence": place} for place, policy in enumerate(policies, 1)]
        made = here.api("POST", f"{_ORGANIZATION}/access/apps", {**body, "policies": ordered})
    policy = made["policies"][0]["id"]
    here.api("PUT", f"{_ORGANIZATION}/access/apps/{made['id']}/policies/{policy}/make_reusable", {})


def photograph(browser: Browser, here: Installation, folder: Path) -> list[str]:
    complaints: list[str] = []
    names: dict[str, str] = {}
    for form, (scheme, size) in FORMS.items():
        context = browser.new_context(color_scheme=scheme, viewport=size, ignore_https_errors=True)  # type: ignore[arg-type]
        page = context.new_page()
        listen(page, complaints)
        sign_in(page, here)
        for address in names or collect(page, here, names):
            if form not in PICTURES.get(names[address], ()):
                continue
            answer = page.goto(address)
            if answer is None or answer.status != 200:
                complaints.append(f"{address}: {answer.status if answer else 'no answer'}")
            keep(page, folder, names[address], form, complaints)
        context.close()
    return complaints


def photograph_people(browser: Browser, here: Installation, folder: Path) -> list[str]:
    """What people see who are no members: login, start page, account, the question of the client, a refusal."""
    complaints: list[str] = []
    port = urlsplit(here.facts["edge_url"]).port
    start = f"https://{here.facts['team_domain']}:{port}/"
    key = base64.urlsafe_b64encode(bytes(PrivateKey.generate().public_key)).decode()
    client = f"https://{HOSTNAME}:{port}/cdn-cgi/access/cli?{urlencode({'send_org_token': 'true', 'token': key})}"
    for form, (scheme, size) in FORMS.items():
        for person, pages in (
            ("alice", {"people-start": start, "people-account": f"{start}account", "people-approve": client}),
            ("carol", {"people-denied": client}),
        ):
            context = browser.new_context(color_scheme=scheme, viewport=size, ignore_https_errors=True)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(start)
            keep(page, folder, "people-login", form, complaints)
            log_in(page, person)
            for name, address in pages.items():
                page.goto(address)
                keep(page, folder, name, form, complaints)
            context.close()
    return complaints


def log_in(page: Page, person: str) -> None:
    """At the organization's login page, by the identity provider of the demo."""
    page.get_by_role("link", name="Demo IdP").or_(page.get_by_role("button", name="Demo IdP")).click()
    page.get_by_label("User name").fill(person)
    page.get_by_role("button", name="Log in").first.click()
    page.wait_for_url("https://**/")


def keep(page: Page, folder: Path, name: str, form: str, complaints: list[str]) -> None:
    if form not in PICTURES[name]:
        return
    height = page.evaluate("document.documentElement.scrollHeight")
    height = height if name == "home" else min(height, _MAX_HEIGHT)
    area = {"x": 0.0, "y": 0.0, "width": float(FORMS[form][1]["width"]), "height": float(height)}
    page.screenshot(path=str(folder / f"{name}-{form}.png"), full_page=True, clip=area)  # type: ignore[arg-type]
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
        complaints.append(f"{name} scrolls sideways ({form})")


def listen(page: Page, complaints: list[str]) -> None:
    """Collect what the browser finds wrong: refused scripts and styles (CSP), missing files, exceptions."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"{message.location.get('url', '')}: {message.text}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))


def sign_in(page: Page, here: Installation) -> None:
    page.goto(here.facts["dashboard_url"])
    page.get_by_label(re.compile("e-?mail", re.IGNORECASE)).first.fill(here.facts["admin_email"])
    page.locator("input[type=password]").fill(here.facts["admin_password"])
    page.locator("input[type=password]").press("Enter")
    page.wait_for_url("**/o/**")


def collect(page: Page, here: Installation, names: dict[str, str]) -> dict[str, str]:
    """Every page reachable by links inside the organization, one per kind (ids and query strings cut off)."""
    kinds: set[str] = set()
    working = here.api("GET", f"{_ORGANIZATION}/access/apps?domain={HOSTNAME}")[0]["id"]  # shown before the others
    first = f"{page.url}access/applications/{working}/"
    queue = [page.url, first, f"{first}way-in/", f"{first}policies/"]
    while queue and len(names) < _MAX_PAGES:
        address = queue.pop(0)
        path = urlsplit(address).path
        kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|\b\d+\b", "id", path)
        if kind in kinds or not path.startswith("/o/"):
            continue
        answer = page.goto(address)
        if answer is None or "text/html" not in answer.headers.get("content-type", ""):
            continue
        kinds.add(kind)
        parts = [part for part in kind.split("/")[3:] if part]
        names[address] = "-".join(parts) or "home"
        print(answer.status, kind, flush=True)
        links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        queue += [
            link.split("#")[0].split("?")[0]
            for link in links
            if "logout" not in link and not link.split("?")[0].endswith(_DOWNLOADS)
        ]
    return names


if __name__ == "__main__":
    sys.exit(main())
