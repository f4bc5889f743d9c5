"""Invitations (AC-56): one address, once, seven days to the second, on the inviter's right at the moment of use."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.actions.invitations import (
    accept_invitation,
    find_invitation,
    invite_member,
    invited_person,
    renew_invitation,
    withdraw_invitation,
)
from accounts.actions.members import change_role, remove_member
from accounts.actor import Actor, ActorKind, system
from accounts.errors import Conflict, DomainError, PermissionDenied
from accounts.models import AuditEvent, Invitation, Membership, User
from accounts.permissions import Role
from accounts.tasks import send_invitation
from tests.factories import PASSWORD, Cast, make_cast, make_user
from tests.pages_kit import browser, event_names, form_id, last_event, login, shown, text_of

NINA = "nina@people.test"


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


def by(user: User) -> Actor:
    return Actor(ActorKind.USER, str(user.pk), user.email, "203.0.113.7")


def invite(cast: Cast, email: str = NINA, role: str = "editor", inviter: User | None = None) -> Invitation:
    user = inviter or cast.alice
    return invite_member(cast.widgetcorp, email=email, role=role, user=user, actor=by(user))


def link_in(message: mail.EmailMessage) -> str:
    found = re.search(r"http://testserver(/invitations/\S+/)", str(message.body))
    assert found is not None
    return found.group(1)


def newest_link() -> str:
    return link_in(mail.outbox[-1])


@pytest.fixture
def nina(db: None) -> User:
    return User.objects.create_user(NINA, PASSWORD)


@pytest.fixture
def admin(cast: Cast) -> User:
    return make_user("adam@widgetcorp.test", cast.widgetcorp, Role.ADMIN)


class TestInviting:
    def test_a_mail_with_a_link_and_no_secret_at_rest(self, cast: Cast) -> None:
        client = login(cast.alice)
        answer = client.post(url("member_invite"), {"email": " Nina@People.test ", "role": "editor"}, follow=True)
        assert "nina@people.test is invited" in text_of(answer)
        message = mail.outbox[0]
        assert (message.to, message.subject) == ([NINA], "alice@widgetcorp.test invites you to Widget Corp")
        assert "as editor" in message.body
        token = newest_link().split("/")[2]
        row = Invitation.objects.get()
        assert len(row.token_sha256) == 64
        assert token not in str(list(Invitation.objects.values()))
        assert token not in str(list(AuditEvent.objects.values()))
        assert token not in shown(client, url("members"))
        assert row.expires_at - row.created_at == pytest.approx(timedelta(days=7), abs=timedelta(seconds=5))
        assert event_names(cast.widgetcorp)[-2:] == ["accounts.invitation.created", "accounts.invitation.sent"]

    def test_the_link_never_follows_the_host_header(self, cast: Cast, settings) -> None:
        settings.DASHBOARD_HOSTS = ["testserver", "other.test"]
        client = Client(headers={"host": "other.test"})
        assert client.login(email=cast.alice.email, password=PASSWORD)
        client.post(url("member_invite"), {"email": NINA, "role": "viewer"})
        assert "http://testserver/invitations/" in mail.outbox[0].body

    def test_a_form_sent_twice_mails_once(self, cast: Cast) -> None:
        client = login(cast.alice)
        sent = {"email": NINA, "role": "viewer", "form_id": form_id(shown(client, url("member_invite")))}
        for _ in range(2):
            assert client.post(url("member_invite"), sent).status_code == 302
        assert len(mail.outbox) == 1

    @pytest.mark.parametrize("email", ["bob@widgetcorp.test", NINA])
    def test_members_and_invited_people_are_refused_at_the_field(self, cast: Cast, email: str) -> None:
        invite(cast)
        answer = login(cast.alice).post(url("member_invite"), {"email": email, "role": "viewer"})
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in text_of(answer)
        assert Invitation.objects.count() == 1

    def test_only_an_owner_invites_owners(self, cast: Cast, admin: User) -> None:
        with pytest.raises(PermissionDenied):
            invite(cast, role="owner", inviter=admin)
        assert not Invitation.objects.exists()

    def test_mails_to_one_address_are_limited(self, cast: Cast) -> None:
        invitation = invite(cast)
        for _ in range(4):
            renew_invitation(invitation, user=cast.alice, actor=by(cast.alice))
        with pytest.raises(DomainError) as refused:
            renew_invitation(invitation, user=cast.alice, actor=by(cast.alice))
        assert refused.value.status == 429

    def test_a_mail_server_that_fails_is_tried_again_with_another_link(self, cast: Cast, monkeypatch) -> None:
        tries: list[str] = []
        send = mail.EmailMessage.send

        def fail_once(message: mail.EmailMessage, *args: object) -> int:
            tries.append(link_in(message))
            if len(tries) == 1:
                raise OSError("no route")
            return send(message)

        monkeypatch.setattr("accounts.tasks.EmailMessage.send", fail_once)
        monkeypatch.setattr("accounts.tasks.MAIL_RETRY_SECONDS", 0)
        invite(cast)
        assert len(set(tries)) == 2
        assert browser().get(tries[0]).status_code == 404
        assert browser().get(tries[1]).status_code == 200

    def test_the_task_run_twice_mails_once(self, cast: Cast) -> None:
        invitation = invite(cast)
        send_invitation(str(invitation.pk))
        assert len(mail.outbox) == 1

    def test_another_tenants_invitation_is_not_found(self, cast: Cast) -> None:
        invitation = invite(cast)
        client = login(cast.mallory)
        for name in ("invitation_resend", "invitation_withdraw"):
            assert client.post(reverse(name, args=["evilcorp", invitation.pk])).status_code == 404


class TestAccepting:
    def test_somebody_new_makes_an_account_with_the_invited_address(self, cast: Cast) -> None:
        invite(cast)
        client, link = browser(), newest_link()
        page = shown(client, link)
        assert "Make an account to accept" in page
        signup = f"/accounts/signup/?next={link}"
        form = shown(client, signup)
        assert f'value="{NINA}"' in form
        assert "readonly" in form
        data = {"email": NINA, "password1": PASSWORD, "password2": PASSWORD, "next": link}
        assert client.post("/accounts/signup/", data)["Location"] == link
        user = User.objects.get(email=NINA)
        assert EmailAddress.objects.get(user=user).verified
        assert len(mail.outbox) == 1  # no second mail asks to confirm an address that the link confirmed
        assert not user.memberships.exists()
        assert "Accept and join" in shown(client, link)
        assert client.post(link)["Location"] == "/o/widgetcorp/"
        assert user.memberships.get().role == Role.EDITOR
        assert "you are a member now, as editor" in shown(client, "/o/widgetcorp/")
        event = last_event(cast.widgetcorp)
        assert (event.name, event.actor_label) == ("accounts.invitation.accepted", NINA)

    def test_signing_up_with_another_address_is_refused(self, cast: Cast) -> None:
        invite(cast)
        client = browser()
        client.get(newest_link())
        data = {"email": "mallory2@people.test", "password1": PASSWORD, "password2": PASSWORD}
        answer = client.post("/accounts/signup/", data)
        assert answer.status_code == 200
        assert "The invitation is for another address" in text_of(answer)
        assert not User.objects.filter(email="mallory2@people.test").exists()

    def test_without_the_link_or_after_it_ended_nobody_signs_up(self, cast: Cast) -> None:
        invitation = invite(cast)
        data = {"email": NINA, "password1": PASSWORD, "password2": PASSWORD}
        assert "By invitation only" in text_of(browser().post("/accounts/signup/", data))
        client = browser()
        client.get(newest_link())
        withdraw_invitation(invitation, actor=by(cast.alice))
        assert "By invitation only" in text_of(client.post("/accounts/signup/", data))
        assert not User.objects.filter(email=NINA).exists()

    def test_an_existing_account_signs_in_first(self, cast: Cast, nina: User) -> None:
        invite(cast)
        client, link = browser(), newest_link()
        assert "Sign in to accept" in shown(client, link)
        answer = client.post(f"/accounts/login/?next={link}", {"login": NINA, "password": PASSWORD})
        assert answer["Location"] == link
        client.post(link)
        assert nina.memberships.get().role == Role.EDITOR
        assert EmailAddress.objects.get(user=nina).verified

    def test_looking_changes_nothing(self, cast: Cast, nina: User) -> None:
        invite(cast)
        shown(login(nina), newest_link())
        assert not nina.memberships.exists()
        assert Invitation.objects.get().accepted_at is None
        assert browser().post(newest_link()).status_code == 200  # not signed in: the page, nothing else
        assert Invitation.objects.get().accepted_at is None

    def test_acceptance_needs_the_csrf_token(self, cast: Cast, nina: User) -> None:
        invite(cast)
        client = Client(headers={"host": "testserver"}, enforce_csrf_checks=True)
        assert client.login(email=NINA, password=PASSWORD)
        assert client.post(newest_link()).status_code == 403
        assert not nina.memberships.exists()


class TestAc56:
    def test_ac56_another_account_cannot_use_the_link(self, cast: Cast) -> None:
        invite(cast)
        client = login(cast.mallory)
        assert "signed in as mallory@evilcorp.test" in shown(client, newest_link())
        answer = client.post(newest_link())
        assert answer.status_code == 403
        assert not Membership.objects.filter(organization=cast.widgetcorp, user=cast.mallory).exists()
        event = last_event(cast.widgetcorp)
        assert event.name == "accounts.invitation.refused"
        assert event.new == {"reason": "wrong_account", "email": cast.mallory.email}

    @pytest.mark.parametrize(("seconds", "works"), [(-1, True), (0, False), (1, False)])
    def test_ac56_expiry_to_the_second(self, cast: Cast, nina: User, monkeypatch, seconds: int, works: bool) -> None:
        invitation = invite(cast)
        moment = invitation.expires_at + timedelta(seconds=seconds)
        link = newest_link()
        client = login(nina)
        monkeypatch.setattr("accounts.actions.invitations.timezone", SimpleNamespace(now=lambda: moment))
        answer = client.post(link)
        assert answer.status_code == (302 if works else 410)
        assert nina.memberships.exists() is works

    def test_ac56_works_once(self, cast: Cast, nina: User) -> None:
        invite(cast)
        client, link = login(nina), newest_link()
        client.post(link)
        remove_member(nina.memberships.get(), actor=by(cast.alice))
        answer = client.post(link)
        assert answer.status_code == 410
        assert "used already" in text_of(answer)
        assert not nina.memberships.exists()

    def test_ac56_withdrawn(self, cast: Cast, nina: User) -> None:
        invitation = invite(cast)
        client = login(cast.alice)
        assert "Withdraw the invitation of nina@people.test?" in shown(
            client, url("invitation_withdraw", invitation.pk)
        )
        client.post(url("invitation_withdraw", invitation.pk))
        assert last_event(cast.widgetcorp).name == "accounts.invitation.withdrawn"
        assert login(nina).post(newest_link()).status_code == 410
        assert not nina.memberships.exists()
        invite(cast)  # and may be invited again

    @pytest.mark.parametrize("loss", ["removed", "demoted", "deactivated", "deleted"])
    def test_ac56_dead_when_the_inviter_lost_the_right(self, cast: Cast, nina: User, admin: User, loss: str) -> None:
        invite(cast, inviter=admin)
        link, membership = newest_link(), admin.memberships.get()
        if loss == "removed":
            remove_member(membership, actor=by(cast.alice))
        elif loss == "demoted":
            change_role(membership, role="editor", actor=by(cast.alice))
        elif loss == "deactivated":
            User.objects.filter(pk=admin.pk).update(is_active=False)
        else:
            admin.delete()
        answer = login(nina).post(link)
        assert answer.status_code == 410
        assert "may not invite people any more" in text_of(answer)
        assert not nina.memberships.exists()
        page = shown(login(cast.alice), url("members"))
        assert "does not work" in page

    def test_ac56_an_owners_invitation_of_an_owner_dies_with_the_ownership(self, cast: Cast, nina: User) -> None:
        second = make_user("olga@widgetcorp.test", cast.widgetcorp, Role.OWNER)
        invite(cast, role="owner", inviter=second)
        change_role(second.memberships.get(), role="admin", actor=by(cast.alice))
        assert login(nina).post(newest_link()).status_code == 410

    def test_resending_makes_a_new_link_in_the_senders_name(self, cast: Cast, nina: User, admin: User) -> None:
        invitation = invite(cast, inviter=admin)
        old = newest_link()
        remove_member(admin.memberships.get(), actor=by(cast.alice))
        answer = login(cast.alice).post(url("invitation_resend", invitation.pk), follow=True)
        assert "A new mail" in text_of(answer)
        assert newest_link() != old
        client = login(nina)
        assert client.post(old).status_code == 404
        assert client.post(newest_link()).status_code == 302
        assert nina.memberships.get().role == Role.EDITOR

    def test_an_expired_invitation_works_again_after_resending(self, cast: Cast, nina: User) -> None:
        invitation = invite(cast)
        Invitation.objects.update(expires_at=timezone.now() - timedelta(days=1))
        assert "expired" in shown(login(cast.alice), url("members"))
        renew_invitation(invitation, user=None, actor=system("tests"))
        assert login(nina).post(newest_link()).status_code == 302

    def test_unknown_links_say_so(self, db: None) -> None:
        answer = browser().get("/invitations/not-a-token/")
        assert answer.status_code == 404
        assert "not known" in text_of(answer)

    def test_a_member_who_accepts_keeps_the_role(self, cast: Cast) -> None:
        invite(cast)
        make_user(NINA, cast.widgetcorp, Role.VIEWER)
        nina = User.objects.get(email=NINA)
        assert login(nina).post(newest_link()).status_code == 409
        assert nina.memberships.get().role == Role.VIEWER


@pytest.fixture
def committed(transactional_db: None) -> Iterator[Cast]:
    return make_cast()


def in_parallel(*works) -> list[str]:
    """Each in a thread with a connection of its own; how each ended."""
    ends: list[str] = []
    barrier = threading.Barrier(len(works))

    def run(work) -> None:
        try:
            barrier.wait(timeout=10)
            work()
            ends.append("done")
        except DomainError as error:
            ends.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return sorted(ends)


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_accepted_twice_at_once_is_one_membership(self, committed: Cast) -> None:
        invite(committed)
        nina = User.objects.create_user(NINA, PASSWORD)
        token = newest_link().split("/")[2]
        accept = lambda: accept_invitation(find_invitation(token), user=nina, actor=invited_person(nina, None))  # noqa: E731
        ends = in_parallel(accept, accept)
        assert ends[0] == "done" or ends[1] == "done"
        assert len([end for end in ends if end == "done"]) == 1
        assert nina.memberships.count() == 1

    def test_withdrawn_and_accepted_at_once_is_one_of_both(self, committed: Cast) -> None:
        invitation = invite(committed)
        nina = User.objects.create_user(NINA, PASSWORD)
        token = newest_link().split("/")[2]
        ends = in_parallel(
            lambda: accept_invitation(find_invitation(token), user=nina, actor=invited_person(nina, None)),
            lambda: withdraw_invitation(invitation, actor=by(committed.alice)),
        )
        row = Invitation.objects.get()
        assert ends.count("done") == 1
        assert (row.accepted_at is None) != (row.withdrawn_at is None)
        assert nina.memberships.exists() is (row.accepted_at is not None)

    def test_invited_twice_at_once_is_one_invitation(self, committed: Cast) -> None:
        ends = in_parallel(lambda: invite(committed), lambda: invite(committed))
        assert ends == ["already_invited", "done"]
        assert Invitation.objects.count() == 1


def test_conflict_when_acting_on_an_ended_invitation(cast: Cast) -> None:
    invitation = invite(cast)
    withdraw_invitation(invitation, actor=by(cast.alice))
    for work in (withdraw_invitation, lambda row, actor: renew_invitation(row, user=cast.alice, actor=actor)):
        with pytest.raises(Conflict):
            work(invitation, actor=by(cast.alice))
