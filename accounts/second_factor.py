"""Second factors of our own: which are wanted, which a session holds, and for how long one counts. Pure.

A requirement is written three times, the narrower wins (product.md 1.2, 1.3, 1.14): organization (only with
`mfa_required_for_all_apps`), application, policy. Kept in the public field names, durations as whole seconds:

    {"allowed_authenticators": ["totp", ...], "mfa_disabled": false, "session_duration_seconds": 3600}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from accounts.durations import format_duration, parse_duration
from accounts.errors import InvalidInput

TOTP, BIOMETRICS, SECURITY_KEY = "totp", "biometrics", "security_key"
# A printed code stands for the authenticator app only: where only keys are allowed, paper must not do.
RECOVERY = "recovery_code"
KINDS = (TOTP, BIOMETRICS, SECURITY_KEY)
KIND_TEXTS = {
    TOTP: "Authenticator app (time-based code)",
    BIOMETRICS: "This device's fingerprint, face or PIN (passkey)",
    SECURITY_KEY: "Security key or a phone (passkey)",
    RECOVERY: "Recovery code",
}
DEFAULT_SESSION_SECONDS = 24 * 3600
MAX_SESSION_SECONDS = 720 * 3600
# "0m" asks at each login; a check younger than this belongs to the login under way.
LOGIN_SECONDS = 120
# How long a check lets a person change their own authenticators.
FRESH_SECONDS = 600
# RFC 8176 words of a login method, and which of our kinds they stand for.
_AMR_KINDS: Mapping[str, frozenset[str]] = {
    "otp": frozenset({TOTP}),
    "hwk": frozenset({SECURITY_KEY}),
    "sc": frozenset({SECURITY_KEY}),
    "fpt": frozenset({BIOMETRICS}),
    "face": frozenset({BIOMETRICS}),
    "iris": frozenset({BIOMETRICS}),
    "retina": frozenset({BIOMETRICS}),
    "vbm": frozenset({BIOMETRICS}),
    # It does not say which: good only where each would be.
    "mfa": frozenset(KINDS),
}


class Moment(StrEnum):
    """What is decided: a token at a login, the use of one, or whether a live stream goes on."""

    LOGIN = "login"
    USE = "use"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Factor:
    """A second factor the session holds. `is_own`: checked by us; otherwise the login method reported `kind` (amr)."""

    kind: str
    age_seconds: int
    is_own: bool = True


@dataclass(frozen=True, slots=True)
class MfaRule:
    """What is wanted. `amr_seconds`: for how long a login method's own second factor counts; None: never."""

    kinds: frozenset[str] = frozenset(KINDS)
    session_seconds: int = DEFAULT_SESSION_SECONDS
    amr_seconds: int | None = None

    def held(self, factors: Iterable[Factor], moment: Moment) -> Factor | None:
        """The youngest factor that does."""
        for factor in sorted(factors, key=lambda item: item.age_seconds):
            limit = self._limit(factor, moment)
            if self._admits(factor) and (limit is None or factor.age_seconds <= limit):
                return factor
        return None

    def seconds_left(self, factor: Factor) -> int | None:
        """How long a token given for this factor may live; None: the factor sets no end ("0m")."""
        limit = self.session_seconds if factor.is_own else self.amr_seconds or 0
        return max(1, limit - factor.age_seconds) if limit else None

    def words(self) -> list[str]:
        return [kind for kind in KINDS if kind in self.kinds]

    def _admits(self, factor: Factor) -> bool:
        if factor.is_own:
            return factor.kind in self.kinds or (factor.kind == RECOVERY and TOTP in self.kinds)
        kinds = _AMR_KINDS.get(factor.kind)
        if self.amr_seconds is None or kinds is None:
            return False
        return kinds <= self.kinds

    def _limit(self, factor: Factor, moment: Moment) -> int | None:
        if moment is Moment.STREAM:
            return None  # a stream outlives what opened it (access/recheck.py)
        if not factor.is_own:
            return self.amr_seconds or 0
        return self.session_seconds or (LOGIN_SECONDS if moment is Moment.LOGIN else None)


@dataclass(frozen=True, slots=True)
class MfaDefaults:
    """What a policy without an own word inherits (`rule`), and what fills the gaps of one that has (`fallback`)."""

    rule: MfaRule | None
    fallback: MfaRule


NO_MFA = MfaDefaults(None, MfaRule())


@dataclass(frozen=True, slots=True)
class FactorFacts:
    """What a decision knows of second factors: what application and organization ask for, what the session holds.

    `is_assumed`: simulations and replays count the factor as given, because whoever is let in can give one."""

    defaults: MfaDefaults = NO_MFA
    held: tuple[Factor, ...] = ()
    moment: Moment = Moment.USE
    is_assumed: bool = False


NO_FACTORS = FactorFacts()
ASSUMED = FactorFacts(is_assumed=True)


def mfa_defaults(
    organization: Mapping[str, Any] | None, application: Mapping[str, Any] | None, *, is_required: bool
) -> MfaDefaults:
    fallback = override(MfaRule(), MfaRule(), {**(organization or {}), "mfa_disabled": False}) or MfaRule()
    return MfaDefaults(override(fallback if is_required else None, fallback, application), fallback)


def override(inherited: MfaRule | None, fallback: MfaRule, config: Mapping[str, Any] | None) -> MfaRule | None:
    """Raises KeyError, TypeError or ValueError for what checked_config does not write."""
    if config is None:
        return inherited
    if config.get("mfa_disabled", False):
        return None
    kinds = config.get("allowed_authenticators") or sorted(fallback.kinds)
    seconds = config.get("session_duration_seconds")
    amr = config.get("amr_matching_session_duration_seconds", fallback.amr_seconds)
    if not set(kinds) <= set(KINDS):
        raise ValueError("unknown authenticators in an MFA configuration")
    return MfaRule(frozenset(kinds), fallback.session_seconds if seconds is None else int(seconds), amr)


def provider_factors(methods: Sequence[Any], age_seconds: int) -> tuple[Factor, ...]:
    """What the login method reported, as factors."""
    return tuple(Factor(method, age_seconds, is_own=False) for method in methods if method in _AMR_KINDS)


def amr_of(kind: str, *, is_synced: bool = False) -> list[str]:
    """RFC 8176 words for the `amr` of a session. A synced passkey is a key in software as far as anybody can tell."""
    if kind == TOTP:
        return ["otp", "mfa"]
    if kind == RECOVERY:
        return ["mfa"]
    return ["swk" if is_synced else "hwk", "user", "mfa"]


# --- the public shape -----------------------------------------------------------------------------------------


def checked_config(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An `mfa_config` of a policy or an application, ready to be stored. Raises InvalidInput."""
    if values is None:
        return None
    return {
        "allowed_authenticators": _kinds(values.get("allowed_authenticators")),
        "mfa_disabled": bool(values.get("mfa_disabled")),
        "session_duration_seconds": _seconds(values, "session_duration"),
    }


def checked_organization_config(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    if values.get("required_aaguids"):
        raise _invalid("required_aaguids is not enforced by this product (no attestation is asked for): refused.")
    return {
        "allowed_authenticators": _kinds(values.get("allowed_authenticators")),
        "session_duration_seconds": _seconds(values, "session_duration"),
        "amr_matching_session_duration_seconds": _seconds(values, "amr_matching_session_duration"),
    }


def public_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """As the public API has it: durations in Go's text form."""
    if config is None:
        return None
    shown: dict[str, Any] = {}
    for name, value in config.items():
        if name.endswith("_seconds"):
            shown[name.removesuffix("_seconds")] = None if value is None else minutes_text(value)
        else:
            shown[name] = value
    return shown


def minutes_text(seconds: int) -> str:
    """The public API writes no duration at all as minutes."""
    return format_duration(seconds) if seconds else "0m"


def _kinds(values: Any) -> list[str]:
    if values is None:
        return []
    if not isinstance(values, list | tuple) or not set(values) <= set(KINDS):
        raise _invalid(f"allowed_authenticators is a list of {', '.join(KINDS)}.")
    return [kind for kind in KINDS if kind in values]


def _seconds(values: Mapping[str, Any], name: str) -> int | None:
    """Given as seconds (our forms) or as text (the API)."""
    given = values.get(f"{name}_seconds", values.get(name))
    if given is None or given == "":
        return None
    seconds = parse_duration(given, field=name) if isinstance(given, str) else given
    if not isinstance(seconds, int) or not 0 <= seconds <= MAX_SESSION_SECONDS:
        raise _invalid("A second factor counts for 0m (asked at each login) to 720h.")
    return seconds


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_mfa_config", fields={"mfa_config": message})
