"""Account names in an application: the first identity issued one holds it, until an administrator releases it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from django.db import transaction

from access import events
from access.models import Application, ApplicationPolicy, Certificate, Policy, PrincipalClaim, ServiceToken
from access.principals import PrincipalRefused, names_in_claim, principal_of
from access.sshcert import MAX_PRINCIPALS, is_key_id
from access.terms import SshRights
from accounts import audit
from accounts.actor import Actor
from accounts.models import Identity
from accounts.prepared import Parameter, PreparedRows
from accounts.text import ascii_lower

_CLAIMS = PreparedRows(
    lambda: PrincipalClaim.objects.filter(
        application=Parameter("application", Application._meta.pk),
        identity=Parameter("identity", Identity._meta.pk),
    ).order_by("pk")
)


class PrincipalTaken(PrincipalRefused):
    """Another identity holds the account name."""

    status = 409
    code = "principal_collision"


def claim_principals(application: Application, identity: Identity, rights: SshRights | None) -> list[PrincipalClaim]:
    """What a certificate for the identity carries under these rights, claimed at the first use. At least one.

    Part of the action that issues a certificate. Raises PrincipalRefused or PrincipalTaken; IntegrityError when
    somebody claims the same name at this very moment.
    """
    if rights is None:
        return [_claim_alias(application, identity)]
    claims = [_hold_shared(application, identity, name) for name in rights.usernames]
    if rights.username_claim:
        held = identity.claims.get(rights.username_claim) if isinstance(identity.claims, dict) else None
        for name in names_in_claim(held, rights.username_pattern, reserved=_reserved(application)):
            if name not in rights.usernames:
                claims.append(_hold(application, identity, name, email=""))
    if rights.allow_email_alias:
        claims += _alias_beside(application, identity, claims)
    if not claims:
        raise PrincipalRefused(
            f'Your login method sent no account name in "{rights.username_claim}" that this application accepts.',
            code="principal_missing",
        )
    if len(claims) > MAX_PRINCIPALS:
        raise PrincipalRefused(f"A certificate carries at most {MAX_PRINCIPALS} account names.")
    return claims


def claim_machine_principals(application: Application, names: Sequence[str]) -> None:
    """Accounts that a policy names for service tokens: shared among those, never with a person.

    Raises PrincipalRefused or PrincipalTaken; IntegrityError when a person claims a name at this very moment.
    """
    if len(names) > MAX_PRINCIPALS:
        raise PrincipalRefused(f"A certificate carries at most {MAX_PRINCIPALS} account names.")
    held: dict[str, PrincipalClaim] = {}
    for claim in PrincipalClaim.objects.filter(application=application, principal__in=list(names)):
        if claim.identity_id is not None or claim.principal not in held:
            held[claim.principal] = claim
    if not all(name in held for name in names):
        # Against a person's first use of a shared account of the same name (_hold_shared).
        Application.objects.select_for_update(no_key=True).get(pk=application.pk)
    for name in names:
        if name not in held:
            if PrincipalClaim.objects.filter(application=application, principal=name, shared=True).exists():
                raise _held_by_person(name)
            PrincipalClaim.objects.create(
                organization_id=application.organization_id, application=application, principal=name
            )
        elif held[name].identity_id is not None:
            raise _held_by_person(name)


def _held_by_person(name: str) -> PrincipalTaken:
    return PrincipalTaken(
        f'The account name "{name}" is held by a person here. Let the policy name another account, or let an '
        "administrator release the name."
    )


def machine_key_id(application: Application, token: ServiceToken) -> str:
    """<team>/<application>/<name>+<client id>: readable, and the client id tells tokens of one name apart. No "@", so
    it is never a person's."""
    team = application.organization.team_name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", token.name).strip("-")[:40]
    last = f"{name}+{token.client_id}" if name else token.client_id
    readable = f"{team}/{_application_label(application)}/{last}"
    return readable if is_key_id(readable) else f"{team}/{application.pk}/{token.client_id}"


def _alias_beside(
    application: Application, identity: Identity, claims: Sequence[PrincipalClaim]
) -> list[PrincipalClaim]:
    """The local part beside other accounts: one that is no account name is left out, one that is somebody else's is
    an error even then (AC-01: nothing is dropped silently)."""
    try:
        alias = _claim_alias(application, identity)
    except PrincipalTaken:
        raise
    except PrincipalRefused:
        if not claims:
            raise
        return []
    return [] if alias.principal in {claim.principal for claim in claims} else [alias]


def _claim_alias(application: Application, identity: Identity) -> PrincipalClaim:
    """The name the e-mail address yields. Rows without an address came from a policy or a claim: not looked at here."""
    known = _CLAIMS.all(application=application.pk, identity=identity.pk)
    own = [claim for claim in known if claim.email and not claim.shared]
    kept = _kept_after_email_change(own, identity)
    if kept is not None:
        return kept
    name = principal_of(
        email=identity.email,
        email_verified=identity.email_verified,
        overrides=application.principal_overrides,
        reserved=_reserved(application),
    )
    held = next((claim for claim in own if claim.principal == name), None)
    return held if held is not None else _hold(application, identity, name, email=identity.email)


def _hold(application: Application, identity: Identity, name: str, *, email: str) -> PrincipalClaim:
    """The exclusive claim on `name`, found or made."""
    holder = PrincipalClaim.objects.filter(application=application, principal=name, shared=False).first()
    if holder is not None and holder.identity_id == identity.pk:
        return holder
    if holder is not None:
        by = "another person" if holder.identity_id else "service tokens"
        raise PrincipalTaken(
            f'The account name "{name}" is held by {by} here. An administrator can map your e-mail address '
            "to another account, or release the name."
        )
    if name in _shared_names(application):
        raise PrincipalTaken(
            f'The account name "{name}" is one that people share here by a policy, so nobody gets it for themselves. '
            "An administrator can map your e-mail address to another account."
        )
    return PrincipalClaim.objects.create(
        organization_id=application.organization_id,
        application=application,
        principal=name,
        identity=identity,
        email=email,
        key_id=_key_id(application, identity),
    )


def _hold_shared(application: Application, identity: Identity, name: str) -> PrincipalClaim:
    """A shared account: every identity has its own row, and by it a key id that names the person (AC-15)."""
    values = {"application": application, "identity": identity, "principal": name, "shared": True}
    held = PrincipalClaim.objects.filter(**values).first()
    if held is not None:
        return held
    # One first use after the other: two people with the same address never get the same key id.
    Application.objects.select_for_update(no_key=True).get(pk=application.pk)
    if PrincipalClaim.objects.filter(application=application, principal=name, identity=None).exists():
        raise PrincipalTaken(
            f'The account name "{name}" is held by service tokens here. An administrator can release the name, or let '
            "the policy name another account."
        )
    return PrincipalClaim.objects.create(
        organization_id=application.organization_id, key_id=_key_id(application, identity), **values
    )


def _shared_names(application: Application) -> set[str]:
    """Accounts that any policy of the application names for people."""
    rows = ApplicationPolicy.objects.filter(application=application, policy__ssh__isnull=False).exclude(
        policy__decision=Policy.Decision.NON_IDENTITY
    )
    return {name for (rights,) in rows.values_list("policy__ssh") if rights for name in rights.get("usernames", [])}


def _reserved(application: Application) -> Collection[str]:
    names: Collection[str] = application.settings.get("reserved_principals", [])
    return names


def _key_id(application: Application, identity: Identity) -> str:
    """One per person and application: that of an earlier claim, if there is one."""
    known = PrincipalClaim.objects.filter(application=application, identity=identity).order_by("pk").first()
    return known.key_id if known is not None else _new_key_id(application, identity)


@transaction.atomic
def release_principal(claim: PrincipalClaim, *, actor: Actor) -> None:
    """The name is free again: the next identity that maps to it becomes its holder."""
    claim = (
        PrincipalClaim.objects.select_for_update(of=("self",), no_key=True)
        .select_related("organization", "application", "identity")
        .get(pk=claim.pk)
    )
    audit.delete(claim)
    audit.record(
        events.PRINCIPAL_RELEASED,
        organization=claim.organization,
        actor=actor,
        target=claim,
        target_label=f"{claim.principal} at {claim.application.name}",
        old={
            "principal": claim.principal,
            "identity": str(claim.identity_id) if claim.identity_id else None,
            "email": claim.email,
        },
    )


def _kept_after_email_change(own: Sequence[PrincipalClaim], identity: Identity) -> PrincipalClaim | None:
    """When the provider now reports another address, the name stays what it was (AC-10): whoever can edit an address
    at the provider must not get a colleague's account by it."""
    current = ascii_lower(identity.email)
    if not own or any(ascii_lower(claim.email) == current for claim in own):
        return None
    return own[-1]


def _new_key_id(application: Application, identity: Identity) -> str:
    """<team>/<application>/<identity>, readable where the parts allow it, otherwise with ids (see sshcert.KEY_ID)."""
    team = application.organization.team_name
    readable = f"{team}/{_application_label(application)}/{identity.email}"
    if is_key_id(readable) and not _used_by_another(application, identity, readable):
        return readable
    return f"{team}/{application.pk}/{identity.pk}"


def _application_label(application: Application) -> str:
    """First label of the hostname, the whole hostname when another application shares that label, else the id."""
    label, _, _ = application.hostname.partition(".")
    if label == "*":
        return str(application.pk)
    others = Application.objects.filter(organization_id=application.organization_id).exclude(pk=application.pk)
    if not others.filter(hostname__startswith=f"{label}.").exists():
        return label
    return str(application.pk) if others.filter(hostname=application.hostname).exists() else application.hostname


def _used_by_another(application: Application, identity: Identity, key_id: str) -> bool:
    """Also by somebody whose claim was released since: logs and revocation lists still name that person."""
    claims = PrincipalClaim.objects.filter(application=application, key_id=key_id).exclude(identity=identity)
    issued = Certificate.objects.filter(application=application, key_id=key_id).exclude(identity=identity)
    return claims.exists() or issued.exists()
