"""Audit events of logins, tokens and command-line transfers. Imported by AccessConfig.ready()."""

from __future__ import annotations

from accounts import audit

TOKEN_KEYS_CREATED = audit.register("access.token_keys.created", "Token keys created", affects_edge=True)
TOKEN_KEYS_ROTATED = audit.register("access.token_keys.rotated", "Token keys rotated", affects_edge=True)
TOKEN_KEYS_RETIRED = audit.register("access.token_keys.retired", "Old token keys retired", affects_edge=True)
LOGIN_HANDED_OVER = audit.register("access.login.handed_over", "Login handed over to an application")
TOKEN_ISSUED = audit.register("access.token.issued", "Application token issued")
TRANSFER_APPROVED = audit.register("access.transfer.approved", "Command-line login approved")
TRANSFER_DENIED = audit.register("access.transfer.denied", "Command-line login denied by its user")
TRANSFER_FETCHED = audit.register("access.transfer.fetched", "Command-line login fetched by the client")
