"""TLS identities of the edge: a private CA, leaf certificates made on demand, and certificates given by the
operator."""

import datetime
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dataplane.edge.evidence import ROOTS_ATTRIBUTE
from dataplane.edge.files import write_private
from dataplane.edge.snapshot import ClientRoot

logger = logging.getLogger(__name__)

CA_LIFETIME = datetime.timedelta(days=3650)
LEAF_LIFETIME = datetime.timedelta(days=90)
LEAF_RENEW_BEFORE = datetime.timedelta(days=30)
BACK_DATE = datetime.timedelta(hours=1)
MAX_CACHED_LEAVES = 1024
MAX_HOSTNAME_CHARACTERS = 253
# X.520 limits a common name to 64 characters; clients only look at the alternative names anyway.
MAX_COMMON_NAME_CHARACTERS = 64
DEFAULT_NAME = "sallyport.invalid"


class CertificateError(Exception):
    """A CA or certificate on disk cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    context: ssl.SSLContext
    renew_at: datetime.datetime


class CertificateStore:
    """Chooses the certificate for a server name.

    `is_known` says whether a hostname is ours: only for those a leaf is issued, so a scanner sending random
    names can neither burn CPU nor fill the disk.
    """

    def __init__(
        self,
        state_dir: Path,
        certificate_dir: Path | None,
        is_known: Callable[[str], bool],
        client_roots: Callable[[str], tuple[ClientRoot, ...]] = lambda hostname: (),
    ) -> None:
        """`client_roots`: whose client certificates a hostname wants to see; empty for none."""
        self._client_roots = client_roots
        self._asking: OrderedDict[tuple[str, tuple[ClientRoot, ...]], _Leaf] = OrderedDict()
        self._configured_paths: dict[str, Path] = {}
        self._state_dir = state_dir
        self._certificate_dir = certificate_dir
        self._is_known = is_known
        self._ca_key, self._ca = _load_or_create_ca(state_dir)
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaves: OrderedDict[tuple[str, ...], _Leaf] = OrderedDict()
        self._configured: dict[str, ssl.SSLContext] = {}
        self._configured_stamp: tuple[tuple[str, int], ...] = ()
        self.reload_configured()

    def server_context(self) -> ssl.SSLContext:
        """Context for the public listener: picks the certificate by SNI and remembers the name for the 421
        check."""
        context = _new_context()
        context.sni_callback = self._choose
        self._load_leaf(context, (DEFAULT_NAME,))
        self._public = context
        return context

    def public_context_for(self, hostname: str) -> ssl.SSLContext:
        """For a client that will name `hostname`: one that asks for a certificate where there are roots for it."""
        roots = self._client_roots(hostname)
        return self._asking_context(hostname, roots) if roots else self._public

    def fixed_context(self, names: tuple[str, ...]) -> ssl.SSLContext:
        """Context for the connector port: one certificate that carries all `names`, renewed while running."""

        def choose(socket: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            _remember_name(socket, name)
            socket.context = self._leaf_for(names).context

        context = _new_context()
        context.sni_callback = choose
        self._load_leaf(context, names)
        return context

    def reload_configured(self) -> None:
        """Re-reads EDGE_CERT_DIR when a file changed. A pair that cannot be loaded keeps the previous one
        serving."""
        if self._certificate_dir is None:
            return
        stamp = tuple(
            (path.name, path.stat().st_mtime_ns)
            for path in sorted(self._certificate_dir.iterdir())
            if path.suffix in (".crt", ".key")
        )
        if stamp == self._configured_stamp:
            return
        is_first = not self._configured_stamp
        loaded: dict[str, ssl.SSLContext] = {}
        paths: dict[str, Path] = {}
        for certificate_path in sorted(self._certificate_dir.glob("*.crt")):
            try:
                names, context = _load_pair(certificate_path)
            except (OSError, ValueError, ssl.SSLError) as error:
                if is_first:
                    raise CertificateError(f"EDGE_CERT_DIR: cannot load {certificate_path.name}: {error}") from error
                logger.error("certificate %s cannot be loaded, the previous one stays", certificate_path.name)
                return
            loaded.update(dict.fromkeys(names, context))
            paths.update(dict.fromkeys(names, certificate_path))
        self._configured, self._configured_stamp, self._configured_paths = loaded, stamp, paths
        self._asking.clear()

    def _choose(self, socket: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        hostname = _remember_name(socket, name)
        context = self._configured_for(hostname)
        if context is not None:
            socket.context = context
            return
        is_ours = 0 < len(hostname) <= MAX_HOSTNAME_CHARACTERS and hostname.isascii() and self._is_known(hostname)
        socket.context = self._leaf_for((hostname if is_ours else DEFAULT_NAME,)).context

    def _configured_for(self, hostname: str) -> ssl.SSLContext | None:
        return self._configured.get(self._configured_name(hostname))

    def _configured_name(self, hostname: str) -> str:
        """The name under which the operator gave a certificate that covers `hostname`, or ""."""
        _, _, parent = hostname.partition(".")
        candidates = [hostname, *([f"*.{parent}"] if parent else [])]
        return next((name for name in candidates if name in self._configured), "")

    def _asking_context(self, hostname: str, roots: tuple[ClientRoot, ...]) -> ssl.SSLContext:
        """Verifies a client certificate, if one comes, against these roots alone. No session is ever resumed: a
        resumed one would bring along a certificate that was checked long ago."""
        leaf = self._asking.get((hostname, roots))
        if leaf is None or _now() >= leaf.renew_at:
            context = _new_context()
            context.verify_mode = ssl.CERT_OPTIONAL
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
            context.load_verify_locations(cadata="\n".join(root.pem for root in roots))
            fingerprints = tuple(root.fingerprint for root in roots)
            configured = self._configured_name(hostname)
            if configured:
                path = self._configured_paths[configured]
                context.load_cert_chain(path, path.with_suffix(".key"))
            else:
                self._load_leaf(context, (hostname,))

            def choose(tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
                # The certificate counts for this hostname only, whatever else the client may turn out to ask for.
                if _remember_name(tls, name) == hostname:
                    setattr(tls, ROOTS_ATTRIBUTE, fingerprints)

            context.sni_callback = choose
            leaf = self._asking[hostname, roots] = _Leaf(context, _now() + LEAF_LIFETIME - LEAF_RENEW_BEFORE)
        self._asking.move_to_end((hostname, roots))
        while len(self._asking) > MAX_CACHED_LEAVES:
            self._asking.popitem(last=False)
        return leaf.context

    def _leaf_for(self, names: tuple[str, ...]) -> _Leaf:
        leaf = self._leaves.get(names)
        if leaf is None or _now() >= leaf.renew_at:
            context = _new_context()
            self._load_leaf(context, names)
            leaf = self._leaves[names] = _Leaf(context, _now() + LEAF_LIFETIME - LEAF_RENEW_BEFORE)
        self._leaves.move_to_end(names)
        while len(self._leaves) > MAX_CACHED_LEAVES:
            self._leaves.popitem(last=False)
        return leaf

    def _load_leaf(self, context: ssl.SSLContext, names: tuple[str, ...]) -> None:
        certificate = _sign_leaf(self._ca_key, self._ca, self._leaf_key, names)
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM) + self._ca.public_bytes(serialization.Encoding.PEM)
        # ssl loads chains from files only; the file exists for the duration of the call.
        path = self._state_dir / "leaf.pem"
        write_private(path, chain + key)
        try:
            context.load_cert_chain(path)
        finally:
            path.unlink(missing_ok=True)


def server_name(transport_ssl_object: object) -> str:
    """The SNI the client sent, lower case, or "" when it sent none."""
    return str(getattr(transport_ssl_object, "sallyport_server_name", ""))


def _remember_name(socket: ssl.SSLSocket | ssl.SSLObject, name: str | None) -> str:
    hostname = (name or "").lower().rstrip(".")
    setattr(socket, "sallyport_server_name", hostname)  # noqa: B010 - an attribute ssl does not declare
    return hostname


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _load_pair(certificate_path: Path) -> tuple[list[str], ssl.SSLContext]:
    certificate = x509.load_pem_x509_certificates(certificate_path.read_bytes())[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    context = _new_context()
    context.load_cert_chain(certificate_path, certificate_path.with_suffix(".key"))
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)], context


def _load_or_create_ca(state_dir: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, certificate_path = state_dir / "ca.key", state_dir / "ca.pem"
    if key_path.exists() != certificate_path.exists():
        raise CertificateError(f"{state_dir}: ca.key and ca.pem belong together, one of them is missing")
    if not key_path.exists():
        return _create_ca(key_path, certificate_path)
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(f"{state_dir}: ca.key or ca.pem cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateError(f"{state_dir}: ca.key is not the key of ca.pem")
    return key, certificate


def _create_ca(key_path: Path, certificate_path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    # A random part keeps the CAs of two installations apart in a trust store.
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Sallyport edge CA {x509.random_serial_number():x}"[:40])]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - BACK_DATE)
        .not_valid_after(_now() + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(
        key_path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    # The certificate is public: the control plane and users copy it.
    certificate_path.chmod(0o644)
    return key, certificate


def _sign_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
) -> x509.Certificate:
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= MAX_COMMON_NAME_CHARACTERS else []
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - BACK_DATE)
        .not_valid_after(min(_now() + LEAF_LIFETIME, ca.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=not subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
