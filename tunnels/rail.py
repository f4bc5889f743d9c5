"""The way to the first SSH login, per application: what is done, what is broken, what comes next.

`judge_rail` is pure: it turns facts into steps. Facts come from tunnels.rail_facts and are what the database knows of
reality: what resolvers answered, which connections edges report, which certificates were signed, which streams opened.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    DONE = "done"
    NEXT = "next"
    BROKEN = "broken"
    LATER = "later"


@dataclass(frozen=True)
class Facts:
    """What is known about one application."""

    hostname: str
    path: str = ""
    policies: int = 0
    letting_policies: int = 0  # those that can let somebody in
    record_name: str = ""  # the CNAME that covers the hostname, "" when there is none
    record_state: str = ""  # tunnels.models.DnsRecord.Verification
    record_answer: str = ""
    record_target: str = ""
    record_resolver: str = ""
    tunnel_name: str = ""  # the tunnel the record points at, or else the organization's likeliest one
    tunnel_target: str = ""
    tunnel_status: str = ""  # tunnels.status.TunnelStatus, "" when there is no tunnel
    tunnel_is_local: bool = False  # configured by a file next to its connector
    tunnel_is_routed: bool = False
    serves_hostname: bool | None = None  # None: the configuration is not known (yet)
    zone_name: str = ""
    authority_state: str = ""  # "active", "pending" or ""
    hosts_seen: int = 0  # hosts that fetched the CA file lately
    hosts_trusting: int = 0  # of these: whose sshd says that it reads the file
    hosts_ignoring: int = 0  # and whose sshd says that it does not
    host_script_url: str = ""
    certificates_issued: bool = False
    session_seen: bool = False


@dataclass(frozen=True)
class Step:
    """`page` is a URL name with the argument kind the view fills in; `command` is what to copy next."""

    key: str
    title: str
    state: State
    text: str
    command: str = ""
    page: str = ""
    page_text: str = ""


@dataclass(frozen=True)
class Rail:
    steps: list[Step] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(step.state is State.DONE for step in self.steps)

    @property
    def is_complete(self) -> bool:
        return self.done == len(self.steps)

    @property
    def is_broken(self) -> bool:
        return any(step.state is State.BROKEN for step in self.steps)


def judge_rail(facts: Facts) -> Rail:
    steps = [
        _policy(facts),
        _tunnel(facts),
        _record(facts),
        _authority(facts),
        _sshd(facts),
        _client(facts),
        _session(facts),
    ]
    return Rail(_only_first_next(steps))


def _policy(facts: Facts) -> Step:
    title = "Say who may reach it"
    page = ("application_policies", "Policies")
    if facts.letting_policies:
        return Step(
            "policy", title, State.DONE, _count(facts.policies, "policy decides.", "policies decide."), "", *page
        )
    if facts.policies:
        text = "Every policy blocks, so nobody gets in. Add one that allows."
        return Step("policy", title, State.BROKEN, text, "", *page)
    text = "There is no policy yet, so everybody is refused."
    return Step("policy", title, State.NEXT, text, "", page[0], "Add a policy")


def _tunnel(facts: Facts) -> Step:
    title = "Connect a tunnel"
    page = ("tunnel", "Tunnel")
    if not facts.tunnel_status:
        text = "On a machine next to your servers; this page then shows what to run there. Or create it here."
        command = "sallyport tunnel create ssh-pool"
        return Step("tunnel", title, State.NEXT, text, command, "tunnel_create", "Create a tunnel")
    name = facts.tunnel_name
    if facts.tunnel_status in {"inactive", "down"}:
        never = facts.tunnel_status == "inactive"
        text = f"{name} has never been connected." if never else f"{name} was connected and is not any more."
        state = State.NEXT if never else State.BROKEN
        return Step("tunnel", title, state, f"{text} {_run_hint(facts)}", _run_commands(facts), *page)
    if facts.serves_hostname is False:
        text = f"{name} is connected, but its configuration has no rule for {facts.hostname}."
        return Step("tunnel", title, State.BROKEN, text, "", "tunnel_hostnames", "Published hostnames")
    text = f"{name} is connected" + (
        ", with fewer connections than it should have." if facts.tunnel_status == "degraded" else "."
    )
    return Step("tunnel", title, State.DONE, text, "", *page)


def _run_hint(facts: Facts) -> str:
    if facts.tunnel_is_local and facts.tunnel_status == "down":
        return "Start its connector again."
    if facts.tunnel_is_local:
        return "Run its connector where you created it; for one host, say ssh://ADDRESS:22 instead of bastion."
    return "Its page has the command that runs a connector, with the token."


def _run_commands(facts: Facts) -> str:
    """The configuration file belongs to it: without one, a connector started by name knows no credentials. Commands of
    a tunnel that the dashboard configures hold its token, so only its own page shows them."""
    if not facts.tunnel_is_local:
        return ""
    name, tunnel_id = shlex.quote(facts.tunnel_name), facts.tunnel_target.partition(".")[0]
    if facts.tunnel_status == "down":
        return f"sallyport tunnel run {name}"
    # A file of its own: config.yml may belong to another tunnel of that machine.
    return (
        f"cat > ~/.sallyport/{tunnel_id}.yml <<'END'\n"
        f"tunnel: {tunnel_id}\n"
        "ingress:\n"
        f"  - hostname: {facts.hostname}\n"
        "    service: bastion\n"
        "  - service: http_status:404\n"
        f"END\nsallyport tunnel run --config ~/.sallyport/{tunnel_id}.yml {name}"
    )


def _record(facts: Facts) -> Step:
    title = "Route the name"
    page = ("zone", "DNS records")
    if not facts.record_name:
        target = facts.tunnel_target or "the tunnel"
        text = f"Add a CNAME record for {facts.hostname} that points at {target}."
        command = f"sallyport tunnel route dns {facts.tunnel_name} {facts.hostname}" if facts.tunnel_name else ""
        return Step("record", title, State.NEXT, text, command, *page)
    if not facts.tunnel_is_routed:
        text = f"{facts.record_name} points at {facts.record_target}, which is none of your tunnels."
        return Step("record", title, State.BROKEN, text, "", *page)
    if facts.record_state == "ok":
        return Step("record", title, State.DONE, f"{facts.record_name} leads to {facts.tunnel_name}.", "", *page)
    if facts.record_state == "pending":
        return Step("record", title, State.NEXT, "The record is stored; the resolvers are being asked.", "", *page)
    said = f"{facts.record_resolver} said" if facts.record_resolver else "DNS says otherwise"
    answer = facts.record_answer or "no answer"
    text = f"The record is stored here, but {said}: {answer} Publish this at your DNS provider."
    return Step("record", title, State.BROKEN, text, f"{facts.record_name}. CNAME {facts.record_target}.", *page)


def _authority(facts: Facts) -> Step:
    title = "Generate the SSH certificate authority"
    if facts.authority_state == "active":
        text = "It signs certificates that live minutes."
        return Step("authority", title, State.DONE, text, "", "ssh_authority_detail", "Public key")
    if facts.authority_state == "pending":
        return Step(
            "authority",
            title,
            State.NEXT,
            "The signing worker is making the key.",
            "",
            "ssh_authorities",
            "Service Auth, SSH",
        )
    text = "Under Service Auth, SSH: choose this application and press Generate certificate."
    return Step("authority", title, State.NEXT, text, "", "ssh_authorities", "Service Auth, SSH")


def _sshd(facts: Facts) -> Step:
    title = "Make the hosts trust it"
    page = "ssh_authority_detail" if facts.authority_state else "ssh_authorities"  # there is no page of no authority
    if facts.hosts_trusting:
        told = _count(facts.hosts_trusting, "host says that its sshd trusts", "hosts say that their sshd trusts")
        text = (
            f"{told} this authority, and {'fetches' if facts.hosts_trusting == 1 else 'fetch'} its keys every minute."
        )
        return Step("sshd", title, State.DONE, text, "", page, "Hosts and keys")
    if facts.session_seen and facts.certificates_issued:
        text = "A certificate was issued and a session came through. No host says more: host-setup.sh would make it."
        return Step("sshd", title, State.DONE, text, "", page, "Hosts and keys")
    command = f"curl -fsS -O {facts.host_script_url}\nless host-setup.sh && sudo sh host-setup.sh"
    if facts.hosts_ignoring:
        told = _count(facts.hosts_ignoring, "host fetches", "hosts fetch")
        text = f"{told} the keys, but sshd there reads another TrustedUserCAKeys line first, or none."
        return Step("sshd", title, State.BROKEN, text, "sshd -T | grep -i trustedusercakeys", page, "Hosts and keys")
    text = "Read the script, then run it on every host, with a session left open."
    if facts.hosts_seen:
        told = _count(facts.hosts_seen, "host fetches", "hosts fetch")
        text = f"{told} the keys, without saying whether sshd reads them: the script of today tells."
    text += " Done when a host says that its sshd trusts the authority, or somebody has logged in."
    return Step("sshd", title, State.NEXT, text, command, page, "Keys and other ways")


def _client(facts: Facts) -> Step:
    title = "Set up a laptop"
    if facts.certificates_issued:
        return Step("client", title, State.DONE, "A client has fetched a certificate.")
    text = "Everybody does this once: the command prints the lines for ~/.ssh/config."
    command = f"sallyport access ssh-config --hostname {facts.hostname} --short-lived-cert >> ~/.ssh/config"
    return Step("client", title, State.NEXT, text, command)


def _session(facts: Facts) -> Step:
    title = "Log in"
    if facts.session_seen:
        return Step("session", title, State.DONE, "A session has come through.", "", "access_log", "Access log")
    text = "The browser opens, you log in and approve, and land in a shell."
    return Step("session", title, State.NEXT, text, f"ssh {facts.hostname}", "access_log", "Access log")


def _only_first_next(steps: list[Step]) -> list[Step]:
    """The first open step is next; open ones after it wait. Hosts and laptops can be set up side by side."""
    found: list[Step] = []
    for step in steps:
        blocked = any(earlier.state in {State.NEXT, State.BROKEN} for earlier in found)
        beside = step.key == "client" and bool(found) and found[-1].key == "sshd" and found[-1].state is State.NEXT
        if step.state is State.NEXT and blocked and not beside:
            step = Step(step.key, step.title, State.LATER, step.text, step.command, step.page, step.page_text)
        found.append(step)
    return found


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
