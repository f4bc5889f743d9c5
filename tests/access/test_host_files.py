"""What SSH hosts fetch from the team domain."""

from __future__ import annotations

import pytest

from access.actions.certificates import revoke_certificate
from access.models import Application, Certificate
from tests.access.edge_client import TEAM, EdgeBrowser
from tests.access.makers import ACTOR, make_application, make_session, sign
from tests.factories import Cast


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp)


def test_ca_file_holds_the_live_keys(application: Application) -> None:
    answer = EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/ssh/{application.aud}/ca.pub")
    assert answer.status_code == 200
    keys = [authority.public_key for authority in application.ssh_authorities.all()]
    assert answer.content.decode() == "".join(f"{key}\n" for key in keys)
    assert "cookie" not in {name.lower() for name in answer.headers}


def test_an_application_without_an_authority_gives_no_empty_ca_file(application: Application) -> None:
    application.ssh_authorities.all().delete()
    answer = EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/ssh/{application.aud}/ca.pub")
    assert answer.status_code == 404


def test_the_list_is_a_well_formed_krl_before_and_after_a_revocation(application: Application) -> None:
    url = f"https://{TEAM}/cdn-cgi/access/ssh/{application.aud}/revoked.krl"
    empty = EdgeBrowser().get(url).content
    assert empty.startswith(b"SSHKRL\n\0")
    issued = sign(application, make_session(application.organization)).json()
    revoke_certificate(Certificate.objects.get(pk=issued["id"]), actor=ACTOR)
    assert len(EdgeBrowser().get(url).content) > len(empty)


def test_another_tenants_application_is_not_there(cast: Cast, application: Application) -> None:
    foreign = make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    for name in ("ca.pub", "revoked.krl"):
        assert EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/ssh/{foreign.aud}/{name}").status_code == 404
        posted = EdgeBrowser().request("POST", f"https://{TEAM}/cdn-cgi/access/ssh/{application.aud}/{name}", {})
        assert posted.status_code in {403, 405}
