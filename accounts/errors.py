"""Errors of our own operations: each has a stable code, an HTTP status and a message safe to show to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class DomainError(Exception):
    """Base class. `message` says what, why and what to do; it never holds a secret or another tenant's data."""

    status: ClassVar[int] = 400
    code: str = "invalid_request"
    api_code: ClassVar[int] = 12130

    def __init__(self, message: str, *, code: str | None = None, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        # Field name -> message, for forms that show an error beside its input.
        self.fields: dict[str, str] = dict(fields or {})


class InvalidInput(DomainError):
    """Bad input; nothing changed."""


class NotFound(DomainError):
    """Missing, or another tenant's: the two must look the same."""

    status = 404
    code = "not_found"
    api_code = 12135


class Conflict(DomainError):
    """The request contradicts what exists (a name taken, a state already left)."""

    status = 409
    code = "conflict"
    api_code = 11010


class PermissionDenied(DomainError):
    status = 403
    code = "permission_denied"
    api_code = 10000


class AuthenticationFailed(DomainError):
    status = 401
    code = "authentication_failed"
    api_code = 10000


class PolicyDenied(PermissionDenied):
    """The policy decision was not allow; `code` is the reason code of the decision."""

    code = "policy_denied"


class TemporarilyUnavailable(DomainError):
    """A part we depend on did not answer in time; retrying later may work."""

    status = 503
    code = "temporarily_unavailable"
