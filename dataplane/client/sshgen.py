"""`sallyport access ssh-gen`: a key with a certificate that lives minutes, ready for ssh's IdentityFile.

A new key for every certificate, so a stolen key file is worth no more than the minutes its certificate has left. While
that is a minute or more, the pair is used again: one ssh after another costs no network at all.

Pairs take turns in two slots. ssh reads the certificate when it starts and the key when it authenticates; a renewal by
another ssh in between must not touch the pair it is about to use.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence

from dataplane.client.certificates import (
    CertificateFacts,
    ObtainGrant,
    SignedKey,
    SignForMachine,
    SigningRefused,
    SignKey,
    read_certificate,
)
from dataplane.client.grants import AppInfo, remembered_info, stored_grant
from dataplane.client.servicetoken import add_service_token_options, given_service_token
from dataplane.client.target import Context, Target, add_connection_options, key_stems, make_context, parse_target
from dataplane.errors import CommandError
from dataplane.state import warn

# A pair is handed out while this much is left, or a quarter of its validity if that is less.
REUSE_MIN_SECONDS = 60
_SUFFIXES = ("", ".pub", "-cert.pub", ".json")


def run(argv: Sequence[str], *, obtain: ObtainGrant, sign: SignKey, sign_for_machine: SignForMachine) -> int:
    options = _parser().parse_args(argv)
    context, target = make_context(options), parse_target(options.hostname)
    token = given_service_token(options)
    client_id = token.client_id if token is not None else ""
    with context.state.lock(f"{target.file_stem}-cf_key.lock", on_wait=_tell_waiting):
        facts = _usable_pair(context, target, options, client_id)
        if facts is None:
            if token is not None:
                info, signed = sign_for_machine(context, target, token, options.key_type)
            else:
                info, signed = _sign_for_person(context, target, options, obtain, sign)
            facts = _keep(context, target, options, info, signed, client_id)
    if options.verbose:
        left = facts.valid_before - time.time()
        warn(f"certificate {facts.serial} for {', '.join(facts.principals)}, {left:.0f} s left, key id {facts.key_id}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sallyport access ssh-gen", description="Get a short-lived SSH certificate.")
    parser.add_argument("--hostname", required=True, help="the application's host name")
    parser.add_argument("--key-type", choices=("ed25519", "ecdsa"), default="ed25519")
    parser.add_argument("--principal", help="accept only a certificate that names this account")
    parser.add_argument("--verbose", "-v", action="store_true", help="say what the certificate allows")
    add_service_token_options(parser)
    add_connection_options(parser)
    return parser


def _sign_for_person(
    context: Context, target: Target, options: argparse.Namespace, obtain: ObtainGrant, sign: SignKey
) -> tuple[AppInfo, SignedKey]:
    grant = stored_grant(context, target) or obtain(context, target)
    try:
        signed = sign(context, grant, options.key_type)
    except SigningRefused as refusal:
        if not refusal.token_is_worthless:
            raise
        warn(f"{refusal}\nLogging in again.")
        grant = obtain(context, target, rejected=grant)
        signed = sign(context, grant, options.key_type)
    return grant.info, signed


def _keep(
    context: Context,
    target: Target,
    options: argparse.Namespace,
    info: AppInfo,
    signed: SignedKey,
    client_id: str,
) -> CertificateFacts:
    facts = read_certificate(signed.certificate_line)
    if options.principal and options.principal not in facts.principals:
        raise CommandError(
            f"the certificate is for {', '.join(facts.principals)}, not for {options.principal}; "
            f"use: ssh {facts.principals[0]}@{target.host}"
        )
    _store(context, target, info, signed, client_id)
    return facts


def _store(context: Context, target: Target, info: AppInfo, signed: SignedKey, client_id: str) -> None:
    """Into the slot whose pair ends first; a slot without a sound pair is emptied, so that ssh does not offer it."""
    sound = {stem: _sound_pair(context, target, stem, _key_type_of(signed), client_id) for stem in key_stems(target)}
    for stem in (stem for stem, facts in sound.items() if facts is None):
        for suffix in _SUFFIXES:
            context.state.remove(f"{stem}{suffix}")
    stem = min(key_stems(target), key=lambda stem: facts.valid_before if (facts := sound[stem]) else 0)
    context.state.write(stem, signed.private_pem)
    context.state.write(f"{stem}.pub", f"{signed.public_line}\n")
    context.state.write(f"{stem}-cert.pub", f"{signed.certificate_line}\n")
    note = {"aud": info.aud, "sha256": _digest(signed.certificate_line)}
    context.state.write(f"{stem}.json", json.dumps(note | ({"client_id": client_id} if client_id else {})))


def _usable_pair(
    context: Context, target: Target, options: argparse.Namespace, client_id: str
) -> CertificateFacts | None:
    """A sound pair with enough time left that names the wanted principal."""
    for stem in key_stems(target):
        facts = _sound_pair(context, target, stem, options.key_type, client_id)
        if facts is None or (options.principal and options.principal not in facts.principals):
            continue
        needed = min(REUSE_MIN_SECONDS, (facts.valid_before - facts.valid_after) / 4)
        if facts.valid_before - time.time() >= needed:
            return facts
    return None


def _sound_pair(context: Context, target: Target, stem: str, key_type: str, client_id: str) -> CertificateFacts | None:
    """The slot's pair, if it is whole, for this application and this machine or person, of the wanted kind and valid
    now."""
    info = remembered_info(context, target)
    line, note = context.state.read(f"{stem}-cert.pub"), context.state.read(f"{stem}.json")
    if info is None or not line or not note or not context.state.path(stem).is_file():
        return None
    try:
        facts, written = read_certificate(line), json.loads(note)
    except ValueError:
        return None
    if not isinstance(written, dict) or written.get("aud") != info.aud or written.get("sha256") != _digest(line):
        return None
    if written.get("client_id", "") != client_id:
        return None
    is_valid = facts.valid_after <= time.time() < facts.valid_before
    return facts if is_valid and _is_kind(line, key_type) else None


def _key_type_of(signed: SignedKey) -> str:
    return "ed25519" if _is_kind(signed.certificate_line, "ed25519") else "ecdsa"


def _is_kind(line: str, key_type: str) -> bool:
    return line.startswith("ssh-ed25519-" if key_type == "ed25519" else "ecdsa-")


def _digest(line: str) -> str:
    return hashlib.sha256(line.strip().encode()).hexdigest()


def _tell_waiting(pid: int | None) -> None:
    warn(f"waiting for {f'process {pid}' if pid else 'another process'}, which is getting a certificate for this host")
