"""Rules are read once per edit, and no edit is ever missed."""

from __future__ import annotations

import pytest

from access import kept
from access.actions.lists import create_list, update_list
from access.decisions import load_rules
from access.kept import Kept
from access.models import AccessList, Group, Policy
from access.selectors import Rule
from access.terms import SshRights
from tests.access.makers import ACTOR, email_rule, make_application, make_session
from tests.access.test_decision_facts import connect
from tests.factories import Cast


def test_the_same_rows_are_read_once(cast: Cast) -> None:
    group = Group.objects.create(organization=cast.widgetcorp, name="g", include=[email_rule("a@x.test")])
    application = make_application(cast.widgetcorp, include=[{"group": {"id": str(group.pk)}}], authority=False)
    (first,), groups = load_rules(application)
    (again,), groups_again = load_rules(application)
    assert again is first
    assert groups_again[str(group.pk)] is groups[str(group.pk)]


def test_an_edit_counts_even_without_a_new_time_stamp(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, include=[email_rule("a@x.test")], authority=False)
    load_rules(application)
    Policy.objects.update(include=[email_rule("b@x.test")])
    (policy,), _ = load_rules(application)
    assert policy.include == (Rule("email", "b@x.test"),)


def test_every_column_counts(cast: Cast) -> None:
    """None may be forgotten when a column is added."""
    application = make_application(cast.widgetcorp, include=[email_rule("a@x.test")], authority=False)
    load_rules(application)
    for change in (
        {"mfa_config": {"allowed_authenticators": ["totp"], "mfa_disabled": False, "session_duration_seconds": None}},
        {"approval_required": True},
        {"purpose_justification_required": True},
        {"ssh": SshRights(usernames=("deploy",)).as_dict()},
        {"session_duration_seconds": 60},
        {"decision": "deny"},
    ):
        (before,), _ = load_rules(application)
        Policy.objects.update(**change)
        (after,), _ = load_rules(application)
        assert after != before, change


def test_changing_a_row_in_place_leaves_nothing_old() -> None:
    made = Kept(tuple, lambda row: (row,), len)
    row = [1]
    assert made.of("key", row) == (1,)
    row.append(2)
    assert made.of("key", row) == (1, 2)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_WEIGHT", 100)
    made = Kept(tuple, lambda row: (row,), len)
    for number in range(1000):
        assert made.of(number, [number] * 9) == (number,) * 9
    assert len(made._made) <= 10


@pytest.mark.parametrize("kind", [AccessList.Type.EMAIL, AccessList.Type.IP])
def test_ac_86_a_changed_list_is_another_set_of_rules(cast: Cast, kind: str) -> None:
    email = kind == AccessList.Type.EMAIL
    items = [{"value": "alice@widgetcorp.test" if email else "0.0.0.0/0"}]
    other = [{"value": "bob@widgetcorp.test" if email else "198.18.0.0/15"}]
    row = create_list(cast.widgetcorp, actor=ACTOR, name="L", type=kind, items=items)
    rule = {"email_list" if email else "ip_list": {"id": str(row.pk)}}
    application = make_application(cast.widgetcorp, include=[rule], authority=False)
    session = make_session(cast.widgetcorp)
    first, same = connect(application, session, "ray-1"), connect(application, session, "ray-2")
    assert first.allowed
    assert first.rules_version == same.rules_version != ""
    update_list(row, actor=ACTOR, items=other)
    after = connect(application, session, "ray-3")
    assert not after.allowed
    assert after.rules_version not in {"", first.rules_version}
