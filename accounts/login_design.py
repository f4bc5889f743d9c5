"""How an organization's own pages look: texts, two colours, a logo. Stored in its settings, where the public API's
`login_design` is kept too; everything is read through here, so that a page never shows what was not checked."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.colours import DARK_SURFACE, LIGHT_SURFACE, palette, parse_colour, text_on

MAX_TEXT = 500
MAX_LOGO_BYTES = 200 * 1024
MAX_LOGO_PIXELS = 2000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class LoginDesign:
    header_text: str = ""
    footer_text: str = ""
    background_color: str = ""
    button_color: str = ""
    logo: str = ""  # the stored logo's hash: its address changes with it

    @property
    def has_colours(self) -> bool:
        return bool(self.background_color or self.button_color)

    def stylesheet(self, *, root: str = ":root") -> str:
        """Custom properties only, of checked colours only."""
        return "\n".join(self._rules(root)) + "\n" if self.has_colours else ""

    @property
    def stylesheet_mark(self) -> str:
        return hashlib.sha256(self.stylesheet().encode()).hexdigest()[:12]

    def _rules(self, root: str) -> Iterator[str]:
        ground = ""
        if self.background_color:
            ground = f"--ground: {self.background_color}; --on-ground: {text_on(self.background_color)}; "
        for surface in (LIGHT_SURFACE, DARK_SURFACE):
            colours = ""
            if self.button_color:
                of = palette(self.button_color, surface)
                colours = (
                    f"--accent: {of.accent}; --accent-text: {of.accent_text}; --accent-strong: {of.accent_strong}; "
                )
            rule = f"{root} {{ {ground}{colours} }}"
            yield rule if surface == LIGHT_SURFACE else f"@media (prefers-color-scheme: dark) {{ {rule} }}"


def design_of(settings: Mapping[str, Any]) -> LoginDesign:
    kept = settings.get("login_design")
    design = kept if isinstance(kept, Mapping) else {}
    return LoginDesign(
        header_text=_text(design.get("header_text")),
        footer_text=_text(design.get("footer_text")),
        background_color=parse_colour(_text(design.get("background_color"))) or "",
        button_color=parse_colour(_text(design.get("button_color"))) or "",
        logo=_text(settings.get("login_logo")),
    )


def logo_type(content: bytes) -> str | None:
    """The media type of a PNG or JPEG of a sane size, by its content; None for all else (SVG can hold scripts)."""
    if content.startswith(_PNG) and content[12:16] == b"IHDR" and len(content) > 24:
        width, height = struct.unpack(">II", content[16:24])
        return "image/png" if _is_sane(width, height) else None
    if content.startswith(_JPEG):
        size = _jpeg_size(content)
        return "image/jpeg" if size is not None and _is_sane(*size) else None
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 < len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return width, height
        position += 2 + length
    return None


def _is_sane(width: int, height: int) -> bool:
    return 0 < width <= MAX_LOGO_PIXELS and 0 < height <= MAX_LOGO_PIXELS


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
