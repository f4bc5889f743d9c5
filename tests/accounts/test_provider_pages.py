"""The dashboard forms of every type of login method."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import IdentityProvider
from accounts.provider_forms import PROVIDER_FORMS
from accounts.providers import LOGIN_METHODS
from accounts.providers.secrets import client_secret, named_secrets
from tests.access.idp_flows import running_idp
from tests.access.saml_idp import ENTITY_ID, SSO_URL, SamlIdp
from tests.pages_kit import login

BASE = "/o/widgetcorp/settings/login-methods"
CLIENT = {"client_id": "client-1", "client_secret": "very-secret-value"}
DIRECTORY = "11111111-2222-3333-4444-555555555555"
FORMS = {
    "okta": {**CLIENT, "okta_account": "corp.okta.com", "api_token": "okta-api-token"},
    "azureAD": {**CLIENT, "directory_id": DIRECTORY, "support_groups": "on", "email_trusted_domains": "a.test\nB.test"},
    "google": CLIENT,
    "google-apps": {**CLIENT, "apps_domain": "WidgetCorp.com"},
    "github": CLIENT,
}


def test_every_type_has_class_form_and_help():
    types = set(IdentityProvider.Type.values)
    assert types == set(LOGIN_METHODS) == set(PROVIDER_FORMS)


@pytest.mark.parametrize("kind", FORMS)
def test_a_login_method_is_made_and_edited_without_showing_its_secrets(cast, kind):
    alice = login(cast.alice)
    page = alice.get(f"{BASE}/add/{kind}/").content.decode()
    slug = "" if kind == "okta" else f"/{kind}"
    assert f"https://widgetcorp.access.example.test/cdn-cgi/access/callback{slug}<" in page
    answer = alice.post(f"{BASE}/add/{kind}/", {"name": "Corp", **FORMS[kind]})
    assert answer.status_code == 302, answer.content.decode()
    provider = IdentityProvider.objects.get()
    assert (provider.type, client_secret(provider)) == (kind, "very-secret-value")
    kept = {"name": "Renamed", **FORMS[kind], "client_secret": "", "api_token": ""}
    assert alice.post(f"{BASE}/{provider.pk}/edit/", kept).status_code == 302
    provider.refresh_from_db()
    assert (provider.name, client_secret(provider)) == ("Renamed", "very-secret-value")
    assert named_secrets(provider) == ({"api_token": "okta-api-token"} if kind == "okta" else {})
    shown = alice.get(f"{BASE}/{provider.pk}/edit/").content.decode() + alice.get(f"{BASE}/").content.decode()
    assert "very-secret-value" not in shown and "okta-api-token" not in shown
    if kind == "azureAD":
        assert provider.config["email_trusted_domains"] == ["a.test", "b.test"]


def test_a_bad_value_is_shown_at_its_field(cast):
    answer = login(cast.alice).post(f"{BASE}/add/azureAD/", {"name": "E", **CLIENT, "directory_id": "common"})
    assert answer.status_code == 422 and "must be the Directory (tenant) ID" in answer.content.decode()


def test_openid_connect_needs_only_its_issuer(cast):
    with running_idp() as idp:
        data = {"name": "Corp", **CLIENT, "issuer": idp.issuer}
        assert login(cast.alice).post(f"{BASE}/add/oidc/", data).status_code == 302
        config = IdentityProvider.objects.get().config
        assert (config["token_url"], config["requires_iss"]) == (f"{idp.issuer}/token", True)
        refused = login(cast.alice).post(f"{BASE}/add/oidc/", {**data, "name": "B", "issuer": f"{idp.issuer}/none"})
        assert refused.status_code == 422 and "no discovery document" in refused.content.decode()


@pytest.mark.parametrize("way", ["file", "pasted"])
def test_saml_metadata_is_uploaded_or_pasted(cast, tmp_path, way):
    document = SamlIdp(tmp_path).metadata()
    sent = {"metadata_file": SimpleUploadedFile("idp.xml", document.encode())} if way == "file" else {}
    attributes = "Job title\nurn:oid:2.5.4.11"
    data = {"name": "SAML", "metadata_xml": "" if sent else document, "attributes": attributes, **sent}
    alice = login(cast.alice)
    answer = alice.post(f"{BASE}/add/saml/", data)
    assert answer.status_code == 302, answer.content.decode()
    provider = IdentityProvider.objects.get()
    assert (provider.config["issuer_url"], provider.config["sso_target_url"]) == (ENTITY_ID, SSO_URL)
    assert provider.config["attributes"] == ["Job title", "urn:oid:2.5.4.11"]
    assert "BEGIN CERTIFICATE" in provider.config["idp_public_certs"][0]
    page = alice.get(f"{BASE}/{provider.pk}/edit/").content.decode()
    assert f"/cdn-cgi/access/saml-metadata/{provider.pk}" in page and "PRIVATE" not in page
    again = {"name": "SAML", **provider.config, "idp_public_certs": provider.config["idp_public_certs"][0]}
    again["attributes"] = "Job title"
    assert alice.post(f"{BASE}/{provider.pk}/edit/", again).status_code == 302
    key = named_secrets(provider)["signing_key"]
    provider.refresh_from_db()
    assert provider.config["attributes"] == ["Job title"] and named_secrets(provider)["signing_key"] == key
