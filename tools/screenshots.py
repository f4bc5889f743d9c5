"""Takes the pictures of docs/screenshots/: a filled installation, each section of the dashboard and the pages of
end users, in light and dark, on a desktop and on a phone.

`python -m tools.screenshots` renews the kept set: PICTURES says which pages, in which forms. To look at the rest,
`python -m tools.screenshots --all --only '^tunnels' --forms light,phone-dark FOLDER`: every page a link leads to and
every scene of tools/scenes.py. With `--again`, each line on standard input takes them once more, with the templates
and styles as they are then; the line is the new filter. Prints whatever the browser complained about.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page

from demo.first_login import (
    HOSTNAME,
    build_application,
    create_tunnel,
    identity_provider,
    operator_cli,
    run_tunnel,
    wait_until,
)
from demo.installation import Installation, installation
from demo.person import Person
from demo.sshd import sshd
from tools.chromium import chromium
from tools.other_pages import add_questions, of_dashboard, of_people
from tools.scenes import SCENES
from tools.services import free_port

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 780}
FORMS = {
    "light": ("light", WIDE),
    "dark": ("dark", WIDE),
    "phone": ("light", PHONE),
    "phone-dark": ("dark", PHONE),
    "huge": ("light", {"width": 3840, "height": 2160}),
}
_MAX_PAGES = 150
_KEPT_HEIGHT, _MAX_HEIGHT = 980, 6000  # pixels; the kept folder stays small: what follows is more of the same
_DOWNLOADS = (".pub", ".pem", ".sh", ".csv", ".json")  # no pages

# Which pages are kept, and in which forms: each section in light, one page of each section also in the others.
PICTURES = {
    "home": ("light", "dark", "phone", "phone-dark"),
    "home-next-steps": ("light", "phone"),
    "access-applications": ("light", "dark", "phone"),
    "access-applications-add": ("light",),
    "access-applications-id": ("light",),
    "access-applications-id-way-in": ("light", "dark", "phone"),
    "access-applications-id-policies": ("light",),
    "access-applications-id-policies-id-edit": ("light", "dark", "phone"),
    "access-groups": ("light", "dark"),
    "access-policies": ("light",),
    "access-service-auth": ("light", "phone"),
    "access-service-auth-ssh": ("light",),
    "access-service-auth-ssh-id": ("light", "phone"),
    "tunnels": ("light", "dark", "phone"),
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
    "people-authenticators": ("light",),
    "edge-no-route": ("light",),
    "entrance-sign-in": ("light", "dark"),
    "account-two-factor": ("light",),
    "staff-organization": ("light",),
    "staff-jobs": ("light",),
    "settings-login-methods": ("light",),
}
_ORGANIZATION = "/accounts/{account}"
# What tools.screenshot_rows printed: the password of its accounts, and ids.
Rows = dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """Which pictures to take, and where they go."""

    folder: Path
    forms: tuple[str, ...]
    only: str  # a regular expression searched in the page's name
    everything: bool  # or what PICTURES keeps

    def includes(self, name: str, form: str) -> bool:
        kept = self.everything or form in PICTURES.get(name, ())
        return kept and form in self.forms and re.search(self.only, name) is not None

    def height(self, name: str) -> int:
        return _MAX_HEIGHT if self.everything or name == "home" else _KEPT_HEIGHT


def main() -> int:
    options = _options()
    wanted = Wanted(options.folder, tuple(options.forms.split(",")), options.only, options.all)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="sallyport-pictures-") as directory, contextlib.ExitStack() as stack:
        here, rows = fill(Path(directory), stack)
        browser = stack.enter_context(chromium())
        complaints = take(browser, here, wanted, names, rows)
        for line in sys.stdin if options.again else ():
            reload_pages(here)
            wanted = replace(wanted, only=line.strip())
            complaints = take(browser, here, wanted, names, rows)
    return 1 if complaints else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Take pictures of a filled demo installation.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/screenshots"))
    parser.add_argument("--all", action="store_true", help="every page and scene, not only those that are kept")
    parser.add_argument("--only", default="", metavar="REGEX", help="only pages whose name it is found in")
    parser.add_argument("--forms", default=",".join(FORMS), help="of %(default)s; the default is all of them")
    parser.add_argument("--again", action="store_true", help="once more for each line read, which is the next --only")
    options = parser.parse_args()
    if options.all and options.folder == Path("docs/screenshots"):
        parser.error("--all needs a folder of its own")
    return options


def take(browser: Browser, here: Installation, wanted: Wanted, names: dict[str, str], rows: Rows) -> list[str]:
    complaints = photograph(browser, here, wanted, names) + photograph_others(browser, here, wanted, rows)
    others = [pages.keys() for pages in (*of_dashboard(here, rows).values(), *of_people(here).values())]
    known = {*names.values(), *SCENES, *(name for pages in others for name in pages)}
    unknown = [name for name in PICTURES if name not in known]
    complaints += [f"{name} was not found" for name in unknown]
    print("\n".join(complaints) or "no complaints from the browser", flush=True)
    return complaints


def reload_pages(here: Installation) -> None:
    """Templates and styles are read once, at the start of the web server's worker: have it start a new one."""
    web = ["pgrep", "--parent", str(here.process.pid), "--full", "granian"]
    server = int(subprocess.run(web, capture_output=True, text=True, check=True).stdout.split()[0])
    workers = _children(server)
    os.kill(server, signal.SIGHUP)
    wait_until(lambda: _children(server).isdisjoint(workers), "a new worker", 60)
    wait_until(lambda: _answers(here), "its first answer", 60)


def _children(process: int) -> set[str]:
    listed = subprocess.run(["pgrep", "--parent", str(process)], capture_output=True, text=True, check=False)
    return set(listed.stdout.split())


def _answers(here: Installation) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{here.facts['dashboard_url']}/healthz", timeout=5):
        return True
    return False


def fill(base: Path, stack: contextlib.ExitStack) -> tuple[Installation, Rows]:
    """The tutorial done once, by API and command line, so that pages have something to show."""
    port = free_port()
    issuer = stack.enter_context(identity_provider(port))
    here = stack.enter_context(
        installation(base / "var", FETCH_ALLOWED_PRIVATE_HOSTS=f"127.0.0.1:{port}", STAFF_REQUIRES_MFA="false")
    )
    server = stack.enter_context(sshd(base / "sshd", principals=["alice"]))
    application = build_application(here, issuer, [f"127.0.0.1:{server.port}"])
    operator = Person.at("operator", base, here)
    tunnel_id = create_tunnel(operator)
    stack.enter_context(run_tunnel(operator, tunnel_id))
    operator_cli(operator, "tunnel", "route", "dns", "ssh-pool", HOSTNAME)
    authority = here.api("POST", f"/accounts/{{account}}/access/apps/{application['id']}/ca")
    server.ca_file.write_text(authority["public_key"] + "\n", encoding="utf-8")
    here.manage("seed_activity", "widgetcorp")
    for name in ("alice", "carol"):
        person = Person.at(name, base, here)
        person.configure(HOSTNAME)
        person.ssh(f"{server.account}@{HOSTNAME}", "true")
    furnish(here)
    add_questions(here)
    rows: Rows = json.loads(here.manage("shell", "-v0", "-c", "from tools.screenshot_rows import add; add()"))
    return here, rows


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


def photograph(browser: Browser, here: Installation, wanted: Wanted, names: dict[str, str]) -> list[str]:
    """Pages of the dashboard; `names` (name by address) is filled the first time."""
    complaints: list[str] = []
    for form in wanted.forms:
        with window(browser, form, complaints) as page:
            sign_in(page, here)
            home = page.url
            for address, name in (names or collect(page, here, names)).items():
                if not wanted.includes(name, form):
                    continue
                answer = page.goto(address)
                if answer is None or answer.status != 200:
                    complaints.append(f"{address}: {answer.status if answer else 'no answer'}")
                keep(page, wanted, name, form, complaints)
            for name, scene in SCENES.items():
                if wanted.includes(name, form):
                    page.goto(home)
                    scene(page, home)
                    keep(page, wanted, name, form, complaints)
    return complaints


@contextlib.contextmanager
def window(browser: Browser, form: str, complaints: list[str]) -> Iterator[Page]:
    scheme, size = FORMS[form]
    context = browser.new_context(color_scheme=scheme, viewport=size, ignore_https_errors=True)  # type: ignore[arg-type]
    page = context.new_page()
    listen(page, complaints)
    yield page
    context.close()


def photograph_others(browser: Browser, here: Installation, wanted: Wanted, rows: Rows) -> list[str]:
    """Pages beside the organization's own, each by who may see it (tools/other_pages.py). A refusal is an error to the
    browser's console: nothing of it counts here."""
    complaints: list[str] = []
    for form in wanted.forms:
        for email, pages in of_dashboard(here, rows).items():
            if any(wanted.includes(name, form) for name in pages):
                with window(browser, form, []) as page:
                    if email:
                        sign_in(page, here, *(() if email == "owner" else (email, rows["password"])))
                    for name, path in pages.items():
                        visit(page, wanted, name, form, f"{here.facts['dashboard_url']}/{path}", complaints)
        for person, pages in of_people(here).items():
            if any(wanted.includes(name, form) for name in pages):
                with window(browser, form, []) as page:
                    if person:
                        page.goto(of_people(here)[""]["people-login"])
                        log_in(page, person)
                    for name, address in pages.items():
                        visit(page, wanted, name, form, address, complaints)
    return complaints


def visit(page: Page, wanted: Wanted, name: str, form: str, address: str, complaints: list[str]) -> None:
    if wanted.includes(name, form):
        page.goto(address)
        keep(page, wanted, name, form, complaints)


def log_in(page: Page, person: str) -> None:
    """At the organization's login page, by the identity provider of the demo."""
    page.get_by_role("link", name="Demo IdP").or_(page.get_by_role("button", name="Demo IdP")).click()
    page.get_by_label("User name").fill(person)
    page.get_by_role("button", name="Log in").first.click()
    page.wait_for_url("https://**/")


def keep(page: Page, wanted: Wanted, name: str, form: str, complaints: list[str]) -> None:
    if not wanted.includes(name, form):
        return
    size = FORMS[form][1]
    tall: int = page.evaluate("document.documentElement.scrollHeight")
    area = {"x": 0.0, "y": 0.0, "width": float(size["width"]), "height": float(min(tall, wanted.height(name)))}
    page.screenshot(path=str(wanted.folder / f"{name}-{form}.png"), full_page=True, clip=area)  # type: ignore[arg-type]
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
        complaints.append(f"{name} scrolls sideways ({form})")


def listen(page: Page, complaints: list[str]) -> None:
    """Collect what the browser finds wrong: refused scripts and styles (CSP), missing files, exceptions."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 422" not in message.text:  # a form with faults is one
            complaints.append(f"{message.location.get('url', '')}: {message.text}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))


def sign_in(page: Page, here: Installation, email: str = "", password: str = "") -> None:
    """As the owner, or as somebody else."""
    page.goto(f"{here.facts['dashboard_url']}/accounts/login/")
    page.get_by_label("E-mail").fill(email or here.facts["admin_email"])
    page.locator("input[type=password]").fill(password or here.facts["admin_password"])
    page.locator("input[type=password]").press("Enter")
    page.wait_for_url(lambda address: "/accounts/login/" not in address)


def collect(page: Page, here: Installation, names: dict[str, str]) -> dict[str, str]:
    """Every page reachable by links inside the organization, one per kind (ids and query strings cut off)."""
    kinds: set[str] = set()
    working = here.api("GET", f"{_ORGANIZATION}/access/apps?domain={HOSTNAME}")[0]["id"]  # shown before the others
    home, first = urlsplit(page.url).path, f"{page.url}access/applications/{working}/"
    queue = [f"{page.url}?application={working}", first, f"{first}way-in/", f"{first}policies/"]
    while queue and len(names) < _MAX_PAGES:
        address = queue.pop(0)
        path = urlsplit(address).path
        kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|\b\d+\b", "id", path)
        if kind in kinds or not path.startswith(home):
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
