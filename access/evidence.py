"""Client certificates and tokens of other applications: what an edge reports about a request, judged here.

The edge verified the certificate in the TLS handshake against the roots it knew for that hostname, and names those
roots. It counts only while every one of them is still a root for that hostname: a root that was removed takes its
certificates with it, at the next request and for live streams at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from access.bearer import session_behind, unverified_audience
from access.client_crls import LIST_EXPIRED, MESSAGES, UNKNOWN_ISSUER, issuers_in, problem_of
from access.evaluation import Decision
from access.facts import NO_EVIDENCE, Evidence, as_document
from access.models import Application, ClientAuthority
from access.selectors import Certificate
from access.sessions import session_of_nonce
from accounts.errors import DomainError
from accounts.models import Organization
from dataplane.wire.shown import ShownCertificate, read_certificate

MAX_DOCUMENT_CHARACTERS = 8192
# Reasons of a refusal that a good certificate might have turned.
_ASKING_FOR_ONE = frozenset({"certificate_required", "service_token_required"})


def evidence_of_request(
    application: Application,
    *,
    hostname: str,
    certificate: ShownCertificate | None,
    linked_token: str | None,
    now: datetime,
) -> Evidence:
    """What of it counts, with the document that an edge keeps for a stream."""
    if certificate is None and not linked_token:
        return NO_EVIDENCE
    document: dict[str, Any] = {"hostname": hostname}
    verified, problem = None, ""
    if certificate is not None and now.timestamp() < certificate.expires_at:
        problem = _problem(application.organization, hostname, certificate, now)
        if not problem:
            verified = Certificate(certificate.common_name, certificate.fingerprint)
            document["certificate"] = certificate.to_document()
    linked = _linked(application.organization, linked_token, now) if linked_token else None
    if linked is not None:
        document["linked"] = {"application": linked[0], "session": linked[1]}
    if len(document) == 1:
        return replace(NO_EVIDENCE, certificate_problem=problem if problem in MESSAGES else "")
    linked_ids = frozenset([linked[0]]) if linked is not None else frozenset[str]()
    return Evidence(verified, linked_ids, as_document(document), problem if problem in MESSAGES else "")


def explained(decision: Decision, evidence: Evidence) -> Decision:
    """A certificate that is revoked, and one that was never shown, are different things to the person refused."""
    if decision.reason not in _ASKING_FOR_ONE or not evidence.certificate_problem:
        return decision
    problem = evidence.certificate_problem
    return replace(decision, reason=problem, message=MESSAGES[problem])


def evidence_of_stream(application: Application, text: str, *, now: datetime) -> Evidence:
    """What of it still counts. A certificate's natural end closes no stream; the end of its root does, and the end of
    the session behind another application's token."""
    if not text:
        return NO_EVIDENCE
    try:
        document = json.loads(text)
        certificate = read_certificate(document.get("certificate"))
        hostname, linked = str(document.get("hostname", "")), document.get("linked")
        named = (str(linked["application"]), str(linked["session"])) if linked else None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return NO_EVIDENCE
    organization = application.organization
    verified = None
    problem = "" if certificate is None else _problem(organization, hostname, certificate, now)
    if certificate is not None and not problem:
        verified = Certificate(certificate.common_name, certificate.fingerprint)
    linked_ids: frozenset[str] = frozenset()
    if named is not None and _still_linked(organization, named, now):
        linked_ids = frozenset([named[0]])
    return Evidence(verified, linked_ids, text, problem if problem in MESSAGES else "")


def _problem(organization: Organization, hostname: str, certificate: ShownCertificate, now: datetime) -> str:
    """Why the certificate does not count at this hostname, "" when it does."""
    rows = ClientAuthority.objects.for_organization(organization)
    columns = rows.values_list("fingerprint", "associated_hostnames", "revocations")
    roots = {fingerprint: lists for fingerprint, names, lists in columns if _is_named(hostname, names)}
    if not certificate.roots or not set(certificate.roots) <= set(roots):
        return "unknown_root"
    lists = [entry for fingerprint in certificate.roots for entry in roots[fingerprint]]
    if not lists:
        return ""
    if not certificate.issuer or not certificate.serial:
        return LIST_EXPIRED  # an edge of before lists existed cannot say which certificate it saw
    if not any(certificate.issuer in entry["known"] for entry in lists):
        # It may be of another of these roots, one without lists; that one says so itself.
        bundles = rows.filter(fingerprint__in=[root for root in certificate.roots if not roots[root]])
        texts = bundles.values_list("certificate", "intermediates")
        if not any(certificate.issuer in issuers_in("".join(bundle)) for bundle in texts):
            return UNKNOWN_ISSUER
    return problem_of(lists, issuer=certificate.issuer, serial=certificate.serial, now=now)


def _is_named(hostname: str, names: Sequence[str]) -> bool:
    return hostname in names or f"*.{hostname.partition('.')[2]}" in names


def _linked(organization: Organization, token: str, now: datetime) -> tuple[str, str] | None:
    """Id of the application a token is for, and its session. A token that does not hold counts as none."""
    audience = unverified_audience(token)
    applications = Application.objects.for_organization(organization).select_related("organization")
    application = applications.filter(aud=audience).first() if audience else None
    if application is None:
        return None
    try:
        session = session_behind(application, token, now=now)
    except DomainError:
        return None
    return str(application.pk), session.nonce


def _still_linked(organization: Organization, named: tuple[str, str], now: datetime) -> bool:
    application_id, nonce = named
    if not Application.objects.for_organization(organization).filter(pk=application_id).exists():
        return False
    return session_of_nonce(organization, nonce, now=now) is not None
