"""Host and domain names: one spelling for each, and how alike two of them look. Pure."""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import idna

from accounts.errors import InvalidInput

MAX_NAME_CHARACTERS = 253
# Underscore: service names such as _acme-challenge are legal in DNS and used in records.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_STRICT_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Letters of other scripts that common fonts draw like a Latin one, after compatibility decomposition and case folding
# (Unicode Technical Standard 39 has the idea and the full list; these are the ones registries allow in names).
_LOOKALIKE_PAIRS = (
    "аa бb вb гr ԁd еe з3 һh іi јj кk ӏl лn мm нh оo пn рp ԛq сc тt ѕs уy ѵv ѡw ԝw хx ьb ґr "  # Cyrillic
    "αa βb γy εe ηn ιi κk νv οo ρp τt υu χx ωw ϲc ϳj "  # Greek
    "աw հh յj նu ոn սu ցg օo քp զq "  # Armenian
    "æae ɑa ɐa ʙb ƅb đd ɡg ħh ıi ɩi ȷj łl ʟl ɴn œoe øo ɵo ᴏo þp ßss ŧt ᴀa"  # Latin beyond ASCII
)
_LOOKALIKES = str.maketrans({pair[0]: pair[1:] for pair in _LOOKALIKE_PAIRS.split()})


def normalize_domain(text: str, *, strict: bool = False) -> str:
    """Lower case A-label form without trailing dot. Raises InvalidInput that says what is wrong.

    `strict` refuses underscores: names people browse to, and zones, have none.
    """
    shown = text[:80]
    name = text.strip().removesuffix(".").lower()
    if not name:
        raise InvalidInput("The name is empty.", code="invalid_name")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise InvalidInput(f"{shown!r} is not a valid internationalized name.", code="invalid_name") from error
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidInput(f"The name is longer than {MAX_NAME_CHARACTERS} characters.", code="invalid_name")
    for label in name.split("."):
        _check_label(label, shown, strict)
    if _is_address(name):
        raise InvalidInput(f"{shown!r} is an address, not a name.", code="invalid_name")
    return name


def normalize_hostname(text: str, *, strict: bool = False) -> str:
    """Like normalize_domain; the first label may be `*`."""
    bare = text.strip()
    if bare.startswith("*."):
        return f"*.{normalize_domain(bare[2:], strict=strict)}"
    return normalize_domain(bare, strict=strict)


def skeleton(name: str) -> str:
    """How a normalized name looks to a reader: equal skeletons are names people take for each other."""
    return ".".join(_label_skeleton(label) for label in name.split("."))


def parents(name: str) -> list[str]:
    """`a.b.c` -> [`b.c`, `c`]."""
    labels = name.split(".")
    return [".".join(labels[index:]) for index in range(1, len(labels))]


def is_within(name: str, domain: str) -> bool:
    """Whether a name is the domain itself or below it."""
    return name == domain or name.endswith(f".{domain}")


def _check_label(label: str, shown: str, strict: bool) -> None:
    if not label:
        raise InvalidInput(f"{shown!r} has an empty part between its dots.", code="invalid_name")
    if not (_STRICT_LABEL if strict else _LABEL).fullmatch(label):
        raise InvalidInput(
            f"{shown!r} is not a valid name: parts have letters, digits and inner hyphens, at most 63 of them.",
            code="invalid_name",
        )
    if label.startswith("xn--"):
        try:
            idna.decode(label)
        except (idna.IDNAError, UnicodeError) as error:
            raise InvalidInput(f"{shown!r} has an invalid xn-- part.", code="invalid_name") from error


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _label_skeleton(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    decomposed = unicodedata.normalize("NFKD", idna.decode(label)).casefold()
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return plain.translate(_LOOKALIKES)
