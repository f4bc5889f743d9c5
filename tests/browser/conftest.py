"""One browser for the folder."""

import pytest

from tests.shared_browser import browser_of_the_package

__all__ = ["browser_of_the_package"]


@pytest.fixture(autouse=True)
def _browser(browser_of_the_package: None) -> None:
    """Closed when the folder's tests are done."""
