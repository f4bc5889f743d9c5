"""The short code a person compares between terminal and approve page, so that no stranger's login is approved."""

import base64
import hashlib


def confirmation_code(public_key_text: str) -> str:
    """Such as "ABCD-EFGH": 8 base32 characters (40 bits) of SHA-256 over the transfer key as it is in the URL."""
    digest = hashlib.sha256(public_key_text.encode("utf-8")).digest()
    code = base64.b32encode(digest)[:8].decode("ascii")
    return f"{code[:4]}-{code[4:]}"
