"""My account: a person's own authenticators, listed, added, renamed and removed; and recovery codes, shown once."""

from __future__ import annotations

import base64
import io
from uuid import UUID

import qrcode  # type: ignore[import-untyped]
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from qrcode.image.svg import SvgPathFillImage  # type: ignore[import-untyped]

from access.actions.logins import identity_actor
from access.login_links import LoginContext
from access.stylesheet import script_url
from access.views.arrival import login_page
from access.views.public import PublicRequest, public_page, redirect_to, team_session
from access.views.second_factor import arrived, back_to_step, missing, onward, shown_page, spend_try, spend_wrong
from accounts import totp
from accounts.actions.authenticators import (
    Enrolled,
    begin_totp,
    finish_totp,
    remove_authenticator,
    rename_authenticator,
    renew_recovery_codes,
    totp_secret,
)
from accounts.actions.second_factor import authenticators_of, is_fresh
from accounts.errors import AuthenticationFailed, NotFound
from accounts.mfa_models import IdentityAuthenticator, RecoveryCode
from accounts.models import AccessSession
from accounts.ratelimits import FACTOR_TRY_BY_ADDRESS, spend
from accounts.second_factor import BIOMETRICS, SECURITY_KEY, TOTP


@public_page("GET", "HEAD")
def account(request: PublicRequest) -> HttpResponse:
    now = timezone.now()
    session = team_session(request, now)
    context = _account()
    if session is None:
        return login_page(request, context)
    rows = authenticators_of(session)
    codes = RecoveryCode.objects.filter(identity_id=session.identity_id)
    page = {
        "identity": session.identity,
        "session": session,
        "rows": rows,
        "may_change": not rows or is_fresh(session, now, rows),
        "codes_left": codes.filter(used_at__isnull=True).count(),
        "context": context.sign(),
        "confirm": back_to_step(context),
        "adding": [BIOMETRICS, SECURITY_KEY, TOTP],
        "script": script_url(),
    }
    return shown_page(request, "account.html", page)


@public_page("POST")
def start_app(request: PublicRequest) -> HttpResponse:
    """A fresh secret for an authenticator app; POST, because it is kept."""
    spend(FACTOR_TRY_BY_ADDRESS, request.client_ip)
    context, session = arrived(request, request.POST.get("ctx", ""))
    challenge = begin_totp(session, now=timezone.now())
    return redirect_to(f"{reverse('public_app', args=[challenge.pk])}?ctx={context.sign()}", status=303)


@public_page("GET", "HEAD", "POST")
def set_up_app(request: PublicRequest, challenge_id: UUID) -> HttpResponse:
    given = request.POST if request.method == "POST" else request.GET
    context, session = arrived(request, given.get("ctx", ""))
    secret = totp_secret(session, challenge_id, now=timezone.now())
    if secret is None:
        # Set up already (the back button), too old, or of another session.
        step = missing(request, session, context)
        return redirect_to(onward(context) if step is None else back_to_step(context), status=303)
    if request.method != "POST":
        return _app_page(request, context, session, secret)
    spend_try(request, session)
    name = request.POST.get("name", "")
    enrolled = finish_totp(
        session,
        challenge_id=challenge_id,
        code=request.POST.get("code", ""),
        name=name,
        now=timezone.now(),
        actor=identity_actor(session, request.client_ip),
    )
    if enrolled is not None:
        return enrolled_page(request, context, enrolled)
    spend_wrong(session)
    notice = "That code is not right. Check the clock of your phone, and type the newest code."
    return _app_page(request, context, session, secret, notice=notice, name=name, status=403)


@public_page("POST")
def rename(request: PublicRequest, authenticator_id: UUID) -> HttpResponse:
    session, row = _own(request, authenticator_id)
    name = request.POST.get("name", "")
    rename_authenticator(session, row, name=name, actor=identity_actor(session, request.client_ip))
    return redirect_to(reverse("public_account"), status=303)


@public_page("GET", "HEAD", "POST")
def remove(request: PublicRequest, authenticator_id: UUID) -> HttpResponse:
    """Asks first; the action itself asks for a check a moment ago."""
    session, row = _own(request, authenticator_id)
    now, rows = timezone.now(), authenticators_of(session)
    if not is_fresh(session, now, rows):
        return redirect_to(back_to_step(_account(reverse("public_remove", args=[row.pk]))), status=303)
    if request.method != "POST":
        return shown_page(request, "authenticator_remove.html", {"row": row, "is_last": len(rows) == 1})
    remove_authenticator(session, row, now=now, actor=identity_actor(session, request.client_ip))
    return redirect_to(reverse("public_account"), status=303)


@public_page("POST")
def recovery_codes(request: PublicRequest) -> HttpResponse:
    """New ones in place of the old."""
    session = _session(request)
    codes = renew_recovery_codes(session, now=timezone.now(), actor=identity_actor(session, request.client_ip))
    page = {"codes": codes, "onward": reverse("public_account"), "row": None, "script": script_url()}
    return shown_page(request, "recovery_codes.html", page)


def enrolled_page(request: PublicRequest, context: LoginContext, enrolled: Enrolled) -> HttpResponse:
    if not enrolled.recovery_codes:
        return redirect_to(onward(context), status=303)
    page = {
        "codes": enrolled.recovery_codes,
        "onward": onward(context),
        "row": enrolled.authenticator,
        "script": script_url(),
    }
    return shown_page(request, "recovery_codes.html", page)


def _app_page(
    request: PublicRequest,
    context: LoginContext,
    session: AccessSession,
    secret: bytes,
    *,
    notice: str = "",
    name: str = "",
    status: int = 200,
) -> HttpResponse:
    uri = totp.setup_uri(secret, issuer=request.organization.name, account=str(session.identity))
    page = {
        "context": context.sign(),
        "image": _qr_image(uri),
        "secret": totp.secret_text(secret),
        "uri": uri,
        "notice": notice,
        "name": name,
    }
    return shown_page(request, "authenticator_app.html", page, status=status)


def _qr_image(text: str) -> str:
    """A data: URL; white behind the code also on dark pages, or cameras would not read it."""
    image = io.BytesIO()
    qrcode.make(text, image_factory=SvgPathFillImage, box_size=12).save(image)
    return f"data:image/svg+xml;base64,{base64.b64encode(image.getvalue()).decode()}"


def _account(path: str = "") -> LoginContext:
    return LoginContext(redirect_path=path or reverse("public_account"))


def _session(request: PublicRequest) -> AccessSession:
    session = team_session(request, timezone.now())
    if session is None:
        raise AuthenticationFailed("Your session has ended. Log in again.", code="not_logged_in")
    return session


def _own(request: PublicRequest, authenticator_id: UUID) -> tuple[AccessSession, IdentityAuthenticator]:
    """One of the person's own; anybody else's does not exist here."""
    session = _session(request)
    rows = IdentityAuthenticator.objects.for_organization(request.organization)
    row = rows.filter(pk=authenticator_id, identity_id=session.identity_id).first()
    if row is None:
        raise NotFound("This authenticator was removed already.")
    return session, row
