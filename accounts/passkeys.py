"""WebAuthn ceremonies of identities: the relying party is the team domain, the origin its one public address.

The `fido2` package checks the answers; challenges and credentials are kept by accounts.actions. Nothing about a device
is attested: who makes the authenticator is not asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fido2.server import Fido2Server
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorAttachment,
    AuthenticatorData,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from accounts.errors import InvalidInput
from accounts.mfa_models import IdentityAuthenticator
from accounts.models import Identity, Organization
from accounts.second_factor import BIOMETRICS, SECURITY_KEY

MAX_ANSWER_CHARACTERS = 32 * 1024
_ATTACHMENT = {
    BIOMETRICS: AuthenticatorAttachment.PLATFORM,
    SECURITY_KEY: AuthenticatorAttachment.CROSS_PLATFORM,
}


class PasskeyRefused(InvalidInput):
    """The browser's answer proves nothing. The message never says which check failed: the log does."""

    code = "passkey_refused"


@dataclass(frozen=True, slots=True)
class NewPasskey:
    credential_id: str
    credential: bytes
    sign_count: int
    is_synced: bool


@dataclass(frozen=True, slots=True)
class Assertion:
    """A checked signature. `sign_count` is for the caller to compare: only the database can do that once."""

    sign_count: int
    is_user_verified: bool


def creation_options(
    identity: Identity, *, kind: str, challenge: bytes, known: Sequence[IdentityAuthenticator]
) -> dict[str, Any]:
    """For navigator.credentials.create. `known` passkeys are not made a second time on the same device."""
    user = PublicKeyCredentialUserEntity(
        id=identity.pk.bytes, name=str(identity), display_name=identity.name or str(identity)
    )
    options, _ = _server(identity.organization).register_begin(
        user,
        [_credential(row) for row in known],
        resident_key_requirement=ResidentKeyRequirement.DISCOURAGED,
        user_verification=_verification(kind),
        authenticator_attachment=_ATTACHMENT[kind],
        challenge=challenge,
    )
    return dict(options)


def request_options(
    organization: Organization, *, challenge: bytes, rows: Sequence[IdentityAuthenticator]
) -> dict[str, Any]:
    """For navigator.credentials.get: any of these passkeys."""
    is_verifying = all(row.kind == BIOMETRICS for row in rows)
    options, _ = _server(organization).authenticate_begin(
        [_credential(row) for row in rows],
        user_verification=_verification(BIOMETRICS if is_verifying else SECURITY_KEY),
        challenge=challenge,
    )
    return dict(options)


def check_registration(organization: Organization, *, kind: str, challenge: bytes, answer: str) -> NewPasskey:
    """Raises PasskeyRefused for another challenge, origin or relying party, or (biometrics) an unverified person."""
    state = {"challenge": websafe_encode(challenge), "user_verification": _verification(kind)}
    try:
        response = RegistrationResponse.from_dict(_read(answer))
        data = _server(organization).register_complete(state, response)
    except PasskeyRefused:
        raise
    except Exception as error:  # a parser of a stranger's bytes: whatever it raises, the answer is no
        raise _refused() from error
    credential = data.credential_data
    if credential is None or not credential.credential_id:
        raise _refused()
    return NewPasskey(
        credential_id=websafe_encode(credential.credential_id),
        credential=bytes(credential),
        sign_count=data.counter,
        is_synced=bool(data.flags & AuthenticatorData.FLAG.BE),
    )


def credential_id_of(answer: str) -> str:
    """Which passkey an answer speaks for, before anything about it is checked."""
    identifier = _read(answer).get("id")
    return identifier if isinstance(identifier, str) else ""


def check_assertion(
    row: IdentityAuthenticator, organization: Organization, *, challenge: bytes, answer: str
) -> Assertion:
    state = {"challenge": websafe_encode(challenge), "user_verification": _verification(row.kind)}
    try:
        response = AuthenticationResponse.from_dict(_read(answer))
        _server(organization).authenticate_complete(state, [AttestedCredentialData(bytes(row.credential))], response)
    except PasskeyRefused:
        raise
    except Exception as error:
        raise _refused() from error
    data = response.response.authenticator_data
    return Assertion(data.counter, data.is_user_verified())


def _server(organization: Organization) -> Fido2Server:
    party = PublicKeyCredentialRpEntity(id=organization.team_domain, name=organization.name)
    # Exactly the address people see, with its port: not any subdomain, which fido2 would take too.
    return Fido2Server(party, verify_origin=lambda origin: origin == organization.team_url)


def _verification(kind: str) -> UserVerificationRequirement:
    return UserVerificationRequirement.REQUIRED if kind == BIOMETRICS else UserVerificationRequirement.PREFERRED


def _credential(row: IdentityAuthenticator) -> AttestedCredentialData:
    return AttestedCredentialData(bytes(row.credential))


def _read(answer: str) -> dict[str, Any]:
    if len(answer) > MAX_ANSWER_CHARACTERS:
        raise _refused()
    try:
        values = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _refused() from error
    if not isinstance(values, dict):
        raise _refused()
    return values


def _refused() -> PasskeyRefused:
    return PasskeyRefused("The passkey could not be checked. Try again, or use another way.")


def challenge_bytes(text: str) -> bytes:
    return websafe_decode(text)
