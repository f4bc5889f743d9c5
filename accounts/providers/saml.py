"""SAML 2.0 web browser SSO: signed AuthnRequest by redirect, signed Response by POST. XML and signatures: python3-saml.

    browser --> begin(): SAMLRequest, RelayState=state, SigAlg, Signature --> IdP --> POST callback: SAMLResponse

The library checks signatures, times, issuer and audience where they are present. What the specification makes optional
and an attacker could leave out, `_required` demands (saml-profiles-2.0 4.1.4): InResponseTo inside the signed part,
exactly our address as recipient, our entity id as audience, an end of validity. A request id is used once and belongs
to one browser, so a replayed assertion finds no login it answers.

Groups: the attribute `groups` (or `groups_attribute_name`). claims[attribute] = list of its values, for the
attributes that the configuration lists. E-mail is never verified by SAML itself: an admin trusts its domains.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Names
from onelogin.saml2.errors import OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from accounts.models import IdentityProvider
from accounts.providers.base import (
    MAX_METHODS,
    MAX_TEXT,
    Flow,
    LoginFailed,
    Person,
    all_groups,
    clean_email,
    counts_as_verified,
    text,
    texts,
)
from accounts.providers.secrets import named_secrets

MAX_RESPONSE_CHARACTERS = 512 * 1024
MAX_METADATA_CHARACTERS = 512 * 1024
MAX_VALUES = 2000
SHARED_CALLBACK = "/cdn-cgi/access/callback"
_EMAIL_FORMAT = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
_TRANSIENT_FORMAT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_EMAIL_ATTRIBUTES = (
    "email",
    "mail",
    "urn:oid:0.9.2342.19200300.100.1.3",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
)
_NAME_ATTRIBUTES = ("name", "displayName", "urn:oid:2.16.840.1.113730.3.1.241")
_METHODS_ATTRIBUTE = "http://schemas.microsoft.com/claims/authnmethodsreferences"
# Authentication contexts in the words of RFC 8176; what is not listed says nothing.
_AMR = {
    "urn:oasis:names:tc:SAML:2.0:ac:classes:Password": "pwd",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport": "pwd",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken": "otp",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:Smartcard": "sc",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI": "sc",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract": "mfa",
    "urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorUnregistered": "mfa",
    "https://refeds.org/profile/mfa": "mfa",
    "http://schemas.microsoft.com/claims/multipleauthn": "mfa",
}
_Errors = OneLogin_Saml2_ValidationError
_PROBLEMS = {
    _Errors.STATUS_CODE_IS_NOT_SUCCESS: "it did not log you in",
    _Errors.WRONG_NUMBER_OF_ASSERTIONS: "it must hold exactly one assertion",
    _Errors.INVALID_XML_FORMAT: "it is not valid SAML",
    _Errors.WRONG_INRESPONSETO: "it answers another login",
    _Errors.NO_ENCRYPTED_ASSERTION: "its assertion is not encrypted",
    _Errors.ASSERTION_TOO_EARLY: "it comes from the future; check the clocks (clock skew)",
    _Errors.ASSERTION_EXPIRED: "it has expired; check the clocks (clock skew)",
    _Errors.SESSION_EXPIRED: "it has expired; check the clocks (clock skew)",
    _Errors.WRONG_DESTINATION: "it is meant for another address",
    _Errors.WRONG_AUDIENCE: "it is meant for another audience (entity ID)",
    _Errors.WRONG_ISSUER: "it names another issuer",
    _Errors.WRONG_SUBJECTCONFIRMATION: "its subject confirmation is not for this login, or has expired",
    _Errors.NO_SIGNATURE_FOUND: "it is not signed",
    _Errors.INVALID_SIGNATURE: "its signature does not fit the certificates of this login method",
    _Errors.DEPRECATED_SIGNATURE_METHOD: "it is signed with SHA-1; switch the provider to SHA-256",
    _Errors.DEPRECATED_DIGEST_METHOD: "it is signed with SHA-1; switch the provider to SHA-256",
    _Errors.NO_NAMEID: "it names no subject (NameID)",
    _Errors.EMPTY_NAMEID: "it names no subject (NameID)",
}


class Saml:
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.SAML
    keys: ClassVar[Mapping[str, str]] = {
        "issuer_url": "text",
        "sso_target_url": "url",
        "idp_public_certs": "certificates",
        "email_attribute_name": "text",
        "groups_attribute_name": "text",
        "attributes": "names",
        "sign_request": "flag",
        "force_authn": "flag",
        "enable_encryption": "flag",
        "email_trusted_domains": "domains",
    }
    required: ClassVar[tuple[str, ...]] = ("issuer_url", "sso_target_url", "idp_public_certs")
    needs_client_secret: ClassVar[bool] = False
    # Made by us when the login method is created, never typed.
    secret_names: ClassVar[tuple[str, ...]] = ()
    answer_method: ClassVar[str] = "POST"

    def callback_slug(self, provider: IdentityProvider) -> str:
        """Shared: the signed issuer, audience and InResponseTo say which login an assertion is for (AC-44)."""
        return ""

    def begin(self, provider: IdentityProvider, flow: Flow) -> str:
        auth = OneLogin_Saml2_Auth(_request_data(flow.redirect_uri), _settings(provider))
        request = OneLogin_Saml2_Authn_Request(
            auth.get_settings(),
            force_authn=provider.config.get("force_authn") is True,
            is_passive=False,
            set_nameid_policy=False,
        )
        document = request.get_xml().replace(request.get_id(), flow.nonce)
        parameters = {
            "SAMLRequest": OneLogin_Saml2_Utils.deflate_and_base64_encode(document),
            "RelayState": flow.state,
        }
        if provider.config.get("sign_request") is True:
            auth.add_request_signature(parameters, Names.RSA_SHA256)
        return str(auth.redirect_to(provider.config["sso_target_url"], parameters))

    def finish(self, provider: IdentityProvider, flow: Flow, answer: Mapping[str, str]) -> Person:
        encoded = answer.get("SAMLResponse", "")
        if not encoded or len(encoded) > MAX_RESPONSE_CHARACTERS:
            raise _refused(provider, "it is missing or too long")
        try:
            response = OneLogin_Saml2_Response(OneLogin_Saml2_Settings(_settings(provider)), encoded)
            response.is_valid(_request_data(flow.redirect_uri), request_id=flow.nonce, raise_exceptions=True)
            _required(provider, flow, response)
            return _person(provider, response)
        except OneLogin_Saml2_ValidationError as error:
            raise _refused(provider, _PROBLEMS.get(error.code, "it is not a valid answer")) from error
        except (OneLogin_Saml2_Error, etree.LxmlError, binascii.Error, ValueError, LookupError) as error:
            # Their texts may quote the answer, so only that it could not be read is said.
            raise _refused(provider, "it can not be read") from error


def service_metadata(provider: IdentityProvider) -> str:
    """What the identity provider imports: our entity id, address, and signing (and encryption) certificate."""
    document = OneLogin_Saml2_Settings(_settings(provider), sp_validation_only=True).get_sp_metadata()
    return document.decode() if isinstance(document, bytes) else str(document)


def read_metadata(document: object) -> dict[str, Any]:
    """Issuer, address and signing certificates from an identity provider's metadata. Raises ValueError."""
    if not isinstance(document, str) or len(document) > MAX_METADATA_CHARACTERS:
        raise ValueError("it is not text, or too long")
    try:
        found = OneLogin_Saml2_IdPMetadataParser.parse(document.strip().encode()).get("idp", {})
    except (etree.LxmlError, ValueError, OneLogin_Saml2_Error) as error:
        raise ValueError("it is not a metadata document") from error
    certificates = found.get("x509certMulti", {}).get("signing") or [found.get("x509cert")]
    target = found.get("singleSignOnService", {}).get("url")
    if not found.get("entityId") or not target or not certificates[0]:
        raise ValueError("it needs an entity ID, a sign-on address for HTTP-Redirect and a signing certificate")
    return {"issuer_url": found["entityId"], "sso_target_url": target, "idp_public_certs": certificates}


def entity_id(provider: IdentityProvider) -> str:
    return f"{provider.organization.team_url}{SHARED_CALLBACK}"


def _settings(provider: IdentityProvider) -> dict[str, Any]:
    config = provider.config
    secrets = named_secrets(provider)
    encrypted = config.get("enable_encryption") is True
    return {
        "strict": True,
        "sp": {
            "entityId": entity_id(provider),
            "assertionConsumerService": {"url": entity_id(provider), "binding": Names.BINDING_HTTP_POST},
            "NameIDFormat": Names.NAMEID_UNSPECIFIED,
            "x509cert": secrets.get("signing_certificate", ""),
            "privateKey": secrets.get("signing_key", ""),
        },
        "idp": {
            "entityId": config.get("issuer_url", ""),
            "singleSignOnService": {"url": config.get("sso_target_url", ""), "binding": Names.BINDING_HTTP_REDIRECT},
            "x509certMulti": {"signing": list(config.get("idp_public_certs", []))},
        },
        "security": {
            "authnRequestsSigned": config.get("sign_request") is True,
            "wantAssertionsEncrypted": encrypted,
            "wantNameId": True,
            "wantAttributeStatement": False,
            "requestedAuthnContext": False,
            "allowRepeatAttributeName": True,
            "allowSingleLabelDomains": True,
            "rejectDeprecatedAlgorithm": True,
            "signatureAlgorithm": Names.RSA_SHA256,
            "digestAlgorithm": Names.SHA256,
        },
    }


def _request_data(redirect_uri: str) -> dict[str, Any]:
    """The library wants to know where the answer arrived: at our own address, whatever the request's headers say."""
    parts = urlsplit(redirect_uri)
    return {"https": "on", "http_host": parts.netloc, "script_name": parts.path, "get_data": {}, "post_data": {}}


def _required(provider: IdentityProvider, flow: Flow, response: OneLogin_Saml2_Response) -> None:
    """The library has made sure that there is one assertion and that a signature covers it."""
    document = response.decrypted_document if response.encrypted else response.document
    assertion = document.find("saml:Assertion", namespaces=Names.NSMAP)
    if assertion is None:
        raise _refused(provider, _PROBLEMS[_Errors.WRONG_NUMBER_OF_ASSERTIONS])
    if entity_id(provider) not in response.get_audiences():
        raise _refused(provider, _PROBLEMS[_Errors.WRONG_AUDIENCE])
    if response.document.get("Destination", flow.redirect_uri) != flow.redirect_uri:
        raise _refused(provider, _PROBLEMS[_Errors.WRONG_DESTINATION])
    if not any(_confirms(data, flow) for data in _confirmations(assertion)):
        raise _refused(provider, _PROBLEMS[_Errors.WRONG_SUBJECTCONFIRMATION])


def _confirmations(assertion: Any) -> list[Any]:
    bearers = assertion.findall("saml:Subject/saml:SubjectConfirmation", namespaces=Names.NSMAP)
    found = [
        confirmation.find("saml:SubjectConfirmationData", namespaces=Names.NSMAP)
        for confirmation in bearers
        if confirmation.get("Method") == Names.CM_BEARER
    ]
    return [data for data in found if data is not None]


def _confirms(data: Any, flow: Flow) -> bool:
    end = data.get("NotOnOrAfter")
    return (
        data.get("InResponseTo") == flow.nonce
        and data.get("Recipient") == flow.redirect_uri
        and end is not None
        and OneLogin_Saml2_Utils.parse_SAML_to_time(end) > OneLogin_Saml2_Utils.now()
    )


def _person(provider: IdentityProvider, response: OneLogin_Saml2_Response) -> Person:
    name_id = response.get_nameid_data()
    subject, name_format = str(name_id["Value"]), name_id.get("Format")
    if name_format == _TRANSIENT_FORMAT or not 0 < len(subject) <= MAX_TEXT:
        raise _refused(
            provider, "its NameID is another one at each login (transient), or too long; send a persistent one"
        )
    attributes = _attributes(response)
    email = _email_of(provider, attributes) or (clean_email(subject) if name_format in {None, _EMAIL_FORMAT} else "")
    wanted = provider.config.get("attributes", [])
    groups = attributes.get(str(provider.config.get("groups_attribute_name") or "groups"), [])
    return Person(
        subject=subject,
        email=email,
        email_verified=counts_as_verified(provider, email, said=None),
        name=next((text(attributes[name][0]) for name in _NAME_ATTRIBUTES if attributes.get(name)), ""),
        groups=all_groups(provider, groups),
        claims={name: attributes[name] for name in sorted(wanted) if name in attributes},
        authentication_methods=_methods(response, attributes)[:MAX_METHODS],
        authenticated_at=_authenticated_at(response),
    )


def _attributes(response: OneLogin_Saml2_Response) -> dict[str, list[str]]:
    """By Name, and by FriendlyName where that says something else; too many values are a refusal, never a cut."""
    found: dict[str, list[str]] = {}
    for source in (response.get_friendlyname_attributes(), response.get_attributes()):
        for name, values in source.items():
            found[str(name)] = texts(values)
    if sum(len(values) for values in found.values()) > 2 * MAX_VALUES:
        raise ValueError("too many attribute values")
    return found


def _email_of(provider: IdentityProvider, attributes: Mapping[str, list[str]]) -> str:
    named = provider.config.get("email_attribute_name")
    for name in [str(named)] if named else _EMAIL_ATTRIBUTES:
        if attributes.get(name):
            return clean_email(attributes[name][0])
    return ""


def _methods(response: OneLogin_Saml2_Response, attributes: Mapping[str, list[str]]) -> list[str]:
    told = [*response.get_authn_contexts(), *attributes.get(_METHODS_ATTRIBUTE, [])]
    return list(dict.fromkeys(_AMR[context] for context in told if context in _AMR))


def _authenticated_at(response: OneLogin_Saml2_Response) -> datetime | None:
    document = response.decrypted_document if response.encrypted else response.document
    statement = document.find("saml:Assertion/saml:AuthnStatement", namespaces=Names.NSMAP)
    instant = statement.get("AuthnInstant") if statement is not None else None
    return datetime.fromtimestamp(OneLogin_Saml2_Utils.parse_SAML_to_time(instant), tz=UTC) if instant else None


def _refused(provider: IdentityProvider, problem: str) -> LoginFailed:
    return LoginFailed(f"The answer of {provider.name} is refused: {problem}.", code="saml_refused")
