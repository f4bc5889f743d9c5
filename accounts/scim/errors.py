"""Errors in the form SCIM clients read (RFC 7644 section 3.12)."""

from __future__ import annotations

from accounts.errors import DomainError


class ScimError(DomainError):
    """`scim_type` is a keyword of table 9, or ""."""

    def __init__(self, status: int, message: str, scim_type: str = "") -> None:
        super().__init__(message, code=scim_type or f"scim_{status}")
        self.http_status = status
        self.scim_type = scim_type


def invalid_value(message: str) -> ScimError:
    return ScimError(400, message, "invalidValue")


def invalid_filter(message: str) -> ScimError:
    return ScimError(400, message, "invalidFilter")


def invalid_path(message: str) -> ScimError:
    return ScimError(400, message, "invalidPath")
