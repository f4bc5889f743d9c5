"""The `sallyport` command: finds the part that is asked for and imports nothing else.

`sallyport access ...` runs at every ssh, so imports are inside functions here, and only here; what the quick paths
rarely need (crypto) is handed to them as functions that import it when called.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dataplane.errors import CommandError

if TYPE_CHECKING:
    from dataplane.client.certificates import SignedKey
    from dataplane.client.grants import AppInfo, Grant
    from dataplane.client.servicetoken import ServiceToken
    from dataplane.client.target import Context, Target

VERSION = "0.1.0"

_USAGE = """\
usage: sallyport COMMAND ...

Reach servers (on your own machine):
  access login URL            log in to an application in the browser
  access token URL            print the stored token
  access ssh-config           print the lines for ~/.ssh/config
  access ssh-gen              get a short-lived SSH certificate
  access ssh | tcp            carry a connection; used as ssh's ProxyCommand

Offer servers (next to them):
  login                       keep an API token for the tunnel commands
  tunnel create | list | info | delete | token | cleanup
  tunnel route dns            route a host name to a tunnel
  tunnel ingress validate | rule URL
  tunnel run                  run a connector

Run an installation:
  edge run                    run the public entry

  version, help               `sallyport COMMAND --help` explains each
"""

Command = Callable[[Sequence[str]], int | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command. Refusals are one line on stderr; a traceback is a bug."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except CommandError as error:
        print(f"sallyport: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away; a second error while flushing at exit would only add noise.
        sys.stdout = None
        return 1


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("help", "--help", "-h"):
        print(_USAGE, end="")
        return 0
    name, rest = words[0], words[1:]
    if name in ("version", "--version", "-v"):
        print(f"sallyport {VERSION}")
        return 0
    groups: dict[str, Command] = {"access": _access, "tunnel": _tunnel, "edge": _edge, "login": _login}
    if name not in groups:
        raise CommandError(f"there is no command {name!r}; see: sallyport help", exit_code=2)
    return groups[name](rest) or 0


def _access(words: Sequence[str]) -> int:
    commands: dict[str, Command] = {
        "login": _access_login,
        "token": _access_token,
        "ssh-config": _access_ssh_config,
        "ssh-gen": _access_ssh_gen,
        "ssh": _access_ssh,
        "tcp": _access_ssh,
        "rdp": _access_ssh,
        "smb": _access_ssh,
    }
    return _choose("access", commands, words)


def _tunnel(words: Sequence[str]) -> int:
    words = _config_after_command(list(words))
    manage = ("create", "list", "info", "delete", "token", "cleanup")
    commands: dict[str, Command] = {name: _manage(name) for name in manage}
    commands |= {"run": _tunnel_run, "route": _tunnel_route, "ingress": _tunnel_ingress, "login": _login}
    return _choose("tunnel", commands, words)


def _edge(words: Sequence[str]) -> int:
    return _choose("edge", {"run": _edge_run}, words)


def _choose(group: str, commands: dict[str, Command], words: Sequence[str]) -> int:
    known = " | ".join(commands)
    if not words or words[0] in ("--help", "-h", "help"):
        print(f"usage: sallyport {group} {known}")
        return 0
    if words[0] not in commands:
        raise CommandError(f"there is no command '{group} {words[0]}'; known: {known}", exit_code=2)
    return commands[words[0]](words[1:]) or 0


def _config_after_command(words: list[str]) -> list[str]:
    """`tunnel --config FILE run` is how the public documentation of the compatible connector writes it."""
    if len(words) > 2 and words[0] == "--config":
        return [*words[2:], "--config", words[1]]
    if words and words[0].startswith("--config="):
        return [*words[1:], words[0]]
    return words


def _access_login(words: Sequence[str]) -> int:
    from dataplane.client import login

    return login.run_login(words, obtain=_obtain)


def _access_token(words: Sequence[str]) -> int:
    from dataplane.client import login

    return login.run_token(words, find=_discover)


def _access_ssh_config(words: Sequence[str]) -> int:
    from dataplane.client import sshconfig

    return sshconfig.run(words)


def _access_ssh_gen(words: Sequence[str]) -> int:
    from dataplane.client import sshgen

    return sshgen.run(words, obtain=_obtain, sign=_sign, sign_for_machine=_sign_for_machine)


def _access_ssh(words: Sequence[str]) -> int:
    from dataplane.client import ssh

    return ssh.run(words, obtain=_obtain)


def _manage(name: str) -> Command:
    def command(words: Sequence[str]) -> int:
        from dataplane.commands import tunnels

        return tunnels.run(name, words)

    return command


def _tunnel_route(words: Sequence[str]) -> int:
    from dataplane.commands import routes

    return _choose("tunnel route", {"dns": routes.run}, words)


def _tunnel_ingress(words: Sequence[str]) -> int:
    from dataplane.commands import ingress

    return ingress.run(words)


def _tunnel_run(words: Sequence[str]) -> int | None:
    from dataplane import connector

    return connector.run(words)


def _edge_run(words: Sequence[str]) -> int | None:
    from dataplane import edge

    return edge.run(words)


def _login(words: Sequence[str]) -> int:
    from dataplane.commands import login

    return login.run(words)


def _obtain(context: "Context", target: "Target", *, rejected: "Grant | None" = None) -> "Grant":
    from dataplane.client.obtain import obtain_grant

    return obtain_grant(context, target, rejected=rejected)


def _discover(context: "Context", target: "Target") -> "AppInfo":
    from dataplane.client.discovery import discover

    return discover(context, target)


def _sign(context: "Context", grant: "Grant", key_type: str) -> "SignedKey":
    from dataplane.client.signing import sign_fresh_key

    return sign_fresh_key(context, grant, key_type)


def _sign_for_machine(
    context: "Context", target: "Target", token: "ServiceToken", key_type: str
) -> "tuple[AppInfo, SignedKey]":
    from dataplane.client.machine import sign_for_machine

    return sign_for_machine(context, target, token, key_type)


if __name__ == "__main__":
    sys.exit(main())
