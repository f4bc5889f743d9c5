"""The short code a person compares between the terminal and the approve page, so that nobody approves a stranger's login."""

import base64
import hashlib


def confirmation_code(public_key_text: str) -> str:
    """"ABCD-EFGH": the first 8 base32 characters (40 bits) of SHA-256 over the transfer key exactly as it is in the URL."""
    digest = hashlib.sha256(public_key_text.encode("utf-8")).digest()
    code = base64.b32encode(digest)[:8].decode("ascii")
    return f"{code[:4]}-{code[4:]}"
