"""Account names in an application: the first identity issued one holds it, until an administrator releases it."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from access import events
from access.models import Application, Certificate, PrincipalClaim
from access.principals import PrincipalRefused, principal_of
from access.sshcert import is_key_id
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


def claim_principal(application: Application, identity: Identity) -> PrincipalClaim:
    """The identity's claim in this application, made at the first use. Part of the action that issues a certificate.

    Raises PrincipalRefused or PrincipalTaken; IntegrityError when somebody claims the same name at this very moment.
    """
    own = _CLAIMS.all(application=application.pk, identity=identity.pk)
    kept = _kept_after_email_change(own, identity)
    if kept is not None:
        return kept
    reserved = application.settings.get("reserved_principals", [])
    name = principal_of(
        email=identity.email,
        email_verified=identity.email_verified,
        overrides=application.principal_overrides,
        reserved=reserved,
    )
    held = next((claim for claim in own if claim.principal == name), None)
    if held is not None:
        return held
    holder = PrincipalClaim.objects.filter(application=application, principal=name).first()
    if holder is not None and holder.identity_id == identity.pk:
        return holder  # claimed between the two queries, by another request of the same person
    if holder is not None:
        raise PrincipalTaken(
            f'The account name "{name}" is held by another person here. An administrator can map your e-mail address '
            "to another account, or release the name."
        )
    return PrincipalClaim.objects.create(
        organization_id=application.organization_id,
        application=application,
        principal=name,
        identity=identity,
        email=identity.email,
        key_id=own[0].key_id if own else _new_key_id(application, identity),
    )


@transaction.atomic
def release_principal(claim: PrincipalClaim, *, actor: Actor) -> None:
    """The name is free again: the next identity that maps to it becomes its holder."""
    claim = (
        PrincipalClaim.objects.select_for_update(of=("self",))
        .select_related("organization", "application", "identity")
        .get(pk=claim.pk)
    )
    audit.record(
        events.PRINCIPAL_RELEASED,
        organization=claim.organization,
        actor=actor,
        target=claim,
        target_label=f"{claim.principal} at {claim.application.name}",
        old={"principal": claim.principal, "identity": str(claim.identity_id), "email": claim.email},
    )
    claim.delete()


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
