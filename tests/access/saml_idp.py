"""A SAML identity provider that others wrote (pysaml2), on no network: the test carries the browser's messages.

pysaml2 calls the xmlsec1 program; here the same library is called through its Python binding instead.
"""

from __future__ import annotations

import base64
import datetime
import itertools
import warnings
from html import unescape
from pathlib import Path
from re import search
from typing import Any
from urllib.parse import parse_qs, urlsplit

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from lxml import etree

from tests.token_keys import shared_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import saml2.saml
    import saml2.sigver
    from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
    from saml2.config import IdPConfig
    from saml2.request import IncorrectlySigned
    from saml2.server import Server

__all__ = ["SSO_URL", "IncorrectlySigned", "SamlIdp", "edited", "encrypted"]

ENTITY_ID = "https://idp.example.test/metadata"
SSO_URL = "https://idp.example.test/sso"
SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
BASIC = "urn:oasis:names:tc:SAML:2.0:attrname-format:basic"
DIGEST = "http://www.w3.org/2001/04/xmlenc#sha256"


class XmlsecBinding(saml2.sigver.CryptoBackend):
    """What pysaml2 asks of xmlsec1, by libxmlsec itself."""

    @property
    def version(self) -> str:
        return "1.3.0"

    def sign_statement(self, statement: str, node_name: str, key_file: str, node_id: str) -> str:
        root = etree.fromstring(statement if isinstance(statement, bytes) else str(statement).encode())
        wanted = node_name.rpartition(":")[2]
        for node in root.iter("{*}" + wanted):
            if node.get("ID") == node_id:
                xmlsec.tree.add_ids(node, ["ID"])
                context = xmlsec.SignatureContext()
                context.key = xmlsec.Key.from_file(key_file, xmlsec.KeyFormat.PEM)
                context.sign(node.find("{http://www.w3.org/2000/09/xmldsig#}Signature"))
                return etree.tostring(root).decode()
        raise AssertionError(f"nothing to sign: {node_name} {node_id}")

    def validate_signature(self, signedtext: str, cert_file: str, cert_type: str, node_name: str, node_id: str) -> bool:
        root = etree.fromstring(signedtext if isinstance(signedtext, bytes) else signedtext.encode())
        xmlsec.tree.add_ids(root, ["ID"])
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_file(cert_file, xmlsec.KeyFormat.CERT_PEM)
        context.verify(root.find(".//{http://www.w3.org/2000/09/xmldsig#}Signature"))
        return True


# Providers made one after the other never have the same key.
_numbers = itertools.cycle(range(100, 104))


def key_pair(directory: Path, name: str) -> tuple[str, str]:
    key = shared_key(next(_numbers))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / f"{name}.key", directory / f"{name}.crt"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(key_file), str(certificate_file)


class SamlIdp:
    def __init__(self, directory: Path, *, entity_id: str = ENTITY_ID, name: str = "idp") -> None:
        self.key_file, self.certificate_file = key_pair(directory, name)
        self.directory, self.entity_id = directory, entity_id
        # Asked once, for the names of its algorithms.
        self._program = directory / "xmlsec1"
        self._program.write_text('#!/bin/sh\nprintf \'Registered transform klasses:\\n"rsa-sha256","sha256"\\n\'\n')
        self._program.chmod(0o755)
        self._server: Any = None
        self._configure([])

    def _configure(self, service_providers: list[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = IdPConfig()
            config.load(
                {
                    "entityid": self.entity_id,
                    "xmlsec_binary": str(self._program),
                    "service": {
                        "idp": {
                            "endpoints": {"single_sign_on_service": [(SSO_URL, BINDING_HTTP_REDIRECT)]},
                            "want_authn_requests_signed": True,
                            "policy": {
                                "default": {
                                    "lifetime": {"minutes": 5},
                                    "name_form": BASIC,
                                }
                            },
                        }
                    },
                    "key_file": self.key_file,
                    "cert_file": self.certificate_file,
                    "metadata": {"inline": service_providers},
                }
            )
            self._server = Server(config=config)
        self._server.sec.crypto = XmlsecBinding()

    def metadata(self) -> str:
        from saml2.metadata import entity_descriptor

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(entity_descriptor(self._server.config))

    def trust(self, service_metadata: str) -> None:
        self._configure([service_metadata])

    def read_request(self, url: str) -> tuple[Any, str]:
        """The AuthnRequest behind our redirect, its signature checked with our metadata; and the RelayState."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = self._server.parse_authn_request(
                query["SAMLRequest"],
                BINDING_HTTP_REDIRECT,
                relay_state=query["RelayState"],
                sigalg=query.get("SigAlg"),
                signature=query.get("Signature"),
            )
        return request.message, query["RelayState"]

    def respond(
        self,
        request: Any,
        attributes: dict[str, Any],
        *,
        subject: str = "u-1",
        name_format: str = saml2.saml.NAMEID_FORMAT_PERSISTENT,
        sign_response: bool = False,
        sign_assertion: bool = True,
        **changes: Any,
    ) -> str:
        """The SAMLResponse form field for this request."""
        given = {
            "in_response_to": request.id,
            "destination": request.assertion_consumer_service_url,
            "sp_entity_id": request.issuer.text,
            **changes,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            response = self._server.create_authn_response(
                attributes,
                given["in_response_to"],
                given["destination"],
                given["sp_entity_id"],
                name_id=saml2.saml.NameID(format=name_format, text=subject),
                authn={"class_ref": "https://refeds.org/profile/mfa", "authn_instant": 1_760_000_000},
                sign_response=sign_response,
                sign_assertion=sign_assertion,
                sign_alg=SHA256,
                digest_alg=DIGEST,
            )
            http = self._server.apply_binding(
                BINDING_HTTP_POST, str(response), given["destination"], "relay", response=True
            )
        found = search(r'name="SAMLResponse" value="([^"]*)"', str(http["data"]))
        assert found
        return unescape(found.group(1))


def edited(encoded: str, change: Any) -> str:
    """The response with its XML text changed, as an attacker in the browser can."""
    return base64.b64encode(change(base64.b64decode(encoded).decode()).encode()).decode()


def encrypted(encoded: str, service_metadata: str) -> str:
    """The response with its assertion encrypted for the certificate in our metadata."""
    names = {"ds": "http://www.w3.org/2000/09/xmldsig#", "md": "urn:oasis:names:tc:SAML:2.0:metadata"}
    found = etree.fromstring(service_metadata.encode()).find(
        ".//md:KeyDescriptor[@use='encryption']//ds:X509Certificate", namespaces=names
    )
    pem = "-----BEGIN CERTIFICATE-----\n" + "".join(found.text.split()) + "\n-----END CERTIFICATE-----\n"
    root = etree.fromstring(base64.b64decode(encoded))
    assertion = root.find("{urn:oasis:names:tc:SAML:2.0:assertion}Assertion")
    wrapper = etree.SubElement(root, "{urn:oasis:names:tc:SAML:2.0:assertion}EncryptedAssertion")
    wrapper.append(assertion)
    data = xmlsec.template.encrypted_data_create(
        root, xmlsec.Transform.AES128, type=xmlsec.EncryptionType.ELEMENT, ns="xenc"
    )
    xmlsec.template.encrypted_data_ensure_cipher_value(data)
    key_info = xmlsec.template.encrypted_data_ensure_key_info(data, ns="ds")
    wrapped = xmlsec.template.add_encrypted_key(key_info, xmlsec.Transform.RSA_OAEP)
    xmlsec.template.encrypted_data_ensure_cipher_value(wrapped)
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(pem, xmlsec.KeyFormat.CERT_PEM, None))
    context = xmlsec.EncryptionContext(manager)
    context.key = xmlsec.Key.generate(xmlsec.KeyData.AES, 128, xmlsec.KeyDataType.SESSION)
    context.encrypt_xml(data, assertion)
    return base64.b64encode(etree.tostring(root)).decode()
