"""The page a browser gets with a refusal. It stands alone: these hosts serve no stylesheet of ours."""

import base64
import hashlib
import html

# The look of the control plane's own pages for people (controlplane/static/public.css).
_STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f3f5f8; --surface: #ffffff; --text: #17202c; --quiet: #5a6675; --line: #d7dde5; --mark: #1d4ed8;
}
@media (prefers-color-scheme: dark) {
  :root { --ground: #0f141b; --surface: #19212b; --text: #e8edf3; --quiet: #a3afbd; --line: #334050; --mark: #8fb0ff; }
}
* { box-sizing: border-box; }
body {
  margin: 0; min-height: 100vh; padding: clamp(1rem, 6vh, 5rem) 1rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main {
  max-width: 29rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 2.25rem); overflow-wrap: anywhere;
  background: var(--surface); border: 1px solid var(--line); border-radius: 0.6rem;
}
.mark {
  display: block; width: 1.5rem; height: 1.5rem; margin-bottom: 1.5rem;
  border: 0.3rem solid var(--mark); border-bottom-width: 0; border-radius: 0.8rem 0.8rem 0 0;
}
h1 { margin: 0 0 0.5rem; font-size: 1.45rem; line-height: 1.25; }
p { margin: 0 0 1rem; }
p:last-child { margin: 0; }
.quiet { color: var(--quiet); font-size: 0.92rem; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; user-select: all; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# A page of the control plane needs its stylesheets and images, a page of ours this one style; nothing else.
PAGE_POLICY = (
    f"default-src 'none'; style-src 'self' 'sha256-{_STYLE_HASH}'; img-src 'self' data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title><style>{style}</style></head>
<body><main><span class="mark" aria-hidden="true"></span><h1>{heading}</h1><p>{message}</p><p>{advice}</p>
<p class="quiet">Reference <code>{reference}</code><br>{title}, <code>{reason}</code></p></main></body></html>
"""
_HEADINGS = {
    403: "You do not have access",
    404: "Nothing is served here",
    429: "Too many requests at once",
    500: "Something broke on our side",
}
_NOT_LIKE_THIS, _NOT_NOW = "This cannot be opened like this", "This is not reachable right now"
_ADVICE = {
    403: "If you should have access, tell an administrator of your team the reference below.",
    404: "Check the address for a spelling mistake, or ask whoever gave it to you.",
    429: "Wait a moment, then reload this page.",
}
_ASK = "If the address came from somebody else, ask them how to open it."
_WAIT = "Try again in a moment. If it stays like this, tell an administrator of your team the reference below."
_ADVICE_OF_REASON = {
    "websocket_required": "Your team's start page shows the commands for it, under How to ssh there.",
}


def page_of(title: str, status: int, reason: str, message: str, reference: str) -> str:
    is_ours = status >= 500
    return _PAGE.format(
        style=_STYLE,
        title=html.escape(title),
        heading=_HEADINGS.get(status) or (_NOT_NOW if is_ours else _NOT_LIKE_THIS),
        message=html.escape(message),
        advice=_ADVICE_OF_REASON.get(reason) or _ADVICE.get(status) or (_WAIT if is_ours else _ASK),
        reason=html.escape(reason),
        reference=html.escape(reference),
    )
