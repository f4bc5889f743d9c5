"""HTML that an administrator wrote, made harmless before other people see it. Pure.

Only listed elements and attributes are written out again, everything else becomes text or disappears: the output is
built anew from parsed pieces, never cut out of the input. Pages that show it also forbid scripts and styles by their
Content-Security-Policy; either one would do.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

MAX_HTML_CHARACTERS = 64 * 1024
MAX_DEPTH = 50
# Elements with their content left out: it is no text for people, or another language.
# fmt: off
_DROPPED = frozenset({
    "applet", "audio", "canvas", "embed", "frame", "frameset", "head", "iframe", "link", "math", "meta", "noembed",
    "noframes", "noscript", "object", "param", "picture", "plaintext", "script", "select", "source", "style", "svg",
    "template", "textarea", "title", "track", "video", "xmp",
})
# fmt: on
_VOID = frozenset({"br", "hr", "img"})
# fmt: off
_KEPT = frozenset({
    "a", "abbr", "address", "article", "b", "blockquote", "br", "caption", "code", "dd", "del", "div", "dl", "dt",
    "em", "figcaption", "figure", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "main", "mark",
    "ol", "p", "pre", "q", "s", "samp", "section", "small", "span", "strong", "sub", "sup", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr", "u", "ul",
})
# fmt: on
# The page around it has the one <h1>.
_RENAMED = {"h1": "h2", "center": "div", "strike": "s"}
_LINK = re.compile(r"(?:https://|mailto:)[^\s\"'<>\\]+", re.IGNORECASE)
_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")


def sanitized(source: str) -> tuple[str, list[str]]:
    """Harmless HTML, and what was left out, each once, for the author."""
    builder = _Builder()
    builder.feed(source[:MAX_HTML_CHARACTERS])
    builder.close()
    return builder.finished(), sorted(builder.left_out)


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.left_out: set[str] = set()
        self._open: list[str] = []
        self._dropping: list[str] = []

    def finished(self) -> str:
        while self._open:
            self.pieces.append(f"</{self._open.pop()}>")
        return "".join(self.pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        tag = _RENAMED.get(tag, tag)
        if tag in _DROPPED or self._dropping:
            self._drop(tag)
            return
        if tag in {"html", "body"}:
            return
        if tag not in _KEPT:
            self.left_out.add(f"<{tag[:30]}>")
            return
        if tag not in _VOID and len(self._open) >= MAX_DEPTH:
            self.left_out.add(f"more than {MAX_DEPTH} elements inside each other")
            return
        self.pieces.append(f"<{tag}{self._attributes(tag, attrs)}>")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # "<div/>" opens a div in HTML; only where content is dropped it must not open anything.
        if tag in _DROPPED:
            self.left_out.add(f"<{tag}>")
        else:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        tag = _RENAMED.get(tag, tag)
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
            return
        if tag not in self._open:
            return
        while True:
            last = self._open.pop()
            self.pieces.append(f"</{last}>")
            if last == tag:
                return

    def handle_data(self, data: str) -> None:
        if not self._dropping:
            self.pieces.append(escape(data, quote=False))

    def _drop(self, tag: str) -> None:
        if tag in _DROPPED:
            self.left_out.add(f"<{tag}>")
        # These have no end tag: waiting for one would swallow the rest of the page.
        endless = {"embed", "link", "meta", "param", "source", "track", "frame"}
        if tag not in endless and (not self._dropping or tag == self._dropping[-1]):
            self._dropping.append(tag)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> str:
        kept: dict[str, str] = {}
        for name, value in attrs:
            text = (value or "").strip()
            if self._is_kept(tag, name, text):
                kept.setdefault(name, text)
            else:
                self.left_out.add(f"{name[:30]} of <{tag}>")
        if tag == "a" and "href" in kept:
            kept["rel"] = "noreferrer noopener"
        return "".join(f' {name}="{escape(value)}"' for name, value in kept.items())

    @staticmethod
    def _is_kept(tag: str, name: str, value: str) -> bool:
        if tag == "a" and name == "href":
            return _LINK.fullmatch(value) is not None
        if tag == "img" and name == "src":
            return _IMAGE.fullmatch(value) is not None
        if tag == "img" and name in {"width", "height"}:
            return value.isascii() and value.isdigit() and len(value) < 5
        if tag in {"td", "th"} and name in {"colspan", "rowspan"}:
            return value.isascii() and value.isdigit() and len(value) < 3
        return name in {"alt", "title", "lang"} or (name == "dir" and value in {"ltr", "rtl", "auto"})
