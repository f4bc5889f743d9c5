"""Login through SAML 2.0, against an identity provider that others wrote (pysaml2)."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone

from accounts.actions.identity_providers import create_provider
from accounts.actor import system
from accounts.errors import InvalidInput
from accounts.models import AccessSession, AuditEvent, Identity, IdentityProvider
from tests.access.edge_client import HOST, TEAM, EdgeBrowser
from tests.access.idp_flows import team_url, to_provider
from tests.access.login_flows import make_application, start_at_application
from tests.access.saml_idp import SSO_URL, IncorrectlySigned, SamlIdp, edited, encrypted

ALICE = "alice@widgetcorp.test"
ATTRIBUTES = {"email": ALICE, "groups": ["engineering", "staff"], "department": ["R&D"], "secretNote": ["x"]}
CALLBACK = f"https://{TEAM}/cdn-cgi/access/callback"


def saml_provider(organization, idp: SamlIdp, **changes) -> IdentityProvider:
    config = {
        "metadata_xml": idp.metadata(),
        "sign_request": True,
        "attributes": ["department"],
        "email_trusted_domains": ["widgetcorp.test"],
        **changes,
    }
    provider = create_provider(
        organization, type="saml", name="Corp SAML", config=config, client_secret=None, actor=system("tests")
    )
    metadata = EdgeBrowser().get(team_url(f"/cdn-cgi/access/saml-metadata/{provider.id}"))
    assert metadata.status_code == 200
    idp.trust(metadata.content.decode())
    return provider


@pytest.fixture
def idp(tmp_path):
    return SamlIdp(tmp_path)


@pytest.fixture
def provider(cast, idp):
    return saml_provider(cast.widgetcorp, idp)


@pytest.fixture
def application(cast):
    return make_application(cast.widgetcorp, emails=(ALICE,))


def deliver(browser: EdgeBrowser, saml_response: str, relay_state: str, **extra):
    """The form of the provider's page: another site's, so it has no CSRF token of ours."""
    fields = {"SAMLResponse": saml_response, "RelayState": relay_state}
    return browser.request("POST", CALLBACK, fields, HTTP_ORIGIN="https://idp.example.test", **extra)


def begin(browser: EdgeBrowser, idp: SamlIdp, provider, url: str | None = None):
    return idp.read_request(to_provider(browser, url or team_url(), provider))


def test_login_gives_an_application_token_and_keeps_attributes(cast, idp, provider, application):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider, start_at_application(browser, application, "/x"))
    answer = deliver(browser, idp.respond(request, ATTRIBUTES), relay_state)
    assert answer.status_code == 302, answer.content.decode()
    assert browser.get(answer["Location"])["Location"] == f"https://{HOST}/x"
    identity = Identity.objects.get()
    assert (identity.subject, identity.email, identity.email_verified) == ("u-1", ALICE, True)
    assert identity.groups == ["engineering", "staff"]
    assert identity.claims == {"department": ["R&D"]}
    session = AccessSession.objects.get()
    assert session.authentication_methods == ["mfa"]
    assert session.authenticated_at is not None and session.authenticated_at.year == 2025


def test_requests_are_signed_and_name_our_address(cast, idp, provider):
    """pysaml2 refuses an unsigned or wrongly signed request: want_authn_requests_signed."""
    url = to_provider(EdgeBrowser(), team_url(), provider)
    assert (
        url.startswith(f"{SSO_URL}?")
        and "SigAlg=http%3A%2F%2Fwww.w3.org%2F2001%2F04%2Fxmldsig-more%23rsa-sha256" in url
    )
    request, _ = idp.read_request(url)
    assert request.assertion_consumer_service_url == CALLBACK and request.issuer.text == CALLBACK
    assert request.destination == SSO_URL
    with pytest.raises(IncorrectlySigned):
        idp.read_request(re.sub(r"RelayState=[^&]*", "RelayState=another", url))


@pytest.mark.parametrize(("response", "assertion"), [(True, False), (False, True), (True, True)])
def test_a_signature_of_the_response_or_the_assertion_is_enough(cast, idp, provider, response, assertion):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    signed = idp.respond(request, ATTRIBUTES, sign_response=response, sign_assertion=assertion)
    assert deliver(browser, signed, relay_state).status_code == 302


def refused(browser, encoded, relay_state, said):
    answer = deliver(browser, encoded, relay_state)
    assert answer.status_code == 401 and said in answer.content.decode(), answer.content.decode()
    assert not AccessSession.objects.exists() and not Identity.objects.exists()
    assert AuditEvent.objects.filter(name="accounts.login.failed", new__reason="saml_refused").count() == 1


def test_an_unsigned_answer_is_refused(cast, idp, provider):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, idp.respond(request, ATTRIBUTES, sign_assertion=False), relay_state, "not signed")


def test_an_answer_signed_by_another_key_is_refused(cast, idp, provider, tmp_path):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    forger = SamlIdp(tmp_path, name="forger")
    forger.trust(EdgeBrowser().get(team_url(f"/cdn-cgi/access/saml-metadata/{provider.id}")).content.decode())
    refused(browser, forger.respond(request, ATTRIBUTES), relay_state, "signature does not fit")


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml.replace(ALICE, "boss@widgetcorp.test"),
        lambda xml: xml.replace(">u-1<", ">u-2<"),
        lambda xml: xml.replace("engineering", "owners-only"),
    ],
)
def test_a_changed_assertion_is_refused(cast, idp, provider, change):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, edited(idp.respond(request, ATTRIBUTES), change), relay_state, "signature does not fit")


def test_signature_wrapping_is_refused(cast, idp, provider):
    """The signed assertion stays as it was, and a forged one is put before it."""

    def wrap(xml: str) -> str:
        found = re.search(r"<(\w+):Assertion .*</\1:Assertion>", xml, re.S)
        assert found
        forged = re.sub(r"<(\w+):Signature .*?</\1:Signature>", "", found.group(0), flags=re.S)
        forged = re.sub(r' ID="[^"]*"', ' ID="id-forged"', forged, count=1).replace(ALICE, "boss@widgetcorp.test")
        return xml.replace(found.group(0), forged + found.group(0))

    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, edited(idp.respond(request, ATTRIBUTES), wrap), relay_state, "exactly one assertion")


def test_xml_entities_are_refused(cast, idp, provider):
    def bomb(xml: str) -> str:
        body = re.sub(r"^<\?xml[^>]*\?>", "", xml)
        return f'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>{body}'.replace(ALICE, "&f;")

    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, edited(idp.respond(request, ATTRIBUTES), bomb), relay_state, "can not be read")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"in_response_to": "id-of-another-login"}, "answers another login"),
        ({"in_response_to": None}, "not for this login"),
        ({"destination": f"{CALLBACK}.evil.test"}, "another address"),
        ({"destination": "https://other.example.test/acs"}, "another address"),
    ],
)
def test_an_answer_for_something_else_is_refused(cast, idp, provider, changes, said):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, idp.respond(request, ATTRIBUTES, **changes), relay_state, said)


def test_an_assertion_for_another_audience_is_refused(cast, idp, provider):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    other = EdgeBrowser().get(team_url(f"/cdn-cgi/access/saml-metadata/{provider.id}")).content.decode()
    idp.trust(other.replace(f'entityID="{CALLBACK}"', 'entityID="https://another-service.test"'))
    signed = idp.respond(request, ATTRIBUTES, sp_entity_id="https://another-service.test")
    refused(browser, signed, relay_state, "another audience")


def test_an_assertion_of_another_issuer_is_refused(cast, idp, provider, tmp_path):
    """AC-44: the certificate fits, the issuer is another than the one this login was started at."""
    IdentityProvider.objects.filter(pk=provider.pk).update(
        config={**provider.config, "issuer_url": "https://other-idp.test"}
    )
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, idp.respond(request, ATTRIBUTES), relay_state, "another issuer")


def test_ac39_an_answer_is_good_once_and_in_its_browser_only(cast, idp, provider):
    browser, stranger = EdgeBrowser(), EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    encoded = idp.respond(request, ATTRIBUTES)
    begin(stranger, idp, provider)
    for other, state in ((stranger, relay_state), (EdgeBrowser(), relay_state), (browser, "x" * 43), (browser, "")):
        answer = deliver(other, encoded, state)
        assert answer.status_code == 401 and "no login that was started" in answer.content.decode()
    cookie = browser.cookie(TEAM, "__Host-CF_SAML")
    assert deliver(browser, encoded, relay_state).status_code == 302
    browser.set_cookie(TEAM, "__Host-CF_SAML", cookie)
    again = deliver(browser, encoded, relay_state)
    assert again.status_code == 401 and "used already" in again.content.decode()
    # Nor does the same assertion answer another login of the same browser.
    browser.set_cookie(TEAM, "CF_Authorization", "")
    _, second_state = begin(browser, idp, provider)
    replayed = deliver(browser, encoded, second_state)
    assert replayed.status_code == 401 and "answers another login" in replayed.content.decode()
    assert AccessSession.objects.count() == 1


def test_saml_answers_do_not_come_by_get_and_codes_not_by_post(cast, idp, provider):
    browser = EdgeBrowser()
    _, relay_state = begin(browser, idp, provider)
    answer = browser.get(f"{CALLBACK}?state={relay_state}&code=x")
    assert answer.status_code == 401 and "not the one of Corp SAML" in answer.content.decode()


def test_ac11_addresses_outside_the_trusted_domains_are_not_verified(cast, idp, provider, application):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    deliver(browser, idp.respond(request, {**ATTRIBUTES, "email": "alice@elsewhere.test"}), relay_state)
    identity = Identity.objects.get()
    assert (identity.email, identity.email_verified) == ("alice@elsewhere.test", False)


def test_a_transient_subject_is_refused(cast, idp, provider):
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    transient = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
    refused(browser, idp.respond(request, ATTRIBUTES, name_format=transient), relay_state, "persistent")


def test_encrypted_assertions_are_read_and_plain_ones_refused_when_wanted(cast, idp):
    provider = saml_provider(cast.widgetcorp, idp, enable_encryption=True)
    metadata = EdgeBrowser().get(team_url(f"/cdn-cgi/access/saml-metadata/{provider.id}")).content.decode()
    browser = EdgeBrowser()
    request, relay_state = begin(browser, idp, provider)
    refused(browser, idp.respond(request, ATTRIBUTES), relay_state, "not encrypted")
    request, relay_state = begin(browser, idp, provider)
    answer = deliver(browser, encrypted(idp.respond(request, ATTRIBUTES), metadata), relay_state)
    assert answer.status_code == 302, answer.content.decode()
    assert Identity.objects.get().groups == ["engineering", "staff"]
    assert AccessSession.objects.get().authentication_methods == ["mfa"]


def test_metadata_of_another_tenants_provider_is_not_here(cast, idp, provider):
    other = f"https://evilcorp.access.example.test/cdn-cgi/access/saml-metadata/{provider.id}"
    assert EdgeBrowser().get(other).status_code == 404
    IdentityProvider.objects.update(deleted_at=timezone.now())
    assert EdgeBrowser().get(team_url(f"/cdn-cgi/access/saml-metadata/{provider.id}")).status_code == 404


def test_our_metadata_names_address_and_certificate_and_no_private_key(cast, idp, provider):
    text = EdgeBrowser().get(team_url(f"/cdn-cgi/access/saml-metadata/{provider.id}")).content.decode()
    assert f'entityID="{CALLBACK}"' in text and f'Location="{CALLBACK}"' in text and "X509Certificate" in text
    assert "PRIVATE" not in text and "PRIVATE" not in str(IdentityProvider.objects.values().get())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"metadata_xml": "<nothing/>"}, "needs an entity ID"),
        ({"metadata_xml": "not xml"}, "not a metadata document"),
        ({"issuer_url": "x", "sso_target_url": "https://a.test/sso", "idp_public_certs": ["x"]}, "certificates"),
        ({"issuer_url": "x", "sso_target_url": "https://127.0.0.1/sso", "idp_public_certs": []}, "private"),
        ({"issuer_url": "x"}, "is required"),
    ],
)
def test_a_bad_configuration_is_refused(cast, config, said):
    with pytest.raises(InvalidInput, match=said):
        create_provider(
            cast.widgetcorp, type="saml", name="S", config=config, client_secret=None, actor=system("tests")
        )
    assert not IdentityProvider.objects.exists()
