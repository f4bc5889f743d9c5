"""External evaluation: a signed question about a person, and a signed answer (product.md 1.5).

We POST {"token": <JWT of ours: identity, nonce>} to `evaluate_url`; the reply is {"token": <JWT>} signed by an RSA key
of `keys_url`, not expired, with the same nonce and `success` true or false. Whatever else happens is no answer, and no
answer refuses. Both URLs were typed by a tenant: they are fetched under the guard of accounts.fetch (AC-66).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import jwt
from django.core.cache import cache

from access import tokens
from accounts import fetch
from accounts.models import AccessSession

# One session is asked about again after this time; a missing answer sooner.
ANSWER_SECONDS = 60
NO_ANSWER_SECONDS = 10
KEYS_SECONDS = 60
MAX_KEYS = 32
# Evaluators asked for one decision; rules beyond stay unanswered.
MAX_EVALUATORS = 5
CLOCK_SKEW_SECONDS = 60
_ALGORITHMS = ("RS256", "RS384", "RS512")

Fact = bool | str
# evaluate_url and keys_url.
Pair = tuple[str, str]


class _NoAnswer(Exception):
    """Why; for administrators."""


@dataclass(frozen=True, slots=True)
class Question:
    """Signed, and not asked yet."""

    pair: Pair
    organization_id: str
    cache_key: str
    nonce: str
    token: str = field(repr=False)


def ask_all(pairs: Iterable[Pair], *, session: AccessSession, ip: str, country: str, now: datetime) -> dict[Pair, Fact]:
    """What each (evaluate_url, keys_url) says about the person of `session`: True, False, or why there is no answer."""
    found: dict[Pair, Fact] = {}
    for pair in asked_of(pairs):
        known = remembered(pair, session=session, ip=ip)
        if known is None:
            known = answer_to(prepare(pair, session=session, ip=ip, country=country, now=now))
        found[pair] = known
    return found


def asked_of(pairs: Iterable[Pair]) -> list[Pair]:
    return sorted(set(pairs))[:MAX_EVALUATORS]


def remembered(pair: Pair, *, session: AccessSession, ip: str) -> Fact | None:
    known: Fact | None = cache.get(_cache_key(pair, session, ip))
    return known


def prepare(pair: Pair, *, session: AccessSession, ip: str, country: str, now: datetime) -> Question:
    nonce, identity = secrets.token_urlsafe(24), _identity(session, ip, country)
    token = tokens.mint_external_question(session, audience=pair[0], nonce=nonce, identity=identity, now=now)
    return Question(pair, session.organization_id, _cache_key(pair, session, ip), nonce, token)


def answer_to(question: Question) -> Fact:
    """Over the network; touches no database. Remembered, an answer for longer than none."""
    try:
        fact: Fact = _ask(question)
    except (_NoAnswer, fetch.FetchError) as error:
        fact = f"{error}."
    cache.set(question.cache_key, fact, NO_ANSWER_SECONDS if isinstance(fact, str) else ANSWER_SECONDS)
    cache.delete(_silence_key(question.organization_id, question.pair[0]))
    return fact


def note_silence(organization_id: str, evaluate_url: str) -> bool:
    """An evaluator let a deadline pass. True when it had before, and has said nothing since."""
    return not cache.add(_silence_key(organization_id, evaluate_url), 1, NO_ANSWER_SECONDS)


def _silence_key(organization_id: str, evaluate_url: str) -> str:
    digest = hashlib.sha256(f"{organization_id}\0{evaluate_url}".encode()).hexdigest()
    return f"access.external.silent.{digest}"


def _cache_key(pair: Pair, session: AccessSession, ip: str) -> str:
    digest = hashlib.sha256("\0".join([session.nonce, ip, *pair]).encode()).hexdigest()
    return f"access.external.{digest}"


def _ask(question: Question) -> bool:
    evaluate_url, keys_url = question.pair
    answer = fetch.post_json(evaluate_url, {"token": question.token})
    if answer.status != 200:
        raise _NoAnswer(f"the evaluator answered with HTTP status {answer.status}")
    document = answer.json()
    reply = document.get("token") if isinstance(document, dict) else None
    if not isinstance(reply, str) or len(reply) > tokens.MAX_TOKEN_CHARACTERS:
        raise _NoAnswer('the evaluator\'s answer holds no "token"')
    claims, nonce = _verified(reply, keys_url), question.nonce
    if not isinstance(claims.get("nonce"), str) or not secrets.compare_digest(claims["nonce"].encode(), nonce.encode()):
        raise _NoAnswer("the reply is for another question (nonce)")
    success = claims.get("success")
    if not isinstance(success, bool):
        raise _NoAnswer('"success" in the reply is neither true nor false')
    return success


def _verified(reply: str, keys_url: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(reply)
        if header.get("alg") not in _ALGORITHMS:
            raise _NoAnswer("the reply is not signed with RSA")
        key = jwt.PyJWK(_key_for(header.get("kid"), keys_url), algorithm=header["alg"])
        claims: dict[str, Any] = jwt.decode(
            reply,
            key,
            algorithms=[header["alg"]],
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp"], "verify_aud": False},
        )
    except jwt.ExpiredSignatureError as error:
        raise _NoAnswer("the reply has expired") from error
    except jwt.PyJWTError as error:
        raise _NoAnswer("the reply's signature cannot be verified") from error
    return claims


def _key_for(kid: Any, keys_url: str) -> dict[str, Any]:
    keys = _keys(keys_url)
    named = [key for key in keys if key.get("kid") == kid]
    if kid is None and len(keys) == 1:
        named = keys
    if len(named) != 1:
        raise _NoAnswer("the reply's key is not in the evaluator's key set")
    return named[0]


def _keys(keys_url: str) -> list[dict[str, Any]]:
    """RSA keys only. Remembered for a minute: an unknown key id cannot make us fetch without end (AC-30)."""
    cache_key = f"access.external.keys.{hashlib.sha256(keys_url.encode()).hexdigest()}"
    known: list[dict[str, Any]] | None = cache.get(cache_key)
    if known is not None:
        return known
    answer = fetch.get(keys_url)
    document = answer.json() if answer.status == 200 else None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise _NoAnswer("the evaluator's key set cannot be read")
    keys = [
        {name: key[name] for name in ("kty", "n", "e", "kid") if name in key}
        for key in listed[:MAX_KEYS]
        if isinstance(key, dict) and key.get("kty") == "RSA"
    ]
    cache.set(cache_key, keys, KEYS_SECONDS)
    return keys


def _identity(session: AccessSession, ip: str, country: str) -> dict[str, Any]:
    identity = session.identity
    return {
        "id": str(identity.pk),
        "email": identity.email,
        "email_verified": identity.email_verified,
        "name": identity.name,
        "groups": identity.groups,
        "idp": {"id": str(identity.provider_id), "type": identity.provider.type},
        "amr": session.all_methods,
        "geo": {"country": country},
        "ip": ip,
    }
