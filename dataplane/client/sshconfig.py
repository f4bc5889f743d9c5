"""`sallyport access ssh-config`: the lines for ~/.ssh/config.

The ProxyCommand stands in a Host block without conditions, and only key and certificate depend on ssh-gen: when
ssh-gen fails, ssh still goes through the edge and is told why, instead of trying the host's address directly
(access-client.md 9).
"""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dataplane.client.target import Target, add_connection_options, key_stems, parse_target
from dataplane.errors import CommandError
from dataplane.https import parse_address
from dataplane.state import State

_UNQUOTABLE = "\"'\\\n\r"


def run(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    target = parse_target(options.hostname)
    print("# Add to your ~/.ssh/config:\n" + config_text(target, options, executable(), State.for_user().directory))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sallyport access ssh-config", description="Print the lines for ~/.ssh/config."
    )
    parser.add_argument(
        "--hostname", required=True, help="the application's host name, with its port if that is not 443"
    )
    parser.add_argument("--short-lived-cert", action="store_true", help="log in to sshd with certificates from ssh-gen")
    parser.add_argument("--destination", metavar="HOST:PORT", help="where a bastion application shall connect to")
    parser.add_argument("--alias", metavar="NAME", help="name to use with ssh instead of the host name")
    add_connection_options(parser)
    return parser


def config_text(target: Target, options: argparse.Namespace, command: Sequence[str], state: Path) -> str:
    """Pure but for the absolute path of a CA file given relative to the working directory."""
    shared = [*command, "access"]
    connection = ["--hostname", target.netloc + target.path]
    if options.edge:
        parse_address(options.edge)
        connection += ["--edge", options.edge]
    if options.cacert:
        connection += ["--cacert", os.path.abspath(options.cacert)]
    destination = ["--destination", options.destination] if options.destination else []
    name = _plain_name(options.alias or target.host)
    lines = [f"Host {name}"]
    if name != target.host:
        lines += [f"  HostName {target.host}", f"  HostKeyAlias {name}"]
    lines.append(f"  ProxyCommand {_shell([*shared, 'ssh', *connection, *destination])}")
    if options.short_lived_cert:
        keyword = "host" if name == target.host else "originalhost"
        lines += ["", f'Match {keyword} {name} exec "{_shell([*shared, "ssh-gen", *connection])}"']
        for key in (state / stem for stem in key_stems(target)):
            lines += [f"  IdentityFile {_quoted(str(key))}", f"  CertificateFile {_quoted(f'{key}-cert.pub')}"]
        lines.append("  IdentitiesOnly yes")
    return "\n".join(lines)


def executable() -> list[str]:
    """How to start this very program again, by absolute path: ssh runs it with an unknown PATH and directory."""
    started = sys.argv[0]
    if not started.endswith(".py"):
        found = shutil.which(started)
        if found:
            return [os.path.abspath(found)]
    # -P: `-m` alone would import from the working directory first.
    return [sys.executable, "-P", "-m", "dataplane.cli"]


def _shell(words: Sequence[str]) -> str:
    """One shell command for ProxyCommand and `Match exec`.

    ssh's parser has no escape for a double quote inside `exec "..."`, so words that would need one are refused.
    """
    for word in words:
        if any(ch in word for ch in _UNQUOTABLE):
            raise CommandError(
                f"{word!r} has a quote, backslash or line break, which cannot be written in an ssh config"
            )
    return " ".join(shlex.quote(word) for word in words).replace("%", "%%")


def _quoted(path: str) -> str:
    if any(ch in path for ch in _UNQUOTABLE):
        raise CommandError(f"{path!r} has a quote, backslash or line break, which cannot be written in an ssh config")
    escaped = path.replace("%", "%%")
    return f'"{escaped}"' if " " in path or "\t" in path else escaped


def _plain_name(name: str) -> str:
    if not name or any(ch.isspace() or ch in "*?!,\"'#%\\" or not ch.isprintable() for ch in name):
        raise CommandError(f"{name!r} cannot be a host name in an ssh config")
    return name
