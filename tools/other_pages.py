"""Pages beside an organization's own, for tools.screenshots: sign-in and account, staff area, Django admin, what people
meet at the team domain and at applications, pages of refusals. Names and addresses; who looks at them is the key."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from nacl.public import PrivateKey

from demo.first_login import HOSTNAME
from demo.installation import Installation

_ORGANIZATION = "/accounts/{account}"
# What applications ask, so that their questions can be seen.
_QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "purpose": (
        "Customer database",
        {
            "purpose_justification_required": True,
            "purpose_justification_prompt": "Which ticket do you work on?",
        },
    ),
    "approval": (
        "Payment hosts",
        {
            "approval_required": True,
            "approval_groups": [{"approvals_needed": 1, "email_addresses": ["alice@widgetcorp.test"]}],
        },
    ),
    "factor": (
        "Vault",
        {"mfa_config": {"allowed_authenticators": ["totp", "security_key", "biometrics"], "session_duration": "24h"}},
    ),
}


def add_questions(here: Installation) -> None:
    for label, (name, asked) in _QUESTIONS.items():
        policy = {"name": "Everybody, asked first", "decision": "allow", "include": [{"everyone": {}}], "precedence": 1}
        body = {"type": "self_hosted", "name": name, "domain": f"{label}.{here.facts['zone']}"}
        here.api("POST", f"{_ORGANIZATION}/access/apps", {**body, "policies": [{**policy, **asked}]})


def of_dashboard(here: Installation, rows: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """By who is signed in: "" is nobody."""
    organization = f"staff/organizations/{here.facts['account_id']}/"
    team = "o/widgetcorp/"
    return {
        "": {
            "entrance-sign-in": "accounts/login/",
            "entrance-sign-up": "accounts/signup/",
            "entrance-password": "accounts/password/reset/",
            "entrance-password-mailed": "accounts/password/reset/done/",
            "entrance-password-old-link": "accounts/password/reset/key/1-set-password/",
            "entrance-invitation-ended": "invitations/no-such-link/",
            "entrance-not-found": "no/such/page/",
            "api-docs": "client/v4/docs",
        },
        rows["viewer"]: {
            "viewer-refused": f"{team}access/groups/add/",
            "viewer-members": f"{team}team/members/",
            "viewer-organization": f"{team}settings/organization/",
            "account-two-factor": "accounts/2fa/",
            "account-keys": "accounts/2fa/webauthn/",
            "account-password": "accounts/password/change/",
            "account-email": "accounts/email/",
            "account-confirm": "accounts/reauthenticate/",
            "account-preferences": "account/preferences/",
            "account-organizations": "?choose",
        },
        rows["staff"]: {
            "staff-organizations": "staff/",
            "staff-nothing-found": "staff/?q=no-such-organization",
            "staff-organization": organization,
            "staff-tools": f"{organization}tools/",
            "staff-jobs": "staff/jobs/",
            "staff-looks-in": f"{team}team/users/",
            "staff-refused": f"{team}access/groups/add/",
            "staff-rows": "staff/data/",
            "staff-rows-of-users": "staff/data/accounts/user/",
            "staff-rows-of-applications": "staff/data/access/application/",
            "staff-rows-of-audit": "staff/data/accounts/auditevent/",
        },
        "owner": {
            "team-users-nobody": f"{team}team/users/?q=no-such-person",
            "team-user-long": f"{team}team/users/{rows['identity']}/",
            "settings-test-good": f"{team}settings/login-methods/{rows['provider']}/tests/{rows['test_good']}/",
            "settings-test-bad": f"{team}settings/login-methods/{rows['provider']}/tests/{rows['test_bad']}/",
            "search-found": f"{team}search/?q=widget",
            "search-nothing": f"{team}search/?q=no-such-thing",
        },
    }


def of_people(here: Installation) -> dict[str, dict[str, str]]:
    """By who is logged in at the team domain: "" is nobody."""
    port = urlsplit(here.facts["edge_url"]).port
    start = f"https://{here.facts['team_domain']}:{port}/"
    key = base64.urlsafe_b64encode(bytes(PrivateKey.generate().public_key)).decode()
    client = f"https://{HOSTNAME}:{port}/cdn-cgi/access/cli?{urlencode({'send_org_token': 'true', 'token': key})}"

    def at(label: str) -> str:
        return f"https://{label}.{here.facts['zone']}:{port}/"

    return {
        "": {
            "people-login": start,
            "people-login-application": at("db"),
            "people-not-found": f"{start}no/such/page",
            "people-error": f"{start}cdn-cgi/access/callback?state=unknown&code=x",
            "edge-unknown-host": at("no-such-host"),
        },
        "alice": {
            "people-start": start,
            "people-start-nothing": f"{start}?q=no-such-application",
            "people-account": f"{start}account",
            "people-authenticators": f"{start}cdn-cgi/access/account",
            "people-purpose": at("purpose"),
            "people-approval": at("approval"),
            "people-second-factor": at("factor"),
            "people-approve": client,
            "edge-needs-client": f"https://{HOSTNAME}:{port}/",
            "edge-no-route": at("db"),
        },
        "carol": {"people-denied": client, "edge-denied": at("db")},
    }
