"""Public keys, building and linting: pure, no database."""

from __future__ import annotations

import base64
import struct
from dataclasses import fields, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType, load_ssh_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from access import sshcert
from access.sshcert import Intent, LintError, PublicKeyRefused, lint, parse_certificate, parse_public_key
from tests.access.makers import public_key_line

NOW = 1_790_000_000
AUTHORITY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
AUTHORITY_P256 = ec.derive_private_key(7, ec.SECP256R1())
USER_LINE = public_key_line(ed25519.Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
INTENT = Intent(
    serial=7,
    key_id="widgetcorp/ssh-bastion/alice@widgetcorp.tech",
    principals=("alice",),
    extensions=("permit-port-forwarding", "permit-pty"),
    public_key=USER_LINE,
    valid_after=NOW - 60,
    valid_before=NOW + 240,
    authority_key=public_key_line(AUTHORITY),
)


def signed(intent: Intent = INTENT) -> str:
    return sshcert.build(intent).sign(AUTHORITY).public_bytes().decode()


def problems(line: str, intent: Intent = INTENT) -> list[str]:
    with pytest.raises(LintError) as caught:
        lint(line, intent)
    return caught.value.problems


# --- The good case --------------------------------------------------------------------------------------------
def test_what_was_built_passes_the_linter() -> None:
    parsed = lint(signed(), INTENT)
    assert parsed.principals == (b"alice",)
    assert parsed.serial == 7


@pytest.mark.parametrize(
    "line",
    [
        public_key_line(ec.derive_private_key(5, ec.SECP256R1())),
        public_key_line(ec.derive_private_key(5, ec.SECP384R1())),
        public_key_line(ec.derive_private_key(5, ec.SECP521R1())),
        public_key_line(rsa.generate_private_key(65537, 2048)),
    ],
)
def test_every_accepted_key_type_is_certified(line: str) -> None:
    intent = replace(INTENT, public_key=parse_public_key(line).line)
    assert lint(signed(intent), intent)


def test_p256_authority() -> None:
    intent = replace(INTENT, authority_key=public_key_line(AUTHORITY_P256))
    line = sshcert.build(intent).sign(AUTHORITY_P256).public_bytes().decode()
    assert lint(line, intent)


# --- AC-19 public keys ----------------------------------------------------------------------------------------
def test_ac_19_accepts_one_line_with_comment_and_newline() -> None:
    key = parse_public_key(f"{USER_LINE} alice@laptop with words\n")
    assert key.line == USER_LINE
    assert key.algorithm == "ssh-ed25519"
    assert key.fingerprint.startswith("SHA256:")
    assert parse_public_key(USER_LINE + "\r\n").line == USER_LINE


def _blob(*parts: bytes) -> str:
    return base64.b64encode(b"".join(struct.pack(">I", len(part)) + part for part in parts)).decode()


_RSA_1024 = "ssh-rsa " + _blob(b"ssh-rsa", b"\x01\x00\x01", b"\x00" + (b"\xc5" * 128))
_SK = "sk-ssh-ed25519@openssh.com " + _blob(b"sk-ssh-ed25519@openssh.com", b"\x01" * 32, b"ssh:")
_P224 = "ecdsa-sha2-nistp224 " + _blob(b"ecdsa-sha2-nistp224", b"nistp224", b"\x04" + b"\x01" * 56)
_OFF_CURVE = "ecdsa-sha2-nistp256 " + _blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\x04" + b"\x01" * 64)
_WRONG_CURVE = "ecdsa-sha2-nistp256 " + _blob(b"ecdsa-sha2-nistp256", b"nistp384", b"\x04" + b"\x01" * 96)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_RSA_1024, "public_key_weak"),
        ("ssh-dss " + _blob(b"ssh-dss", b"1", b"1", b"1", b"1"), "public_key_type"),
        (_P224, "public_key_type"),
        (_SK, "public_key_type"),
        (_OFF_CURVE, "public_key_malformed"),
        (_WRONG_CURVE, "public_key_malformed"),
        ("", "public_key_type"),
        ("\n", "public_key_type"),
        ("ssh-ed25519", "public_key_malformed"),
        ("ssh-ed25519 ", "public_key_malformed"),
        ("ssh-ed25519 !!!!", "public_key_malformed"),
        ("ssh-ed25519 " + _blob(b"ssh-ed25519"), "public_key_malformed"),
        ("ssh-ed25519 " + _blob(b"ssh-ed25519", b"\x01" * 31), "public_key_malformed"),
        ("ssh-ed25519 " + _blob(b"ssh-ed25519", b"\x01" * 32, b"more"), "public_key_malformed"),
        ("ssh-ed25519 " + _blob(b"ssh-rsa", b"\x01" * 32), "public_key_malformed"),
        (USER_LINE.replace("ssh-ed25519", "ssh-rsa"), "public_key_malformed"),
        ('command="id" ' + USER_LINE, "public_key_type"),
        ("no-pty " + USER_LINE, "public_key_type"),
        ("cert-authority " + USER_LINE, "public_key_type"),
        (" " + USER_LINE, "public_key_type"),
        (USER_LINE + "\n" + USER_LINE, "public_key_malformed"),
        (USER_LINE + "\n\n", "public_key_malformed"),
        (USER_LINE + " comment\x00", "public_key_malformed"),
        (USER_LINE + " comment\x1b[31m", "public_key_malformed"),
        (USER_LINE + "\tcomment", "public_key_malformed"),
        (USER_LINE + " комментарий", "public_key_malformed"),
        (USER_LINE + " \ud800", "public_key_malformed"),
        (USER_LINE + " " + "x" * (16 * 1024), "public_key_too_long"),
        ("x" * 1024 * 1024, "public_key_too_long"),
        (signed(), "public_key_type"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "public_key_type"),
    ],
)
def test_ac_19_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(PublicKeyRefused) as caught:
        parse_public_key(text)
    assert caught.value.reason == reason
    assert str(caught.value)


# --- The linter: every field ----------------------------------------------------------------------------------
def rogue(**changes: object) -> str:
    """A certificate as the library signs it without complaint, with one thing other than intended."""
    values = {
        "serial": INTENT.serial,
        "key_id": INTENT.key_id.encode(),
        "principals": [b"alice"],
        "valid_after": INTENT.valid_after,
        "valid_before": INTENT.valid_before,
        "extensions": [b"permit-port-forwarding", b"permit-pty"],
        "critical": [],
        "type": SSHCertificateType.USER,
        "key": USER_LINE,
        "ca": AUTHORITY,
        "extension_value": b"",
    } | changes
    builder = (
        SSHCertificateBuilder()
        .public_key(load_ssh_public_key(str(values["key"]).encode()))  # type: ignore[arg-type]
        .serial(values["serial"])  # type: ignore[arg-type]
        .type(values["type"])  # type: ignore[arg-type]
        .key_id(values["key_id"])  # type: ignore[arg-type]
        .valid_after(values["valid_after"])  # type: ignore[arg-type]
        .valid_before(values["valid_before"])  # type: ignore[arg-type]
    )
    principals = values["principals"]
    builder = builder.valid_principals(principals) if principals else builder.valid_for_all_principals()  # type: ignore[arg-type]
    for name in values["extensions"]:  # type: ignore[attr-defined]
        builder = builder.add_extension(name, values["extension_value"])  # type: ignore[arg-type]
    for name, value in values["critical"]:  # type: ignore[attr-defined]
        builder = builder.add_critical_option(name, value)
    return builder.sign(values["ca"]).public_bytes().decode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"serial": 0}, "the serial differs"),
        ({"serial": 8}, "the serial differs"),
        ({"key_id": b""}, "the key id differs"),
        ({"key_id": INTENT.key_id.encode() + b"\nforged log line"}, "the key id differs"),
        ({"principals": []}, "there are no principals"),
        ({"principals": [b"root"]}, "the principals differ"),
        ({"principals": [b"alice", b"root"]}, "the principals differ"),
        ({"principals": [b""]}, "a principal is not a plain account name"),
        ({"principals": [b"alice,root"]}, "a principal is not a plain account name"),
        ({"principals": [b"alice\n"]}, "a principal is not a plain account name"),
        ({"principals": [b"*"]}, "a principal is not a plain account name"),
        ({"principals": [b"\xff"]}, "a principal is not a plain account name"),
        ({"valid_before": 2**64 - 1}, "valid_before differs"),
        ({"valid_before": 2**64 - 1}, "the lifetime is out of range"),
        ({"valid_before": NOW + 241}, "valid_before differs"),
        ({"valid_after": 0}, "valid_after differs"),
        ({"extensions": [b"permit-pty"]}, "the extensions differ"),
        (
            {"extensions": [b"permit-agent-forwarding", b"permit-port-forwarding", b"permit-pty"]},
            "the extensions differ",
        ),
        ({"extension_value": b"x"}, "an extension has a value"),
        ({"critical": [(b"force-command", b"/bin/true")]}, "there are critical options"),
        ({"critical": [(b"source-address", b"203.0.113.7/32")]}, "there are critical options"),
        ({"type": SSHCertificateType.HOST}, "it is not a user certificate"),
        ({"key": public_key_line()}, "the public key differs"),
        ({"key": public_key_line(ec.derive_private_key(5, ec.SECP256R1()))}, "the key type differs"),
        ({"ca": ed25519.Ed25519PrivateKey.generate()}, "it is signed by another authority"),
        ({"ca": AUTHORITY_P256}, "it is signed by another authority"),
    ],
)
def test_ac_08_ac_17_ac_18_ac_24_linter_refuses(changes: dict[str, object], problem: str) -> None:
    assert problem in problems(rogue(**changes))


def test_the_rogue_builder_is_honest() -> None:
    assert lint(rogue(), INTENT)


def test_ac_27_source_address_of_the_user_is_never_in_a_certificate() -> None:
    assert parse_certificate(signed()).critical_options == ()
    assert "source_address" not in {field.name for field in fields(Intent)}


@pytest.mark.parametrize(
    "text", ["", "x", "ssh-ed25519 AAAA", USER_LINE, "a b c", "ssh-ed25519-cert-v01@openssh.com !"]
)
def test_what_is_no_certificate_cannot_be_parsed(text: str) -> None:
    assert any("cannot be parsed" in problem for problem in problems(text))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    kind, encoded = signed().split(" ")
    blob = bytearray(base64.b64decode(encoded))
    position = data.draw(st.integers(0, len(blob) - 1))
    blob[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(LintError):
        lint(f"{kind} {base64.b64encode(bytes(blob)).decode()}", INTENT)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_cut_or_extended_certificate_is_noticed(data: st.DataObject) -> None:
    kind, encoded = signed().split(" ")
    blob = base64.b64decode(encoded)
    other = data.draw(
        st.one_of(st.integers(0, len(blob) - 1).map(lambda n: blob[:n]), st.binary(min_size=1).map(lambda b: blob + b))
    )
    with pytest.raises(LintError):
        lint(f"{kind} {base64.b64encode(other).decode()}", INTENT)


# --- The intent itself ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changes",
    [
        {"serial": 0},
        {"serial": 2**63},
        {"serial": -1},
        {"principals": ()},
        {"principals": tuple(f"u{n}" for n in range(17))},
        {"principals": ("alice", "alice")},
        {"principals": ("Alice",)},
        {"principals": ("alice\n",)},
        {"extensions": ("permit-everything",)},
        {"extensions": ("permit-pty", "permit-pty")},
        {"valid_before": NOW - 1},
        {"valid_before": NOW + 59},
        {"valid_before": NOW + 86401},
        {"valid_before": 2**64 - 1},
        {"valid_after": 0},
        {"key_id": ""},
        {"key_id": "widgetcorp/app"},
        {"key_id": "widgetcorp/app/alice smith"},
        {"key_id": "widgetcorp/app/alice\n"},
        {"key_id": "w/a/" + "x" * 200},
        {"authority_key": public_key_line(ec.derive_private_key(5, ec.SECP384R1()))},
    ],
)
def test_ac_23_an_intent_out_of_bounds_is_never_signed(changes: dict[str, object]) -> None:
    intent = replace(INTENT, **changes)  # type: ignore[arg-type]
    with pytest.raises(LintError):
        sshcert.check_intent(intent)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=4))
def test_ac_04_ac_08_only_lists_of_plain_names_pass(names: list[str]) -> None:
    plain = all(name and name.isascii() and name[0] in "abcdefghijklmnopqrstuvwxyz_" for name in names)
    try:
        sshcert.check_intent(replace(INTENT, principals=tuple(names)))
    except LintError:
        return
    assert names
    assert plain
    assert all(len(name) <= 32 and not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in names)


def test_golden_bytes_are_stable(tmp_path: Path) -> None:
    """All but nonce and signature of a certificate, byte for byte: a change of the format must be meant."""
    blob = base64.b64decode(signed().split(" ")[1])
    after_nonce = blob[4 + 32 + 4 + 32 :]
    before_signature = after_nonce[: -(4 + 4 + 11 + 4 + 64)]
    expected = (
        struct.pack(">I", 32)
        + base64.b64decode(USER_LINE.split(" ")[1])[-32:]
        + struct.pack(">QI", 7, 1)
        + struct.pack(">I", len(INTENT.key_id))
        + INTENT.key_id.encode()
        + struct.pack(">II", 9, 5)
        + b"alice"
        + struct.pack(">QQ", NOW - 60, NOW + 240)
        + struct.pack(">I", 0)
        + struct.pack(">II", 22 + 4 + 4 + 10 + 4 + 4, 22)
        + b"permit-port-forwarding"
        + struct.pack(">II", 0, 10)
        + b"permit-pty"
        + struct.pack(">I", 0)
        + struct.pack(">I", 0)
        + struct.pack(">I", 51)
        + base64.b64decode(INTENT.authority_key.split(" ")[1])
    )
    assert before_signature == expected
