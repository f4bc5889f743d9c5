"""The cast and small makers of rows for tests."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.models import Membership, Organization, User
from accounts.permissions import Role

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Cast:
    widgetcorp: Organization
    evilcorp: Organization
    alice: User  # owner of Widget Corp
    erin: User  # editor of Widget Corp
    bob: User  # viewer of Widget Corp
    ada: User  # auditor of Widget Corp
    mallory: User  # owner of Evil Corp


def make_user(email: str, organization: Organization, role: Role) -> User:
    user = User.objects.create_user(email, PASSWORD)
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


def make_cast() -> Cast:
    widgetcorp = Organization.objects.create(name="Widget Corp", team_name="widgetcorp")
    evilcorp = Organization.objects.create(name="Evil Corp", team_name="evilcorp")
    return Cast(
        widgetcorp=widgetcorp,
        evilcorp=evilcorp,
        alice=make_user("alice@widgetcorp.test", widgetcorp, Role.OWNER),
        erin=make_user("erin@widgetcorp.test", widgetcorp, Role.EDITOR),
        bob=make_user("bob@widgetcorp.test", widgetcorp, Role.VIEWER),
        ada=make_user("ada@widgetcorp.test", widgetcorp, Role.AUDITOR),
        mallory=make_user("mallory@evilcorp.test", evilcorp, Role.OWNER),
    )
