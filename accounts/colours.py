"""Colours of an organization's pages: whatever is chosen, text stays readable (WCAG 2.2, 1.4.3). Pure."""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass

READABLE = 4.5
# Surfaces of public.css, which links and buttons stand on.
LIGHT_SURFACE, DARK_SURFACE = "#ffffff", "#19212b"
_DARK_TEXT, _LIGHT_TEXT = "#000000", "#ffffff"
_HEX = re.compile(r"#[0-9a-f]{6}")
_SHORT_HEX = re.compile(r"#[0-9a-f]{3}")
_STEPS = 50


def parse_colour(text: str) -> str | None:
    """#rrggbb in lower case; None for anything else. Nothing else ever reaches a stylesheet."""
    value = text.strip().lower()
    if _SHORT_HEX.fullmatch(value):
        value = "#" + "".join(2 * digit for digit in value[1:])
    return value if _HEX.fullmatch(value) else None


def contrast(one: str, other: str) -> float:
    """1 to 21, as WCAG defines it."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def text_on(background: str) -> str:
    """Black or white, whichever reads better: one of them always does."""
    return max((_DARK_TEXT, _LIGHT_TEXT), key=lambda text: contrast(text, background))


def readable_against(colour: str, surface: str) -> str:
    """The colour, made darker or lighter until it is readable on the surface; the hue stays."""
    if contrast(colour, surface) >= READABLE:
        return colour
    hue, lightness, saturation = colorsys.rgb_to_hls(*_channels(colour))
    end = 0.0 if _luminance(surface) > 0.18 else 1.0
    for step in range(1, _STEPS + 1):
        moved = lightness + (end - lightness) * step / _STEPS
        candidate = _hex(colorsys.hls_to_rgb(hue, moved, saturation))
        if contrast(candidate, surface) >= READABLE:
            return candidate
    return text_on(surface)


@dataclass(frozen=True)
class Palette:
    """CSS custom properties of one colour scheme."""

    accent: str
    accent_text: str
    accent_strong: str


def palette(accent: str, surface: str) -> Palette:
    shown = readable_against(accent, surface)
    hue, lightness, saturation = colorsys.rgb_to_hls(*_channels(shown))
    strong = _hex(colorsys.hls_to_rgb(hue, lightness * 0.8 if surface == LIGHT_SURFACE else lightness, saturation))
    return Palette(shown, text_on(shown), strong)


def _luminance(colour: str) -> float:
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in _channels(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _hex(channels: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(min(1.0, max(0.0, channel)) * 255):02x}" for channel in channels)
