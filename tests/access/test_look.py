"""Settings, Login page, and what of it people see: texts, colours that stay readable, a logo that is an image."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from accounts.colours import (
    DARK_SURFACE,
    LIGHT_SURFACE,
    READABLE,
    contrast,
    palette,
    parse_colour,
    readable_against,
    text_on,
)
from accounts.login_design import design_of, logo_type
from accounts.models import Organization, OrganizationLogo
from tests.access.edge_client import HOST, TEAM, EdgeBrowser
from tests.access.login_flows import make_application, pin_provider
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, last_event, login, shown, text_of
from tests.world import PNG

HOME = f"https://{TEAM}/"
COLOURS = st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)


def url(name: str) -> str:
    return reverse(name, args=["widgetcorp"])


@pytest.fixture
def alice(cast: Cast) -> Client:
    pin_provider(cast.widgetcorp)
    return login(cast.alice)


def save(client: Client, **values: Any) -> Any:
    data = {"header_text": "", "footer_text": "", "button_color": "", "background_color": "", **values}
    return client.post(url("login_page_edit"), data)


def jpeg(width: int, height: int) -> bytes:
    frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x11\x00"
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + frame + b"\x00" * 20


def png(width: int, height: int) -> bytes:
    return PNG[:16] + struct.pack(">II", width, height) + PNG[24:]


class TestColours:
    @given(COLOURS)
    def test_text_on_any_colour_is_readable(self, colour: str) -> None:
        assert contrast(text_on(colour), colour) >= READABLE

    @given(COLOURS)
    def test_any_colour_is_made_readable_on_both_surfaces(self, colour: str) -> None:
        for surface in (LIGHT_SURFACE, DARK_SURFACE):
            of = palette(colour, surface)
            assert contrast(of.accent, surface) >= READABLE
            assert contrast(of.accent_text, of.accent) >= READABLE
            assert parse_colour(of.accent_strong) == of.accent_strong

    def test_contrast_is_that_of_wcag(self) -> None:
        assert contrast("#000000", "#ffffff") == pytest.approx(21)
        assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
        assert readable_against("#0d5c52", LIGHT_SURFACE) == "#0d5c52"

    @pytest.mark.parametrize(
        "text", ["red", "#12345", "#12345g", "#123456;}", "url(x)", "", "#１２３４５６", "#123456\n}"]
    )
    def test_only_hexadecimal_is_a_colour(self, text: str) -> None:
        assert parse_colour(text.rstrip("\n") if text.endswith("\n") else text) is None

    def test_short_forms(self) -> None:
        assert parse_colour(" #ABC ") == "#aabbcc"


class TestSettings:
    def test_texts_and_colours_reach_people(self, alice: Client, cast: Cast) -> None:
        answer = save(alice, header_text="Call 123 for help", footer_text="Widget IT", button_color="#7A0C0C",
                      background_color="#fff0e0")  # fmt: skip
        assert answer.status_code == 302
        event = last_event(cast.widgetcorp)
        assert (event.name, event.old["button_color"], event.new["button_color"]) == (
            "accounts.login_page.changed",
            "",
            "#7a0c0c",
        )
        page = EdgeBrowser().get(HOME)
        text = page.content.decode()
        assert "Call 123 for help" in text and "Widget IT" in text
        css = EdgeBrowser().get(f"https://{TEAM}{text.split('team.css')[0].rsplit(chr(34), 1)[1]}team.css")
        assert css["Content-Type"].startswith("text/css")
        assert "--accent: #7a0c0c" in css.content.decode() and "--ground: #fff0e0" in css.content.decode()

    def test_without_a_look_no_stylesheet_is_asked_for(self, alice: Client) -> None:
        assert "team.css" not in EdgeBrowser().get(HOME).content.decode()

    def test_a_bad_colour_is_refused_with_the_input_kept(self, alice: Client, cast: Cast) -> None:
        answer = save(alice, header_text="Hello", button_color="reddish")
        assert answer.status_code == 422
        assert (
            "#rrggbb" in text_of(answer) and 'value="reddish"' in text_of(answer) and 'value="Hello"' in text_of(answer)
        )
        assert Organization.objects.get(pk=cast.widgetcorp.pk).settings == {}

    def test_what_the_api_keeps_beside_it_stays(self, alice: Client, cast: Cast) -> None:
        kept = {
            "login_design": {"logo_path": "https://x.test/l.png", "text_color": "#000000"},
            "is_ui_read_only": False,
        }
        Organization.objects.filter(pk=cast.widgetcorp.pk).update(settings=kept)
        save(alice, header_text="Hello")
        settings = Organization.objects.get(pk=cast.widgetcorp.pk).settings
        assert settings["login_design"]["logo_path"] == "https://x.test/l.png"
        assert settings["is_ui_read_only"] is False

    def test_values_that_came_in_by_the_api_are_not_trusted(self, cast: Cast) -> None:
        evil = {"background_color": "#fff;} body{display:none", "header_text": EVIL_NAME, "button_color": 7}
        Organization.objects.filter(pk=cast.widgetcorp.pk).update(settings={"login_design": evil})
        text = EdgeBrowser().get(HOME).content.decode()
        assert "team.css" not in text and "<script>alert" not in text
        assert "display:none" not in EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/team.css").content.decode()
        assert not design_of({"login_design": "nonsense"}).has_colours

    def test_editors_may_not(self, cast: Cast) -> None:
        client = login(cast.erin)
        assert save(client, header_text="x").status_code == 403
        assert "Owners and admins can change this" in shown(client, url("login_page"))


class TestPreview:
    def test_shows_what_is_typed_and_saves_nothing(self, alice: Client, cast: Cast) -> None:
        query = "header_text=Hi+there&button_color=%23ffee00&background_color=%23222222"
        page = shown(alice, f"{url('login_page_preview')}?{query}")
        assert "Hi there" in page and "too pale" in page and " style=" not in page
        css = text_of(alice.get(f"{url('login_page_style')}?{query}"))
        assert css.startswith(".login-preview {") and "--ground: #222222" in css
        assert Organization.objects.get(pk=cast.widgetcorp.pk).settings == {}

    def test_nothing_but_colours_gets_into_the_style(self, alice: Client) -> None:
        css = text_of(alice.get(url("login_page_style") + "?button_color=%23fff%7D%20body%7B&background_color=red"))
        assert css == ""


class TestLogo:
    def upload(self, client: Client, content: bytes, name: str = "logo.png") -> Any:
        return save(client, logo=SimpleUploadedFile(name, content, content_type="image/png"))

    @pytest.mark.parametrize("content", [PNG, jpeg(300, 100)], ids=["png", "jpeg"])
    def test_shown_on_both_kinds_of_host(self, alice: Client, cast: Cast, content: bytes) -> None:
        make_application(cast.widgetcorp)
        assert self.upload(alice, content).status_code == 302
        address = "/cdn-cgi/access/logo?v="
        assert address in EdgeBrowser().get(HOME).content.decode()
        for host in (TEAM, HOST):
            answer = EdgeBrowser().get(f"https://{host}{address}1")
            assert answer.content == content
            assert answer["Content-Type"] in {"image/png", "image/jpeg"}
            assert answer["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer["Content-Security-Policy"]
        assert alice.get(url("login_page_logo")).content == content

    @pytest.mark.parametrize(
        "content",
        [
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            b"<html><script>alert(1)</script>",
            b"GIF89a" + b"\x00" * 50,
            PNG[:20],
            png(100_000, 100_000),
            png(0, 5),
            jpeg(60_000, 10),
            b"\xff\xd8\xff" + b"\x00" * 50,
            PNG + b"\x00" * 300_000,
        ],
        ids=["svg", "html", "gif", "cut short", "huge png", "flat png", "wide jpeg", "no jpeg", "heavy"],
    )
    def test_ac107_nothing_but_small_images_is_taken(self, alice: Client, cast: Cast, content: bytes) -> None:
        answer = self.upload(alice, content)
        assert answer.status_code == 422
        assert "must be a PNG or JPEG" in text_of(answer)
        assert not OrganizationLogo.objects.exists()

    def test_replaced_and_removed(self, alice: Client, cast: Cast) -> None:
        self.upload(alice, PNG)
        self.upload(alice, jpeg(10, 10))
        assert OrganizationLogo.objects.count() == 1
        assert "Remove the logo?" in shown(alice, url("login_page_remove_logo"))
        alice.post(url("login_page_remove_logo"))
        assert not OrganizationLogo.objects.exists()
        assert "access/logo" not in EdgeBrowser().get(HOME).content.decode()

    def test_an_edit_without_a_file_keeps_it(self, alice: Client) -> None:
        self.upload(alice, PNG)
        save(alice, header_text="x")
        assert OrganizationLogo.objects.exists()
        assert "/cdn-cgi/access/logo" in EdgeBrowser().get(HOME).content.decode()

    @given(st.binary(max_size=200))
    def test_odd_bytes_do_no_harm(self, content: bytes) -> None:
        for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"):
            logo_type(start + io.BytesIO(content).read())


def test_the_script_is_served_where_pages_use_it(cast: Cast) -> None:
    answer = EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/public.js")
    assert answer.status_code == 200 and answer["Content-Type"].startswith("text/javascript")


def test_times_on_public_pages_are_in_the_browsers_zone(cast: Cast) -> None:
    browser = EdgeBrowser()
    browser.set_cookie(TEAM, "zone", "Asia%2FTokyo")
    assert browser.get(HOME).status_code == 200
