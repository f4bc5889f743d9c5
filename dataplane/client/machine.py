"""Certificates for machines: a service token in place of a person's login, no browser, no stored token."""

from dataplane.client.certificates import SignedKey, SigningRefused
from dataplane.client.discovery import discover
from dataplane.client.grants import AppInfo, forget_info, remembered_info
from dataplane.client.servicetoken import ServiceToken
from dataplane.client.signing import FreshKey, post_cert_sign
from dataplane.client.target import Context, Target


def sign_for_machine(context: Context, target: Target, token: ServiceToken, key_type: str) -> tuple[AppInfo, SignedKey]:
    """The application is found by its signed metadata, so the secret goes to the verified team domain only."""
    remembered = remembered_info(context, target)
    if remembered is not None:
        try:
            return remembered, _sign(context, remembered, token, key_type)
        except SigningRefused as refusal:
            if refusal.status != 404:
                raise
            forget_info(context, target)  # the application was made anew since
    info = discover(context, target)
    return info, _sign(context, info, token, key_type)


def _sign(context: Context, info: AppInfo, token: ServiceToken, key_type: str) -> SignedKey:
    key = FreshKey.generate(key_type)
    request = {"public_key": f"{key.public_line}\n", "aud": info.aud}
    issuer = f"https://{info.auth_domain}"
    return post_cert_sign(context, info, key, request, issuer=issuer, credential=token.client_id, headers=token.headers)
