"""The README's tutorial as a person does it: every dashboard step in Chromium, stock ssh into a stock sshd.

No page may bring an error to the browser's console: a blocked script or style (CSP), a missing file, an exception.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from demo.first_login import HOSTNAME, create_tunnel, run_tunnel, wait_until
from demo.installation import Installation
from demo.person import Person
from demo.sshd import Sshd, sshd
from tests.axe import violations
from tests.shared_browser import PATIENCE_MS
from tools.services import free_port

pytestmark = pytest.mark.integration
PAT = "pat@example.test"


@dataclass
class Desk:
    """Somebody at a browser: new pages, and what their console complained about."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def context(self) -> BrowserContext:
        # The edge's authority is private to this installation; the README says the browser warns.
        context = self.browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE_MS)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        return context

    def _console(self, message: ConsoleMessage) -> None:
        refused_form = "status of 422" in message.text
        if message.type in {"error", "warning"} and not refused_form:
            self.complaints.append(f"{message.location.get('url')}: {message.text}")


@dataclass
class Terminal:
    """A laptop whose browser hand-over is a file, so that Chromium can open what the client asks for."""

    person: Person
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
        handover = shlex.join([sys.executable, "-c", code, str(self.home / "url")])
        return {**self.person.environment, "BROWSER": handover}

    def start(self, *arguments: str, program: str = "ssh") -> subprocess.Popen[str]:
        command = self.person.ssh_command(*arguments, program=program)
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def asked_for(self) -> str:
        """The address the client wants opened."""
        path = self.home / "url"
        wait_until(lambda: path.exists() and path.read_text().startswith("https://"), "the client's login URL")
        return path.read_text()


@pytest.fixture(scope="module")
def server(here: Installation) -> Iterator[Sshd]:
    with sshd(here.state.parent / "sshd", principals=["alice", "pat"]) as running:
        yield running


@pytest.fixture
def desk(chromium: Browser) -> Iterator[Desk]:
    desk = Desk(chromium)
    yield desk
    for context in chromium.contexts:
        context.close()
    assert desk.complaints == []


def _menu(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).click()


def test_the_first_ssh_login(here: Installation, server: Sshd, desk: Desk) -> None:
    base = here.state.parent
    issuer = (here.state / "issuer").read_text()
    page = _signed_in(desk, here)
    expect(page.get_by_role("heading", name="The way to the first SSH login")).to_be_visible()
    _add_login_method(page, issuer)
    _add_group(page)
    _add_application(page, f"127.0.0.1:{server.port}")
    operator = Person.at("operator", base, here)
    tunnel_id = create_tunnel(operator)
    _menu(page, "Home")
    expect(page.locator("#command-tunnel")).to_contain_text(f"tunnel: {tunnel_id}")
    with run_tunnel(operator, "ssh-pool"):
        status = "/accounts/{account}/cfd_tunnel/" + tunnel_id
        wait_until(lambda: here.api("GET", status)["status"] == "healthy", "a healthy tunnel")
        page.get_by_role("link", name="Check again").click()
        expect(page.get_by_text("ssh-pool is connected.")).to_be_visible()
        _add_record(page, f"{tunnel_id}.tunnel.localhost")
        server.ca_file.write_text(_generate_certificate(page) + "\n", encoding="utf-8")
        _alice_gets_a_shell(desk, _laptop(base, here, "alice"), server)
        _pat_copies_and_forwards(desk, _laptop(base, here, "pat"), here, server)
        _menu(page, "Home")
        expect(page.get_by_text("complete", exact=True).first).to_be_visible()
        # What the edge measured on their connections arrives with its next report.
        _menu(page, "Applications")
        page.get_by_role("link", name="SSH bastion", exact=True).click()
        page.get_by_role("link", name="Way in", exact=True).click()
        expect(page.get_by_text("round trip from person to edge").first).to_be_attached()


def _add_login_method(page: Page, issuer: str) -> None:
    _menu(page, "Authentication")
    page.get_by_role("link", name="Add a login method").click()
    page.locator('main a[href$="/add/oidc/"]').click()
    page.get_by_text("More settings").click()
    for label, value in {
        "Name": "Demo IdP",
        "Client ID": "sallyport",
        "Client secret": "demo-secret",
        "Authorization URL": "http://192.0.2.1/authorize",
        "Token URL": f"{issuer}/token",
        "Key set (JWKS) URL": f"{issuer}/jwks",
        "Issuer": issuer,
        "Scopes": "openid\nemail\nprofile\ngroups",
        "Claims to keep": "groups",
    }.items():
        page.get_by_label(re.compile(f"^{re.escape(label)}( \\(optional\\))?$")).fill(value)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("main")).to_contain_text("plain http is for hosts that the operator lists")
    page.get_by_label("Authorization URL").fill(f"{issuer}/authorize")
    page.get_by_label("Client secret").fill("demo-secret")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Demo IdP is on the login page now.")).to_be_visible()


def _add_group(page: Page) -> None:
    """The tutorial's group: a claim of the identity provider, and a country."""
    _menu(page, "Groups")
    page.get_by_role("link", name="Add a group").first.click()
    page.get_by_label("Group name").fill("SSH engineers")
    page.get_by_label("Selector").select_option(label="OIDC claim")
    page.locator("#rule-0-provider").select_option(label="Demo IdP")
    page.locator("#rule-0-claim").fill("groups")
    page.locator("#rule-0-value").fill("engineering")
    page.get_by_role("button", name="Add a rule").click()
    page.locator("#rule-1-list").select_option("require")
    page.locator("#rule-1-selector").select_option(label="Country")
    page.locator("input#rule-1-value").fill("Portugal")
    page.get_by_role("button", name="Save group").click()
    expect(page.get_by_text("Include Demo IdP claim groups = engineering")).to_be_visible()
    expect(page.get_by_text("Require country Portugal")).to_be_visible()


def _add_application(page: Page, destination: str) -> None:
    """The three steps of the wizard, each with one mistake first."""
    _menu(page, "Home")
    page.get_by_role("link", name="Add an application").first.click()
    page.get_by_label("Application name").fill("SSH bastion")
    page.get_by_label("Subdomain").fill("ssh bastion")
    page.get_by_role("button", name="Next: add policies").click()
    expect(page.locator("#id_subdomain_error")).to_contain_text("is not a hostname")
    page.get_by_label("Subdomain").fill("ssh-bastion")
    page.get_by_role("button", name="Next: add policies").click()

    page.get_by_label("Policy name").fill("Engineers")
    page.get_by_label("Selector").select_option(label="Access group")
    expect(page.locator("select#rule-0-value")).to_be_visible()
    page.get_by_role("button", name="Add policy, then another").click()
    expect(page.get_by_role("alert")).to_contain_text("A rule is not complete.")
    page.locator("select#rule-0-value").select_option(label="SSH engineers")
    page.get_by_role("button", name="Add policy, then another").click()
    expect(page.get_by_label("Policy name")).to_have_value("")
    page.get_by_label("Policy name").fill("Pat")
    page.locator("input#rule-0-value").fill(PAT)
    page.get_by_role("button", name="Add policy and go on").click()

    page.get_by_label("Bastion destinations").fill("localhost")
    page.get_by_role("button", name="Add application").click()
    expect(page.locator(".errorlist")).to_contain_text("has no port")
    page.get_by_label("Bastion destinations").fill(destination)
    page.get_by_role("button", name="Add application").click()
    expect(page.get_by_text("SSH bastion is added.")).to_be_visible()


def _add_record(page: Page, target: str) -> None:
    _menu(page, "DNS")
    page.get_by_role("main").get_by_role("link", name="widgetcorp.localhost", exact=True).click()
    page.get_by_role("link", name="+ Add record").first.click()
    page.get_by_label("Name", exact=True).fill("ssh-bastion")
    page.get_by_label("Target or content").fill("not a name")
    page.get_by_role("button", name="Add record").click()
    expect(page.locator(".errorlist")).to_contain_text("is not a valid name")
    page.get_by_label("Target or content").fill(target)
    page.get_by_role("button", name="Add record").click()
    expect(page.get_by_text("Resolves as stored")).to_be_visible()
    lines = page.locator("td strong", has_text=HOSTNAME).evaluate("name => name.getClientRects().length")
    assert lines <= 2, "the table breaks the name into pieces"


def _generate_certificate(page: Page) -> str:
    _menu(page, "Service Auth")
    page.get_by_role("link", name="SSH", exact=True).click()
    page.get_by_label("Application").select_option(label=f"SSH bastion ({HOSTNAME})")
    page.get_by_role("button", name="Generate certificate").click()
    key = page.locator("#public-key")
    expect(key).to_contain_text("ssh-ed25519 ")
    expect(page.locator("#aud")).to_have_text(re.compile("^[0-9a-f]{64}$"))
    expect(page.locator("#krl-url")).to_contain_text("/revoked.krl")
    return key.inner_text()


def _laptop(base: Path, here: Installation, name: str) -> Terminal:
    person = Person.at(name, base / "journey", here)
    person.configure(HOSTNAME)
    return Terminal(person, person.home)


def _alice_gets_a_shell(desk: Desk, laptop: Terminal, server: Sshd) -> None:
    """Through the team's identity provider, and the approve page."""
    ssh = laptop.start(f"{server.account}@{HOSTNAME}", "echo through-the-door")
    page = desk.context().new_page()
    page.goto(laptop.asked_for())
    expect(page.get_by_role("heading", name="Log in to SSH bastion")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("link", name="Log in with Demo IdP").click()
    page.get_by_role("button", name="Alice Example").click()
    code = _approve(page)
    said, complaint = ssh.communicate(timeout=60)
    assert (ssh.returncode, said) == (0, "through-the-door\n"), complaint
    assert f"Approve only if the page shows this code: {code}" in complaint
    assert any(line.startswith("Accepted publickey") for line in server.log().splitlines())


def _pat_copies_and_forwards(desk: Desk, laptop: Terminal, here: Installation, server: Sshd) -> None:
    """With a code by e-mail; then scp and a forwarded port need no browser any more."""
    source, copy = laptop.home / "source", laptop.home / "copy"
    source.write_bytes(os.urandom(200_000))
    scp = laptop.start("-q", str(source), f"{server.account}@{HOSTNAME}:{copy}", program="scp")
    page = desk.context().new_page()
    page.goto(laptop.asked_for())
    page.get_by_label("E-mail address").fill(PAT)
    page.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code").fill(_mailed_code(Path(here.facts["mail_dir"])))
    page.get_by_role("button", name="Log in").click()
    _approve(page)
    _, complaint = scp.communicate(timeout=60)
    assert scp.returncode == 0, complaint
    assert copy.read_bytes() == source.read_bytes()
    (laptop.home / "url").unlink()
    port = free_port()
    forward = laptop.start("-N", "-L", f"{port}:127.0.0.1:{server.port}", f"{server.account}@{HOSTNAME}")
    try:
        wait_until(lambda: _banner(port).startswith(b"SSH-2.0"), "the forwarded port answers as sshd")
    finally:
        forward.terminate()
        forward.communicate(timeout=30)
    assert not (laptop.home / "url").exists(), "the second ssh asked for a browser"


def _approve(page: Page) -> str:
    expect(page.get_by_role("heading", name="Let a command-line client log in as you?")).to_be_visible()
    assert violations(page) == []
    code = page.locator(".code code").inner_text()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="Done: your client is logged in")).to_be_visible()
    return code


def _mailed_code(folder: Path) -> str:
    found: list[str] = []

    def arrived() -> bool:
        for mail in folder.iterdir():
            text = mail.read_text(errors="replace")
            found.extend(re.findall(r"^ {4}([0-9]{6})$", text, re.M) if PAT in text else [])
        return bool(found)

    wait_until(arrived, "the mail with the code")
    return found[0]


def _banner(port: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        return connection.recv(64)
    return b""


def test_a_tunnel_of_the_dashboard_runs_with_its_token(here: Installation, server: Sshd, desk: Desk) -> None:
    """Create, copy the command with the token as the page shows it, publish a hostname, route it."""
    folder = here.state.parent / "remote"
    folder.mkdir()
    page = _signed_in(desk, here)
    _menu(page, "Tunnels")
    page.get_by_role("link", name="Create a tunnel").first.click()
    page.get_by_label("Tunnel name").fill("remote pool")
    page.get_by_role("button", name="Create tunnel").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download edge-ca.pem").click()
    download.value.save_as(folder / "edge-ca.pem")
    command = shlex.split(page.locator("#run-command").inner_text())
    (folder / "tunnel-token").write_text(page.locator("#token").inner_text())
    (folder / "tunnel-token").chmod(0o600)
    page.get_by_role("link", name="To the tunnel").click()
    with _running([sys.executable, "-m", "dataplane.cli", *command[1:]], folder):
        expect(page.get_by_text("healthy")).to_be_visible()
        page.get_by_role("link", name="Published hostnames").click()
        page.locator("#host-0-hostname").fill("web.widgetcorp.localhost")
        page.locator("#host-0-target").fill(f"127.0.0.1:{server.port}")
        page.get_by_role("button", name="Publish").click()
        expect(page.get_by_text("version 1", exact=True)).to_be_visible()
        _watch_the_log(page)
        page.get_by_role("button", name="Add DNS record for web.widgetcorp.localhost", exact=True).click()
        expect(page.get_by_text("Resolves as stored")).to_be_visible()


def _watch_the_log(page: Page) -> None:
    """What the connector logs from now on comes through the tunnel: a second version, applied before our eyes."""
    address = page.url
    page.get_by_role("link", name="Logs").first.click()
    page.get_by_role("button", name="Watch the log").click()
    expect(page.get_by_role("log")).to_contain_text("Nothing was logged", timeout=60_000)
    context = page.context.new_page()
    context.goto(f"{address}hostnames/")
    context.locator("#fallback").fill("http_status:410")
    context.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("log")).to_contain_text("configuration version 2 applied", timeout=60_000)
    context.close()
    page.goto(address)


def _signed_in(desk: Desk, here: Installation) -> Page:
    page = desk.context().new_page()
    page.goto(f"{here.facts['dashboard_url']}/accounts/login/")
    page.get_by_label("E-mail").fill(here.facts["admin_email"])
    page.get_by_label("Password", exact=True).fill(here.facts["admin_password"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Widget Corp", exact=True)).to_be_visible()
    return page


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[3])}
    with (folder / "connector.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(60) == 0, (folder / "connector.log").read_text()
