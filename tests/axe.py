"""axe-core (vendored, tests only) against the page a browser shows: WCAG 2.2 A and AA, and best practices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_SOURCE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
_RUN = """async (rules) => {
  const only = rules.length ? {runOnly: {type: "rule", values: rules}} : {};
  const answer = await axe.run(document, {resultTypes: ["violations"], ...only});
  return answer.violations.map(({id, help, nodes}) => ({id, help, where: nodes.map(node => node.target.join(" "))}));
}"""


def violations(page: Page, *rules: str) -> list[str]:
    """One line per broken rule (of these, or of all), with the elements. The browser's debugger injects axe, so the
    page's CSP stays on."""
    page.evaluate(f"{_SOURCE.read_text(encoding='utf-8')};null")
    found: list[dict[str, Any]] = page.evaluate(_RUN, list(rules))
    return [f"{item['id']}: {item['help']}: {', '.join(item['where'][:5])}" for item in found]
