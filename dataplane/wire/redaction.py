"""Secrets out of log lines, before anybody else reads them. Errs on the side of taking out too much."""

import re
from typing import Final

REDACTED: Final = "[redacted]"

_PATTERNS: Final = (
    # PEM blocks, also when the line ends inside one.
    re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL),
    # JSON web tokens, tunnel tokens (base64 of a JSON object) and the like.
    re.compile(r"\beyJ[A-Za-z0-9_=-]{8,}(?:\.[A-Za-z0-9_=-]*)*"),
    # name=value, name: value, "name": "value" where the name says that the value is secret.
    re.compile(
        r"(?i)(?P<keep>[\w.-]*(?:secret|passw(?:or)?d|token|authorization|cookie|assertion|credential|api[_-]?key"
        r"|private[_-]?key|cf_authorization|cf_appsession)[\w.-]*[\"']?\s*[:=]\s*)"
        r"(?:(?:bearer|basic)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
    ),
    re.compile(r"(?i)(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"),
    # Credentials and queries in addresses.
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[^\s/@:]+:[^\s/@]+@"),
    # Long random text: 40 or more characters of base64 or hex without a break. Ids (UUIDs) are shorter.
    re.compile(r"\b(?=[A-Za-z0-9+/_-]*[0-9])(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+_-]{40,}={0,2}"),
)


def redact(text: str) -> str:
    for pattern in _PATTERNS:
        if "keep" in pattern.groupindex:
            text = pattern.sub(lambda found: f"{found.group('keep')}{REDACTED}", text)
        else:
            text = pattern.sub(REDACTED, text)
    return text
