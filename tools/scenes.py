"""What pages show only after somebody did something: `tools.screenshots --all` takes these beside the plain pages."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page

Scene = Callable[[Page, str], None]


def sent_empty(path: str, button: str) -> Scene:
    """The form at `path` (below the organization's address) with the faults it finds in nothing."""

    def scene(page: Page, home: str) -> None:
        page.goto(f"{home}{path}")
        page.evaluate("document.querySelectorAll('form').forEach(form => { form.noValidate = true })")
        page.get_by_role("button", name=button, exact=True).click()
        page.locator("[aria-invalid=true], .errorlist").first.wait_for()

    return scene


def next_steps(page: Page, home: str) -> None:
    """Home opens the application that is not finished yet."""
    page.goto(home)
    page.get_by_role("heading", name="The way to").wait_for()


# The name of the picture, and how the page gets there; `home` ends with a slash.
SCENES: dict[str, Scene] = {
    "home-next-steps": next_steps,
    "access-applications-add-faults": sent_empty("access/applications/add/", "Next: add policies"),
    "access-groups-add-faults": sent_empty("access/groups/add/", "Save group"),
}
