"""Takes the pictures of docs/screenshots/: a filled installation, each dashboard page, light, dark and phone.

`python -m tools.screenshots [FOLDER]`; prints every page with its status and whatever the browser complained about.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page

from demo.first_login import HOSTNAME, build_application, create_tunnel, identity_provider, operator_cli, run_tunnel
from demo.installation import Installation, installation
from demo.person import Person
from demo.sshd import sshd
from tools.chromium import chromium
from tools.services import free_port

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_MAX_PAGES = 60


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sallyport-pictures-") as directory, contextlib.ExitStack() as stack:
        here = fill(Path(directory), stack)
        with chromium() as browser:
            complaints = photograph(browser, here, folder)
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
    return here


def photograph(browser: Browser, here: Installation, folder: Path) -> list[str]:
    complaints: list[str] = []
    names: dict[str, str] = {}
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", PHONE)):
        context = browser.new_context(color_scheme=scheme, viewport=size, ignore_https_errors=True)  # type: ignore[arg-type]
        page = context.new_page()
        listen(page, complaints)
        sign_in(page, here)
        suffix = "phone" if size is PHONE else scheme
        for address in names or collect(page, here, names):
            answer = page.goto(address)
            if answer is None or answer.status != 200:
                complaints.append(f"{address}: {answer.status if answer else 'no answer'}")
            page.screenshot(path=str(folder / f"{names[address]}-{suffix}.png"), full_page=True)
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
                complaints.append(f"{address} scrolls sideways ({suffix})")
        context.close()
    return complaints


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
    queue = [page.url]
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
            if "logout" not in link and not link.endswith((".pub", ".pem"))  # downloads are no pages
        ]
    return names


if __name__ == "__main__":
    sys.exit(main())
