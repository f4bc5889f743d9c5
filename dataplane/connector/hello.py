"""The page of the hello_world service: proof that the whole path works."""

import html


def hello_page(hostname: str) -> bytes:
    shown = html.escape(hostname)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Sallyport</title>"
        f"<h1>It works</h1><p>You reached <b>{shown}</b> through a Sallyport connector.</p>"
        "<p>Give this hostname a real service in the ingress rules to replace this page.</p></html>\n"
    ).encode()
