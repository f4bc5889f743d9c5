"""`sallyport tunnel ingress validate | rule URL`: checks a configuration file without any network."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from dataplane.errors import CommandError
from dataplane.state import DIRECTORY_NAME, home_directory, warn
from dataplane.wire.ingress import Ingress, IngressError, parse_yaml_ingress

MAX_CONFIG_BYTES = 1024 * 1024
_KNOWN_KEYS = frozenset(
    {
        "tunnel",
        "credentials-file",
        "token-file",
        "ingress",
        "originRequest",
        "warp-routing",
        "edge",
        "cacert",
        "protocol",
        "http2",
        "logDirectory",
        "log-directory",
        "logfile",
        "loglevel",
        "metrics",
        "no-autoupdate",
        "no-prechecks",
        "api-url",
        "grace-period",
        "ha-connections",
        "region",
        "retries",
        "tag",
        "url",
    }
)


def run(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    path = Path(options.config) if options.config else _default_config()
    document = _load(path)
    try:
        ingress = parse_yaml_ingress(document)
    except IngressError as error:
        raise CommandError(f"{path}: {error}") from error
    if not ingress.rules:
        raise CommandError(f"{path} has no ingress rules: every request would be answered 503")
    if options.action == "rule":
        return _print_rule(ingress, options.url)
    for key in sorted(set(map(str, document)) - _KNOWN_KEYS):
        warn(f"{path}: unknown key {key!r} is ignored")
    print(f"Validating rules from {path}\nOK")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sallyport tunnel ingress")
    actions = parser.add_subparsers(dest="action", required=True)
    validate = actions.add_parser("validate", help="check the configuration file")
    rule = actions.add_parser("rule", help="show which rule answers a URL")
    rule.add_argument("url", help="for example https://ssh.example.com/path")
    for action in (validate, rule):
        action.add_argument("--config", metavar="FILE", help=f"default: ~/{DIRECTORY_NAME}/config.yml")
    return parser


def _default_config() -> Path:
    """Never the working directory: a configuration found by chance must not decide what is exposed."""
    folders = [home_directory() / DIRECTORY_NAME, Path("/etc/sallyport")]
    candidates = [folder / name for folder in folders for name in ("config.yml", "config.yaml")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise CommandError(f"no configuration file; looked for {', '.join(map(str, candidates))}; give --config FILE")
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise CommandError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise CommandError(f"{path} is not YAML{where}: {getattr(error, 'problem', None) or 'malformed'}") from None
    if not isinstance(document, dict):
        raise CommandError(f"{path} must hold keys such as tunnel, credentials-file and ingress")
    return document


def _print_rule(ingress: Ingress, url: str) -> int:
    parts = urlsplit(url)
    if not parts.hostname:
        raise CommandError(f"{url!r} is not a URL; write for example https://ssh.example.com/path")
    index = ingress.match(parts.hostname, parts.path or "/")
    assert index is not None, "a validated, non-empty list ends with a catch-all"
    rule = ingress.rules[index]
    print(f"Matched rule #{index + 1}")
    if rule.hostname:
        print(f"  hostname: {rule.hostname}")
    if rule.path is not None:
        print(f"  path: {rule.path.pattern}")
    print(f"  service: {rule.document['service']}")
    return 0
