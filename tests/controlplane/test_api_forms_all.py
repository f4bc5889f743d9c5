"""Every form of the dashboard that changes something has its API request, or stands here with the reason why not."""

from __future__ import annotations

import inspect

from accounts.api_requests import has_api_request
from tests.test_every_url import Route, team_routes

# Route -> why there is no request to copy.
WITHOUT = {
    "login_method_test": "opens a login in the person's own browser",
    "log_view_save": "the member's own saved view of a log",
    "log_view_delete": "the member's own saved view of a log",
    "application_add": "a draft of the form; its last step shows the whole request",
    "application_check": "judges a field while it is typed",
    "application_draft": "a draft of the form",
    "application_draft_policies": "a draft of the form",
    "application_draft_attach": "a draft of the form",
    "application_draft_arrange": "a draft of the form",
    "application_draft_discard": "a draft of the form",
    "application_simulate": "asks what would be; changes nothing that decides",
    "connector_logs_watch": "opens a live stream for the page that shows it",
    "connector_logs_stop": "ends that stream",
}


def takes_forms(route: Route) -> bool:
    """By what the view says it takes: GET-only views carry require_GET."""
    source = inspect.getsource(inspect.unwrap(route.view))
    decorators = source[: source.index("\ndef ")] if "\ndef " in source else source
    return "require_GET" not in decorators


def test_every_form_has_its_request_or_a_reason() -> None:
    posting = {str(route.name) for route in team_routes() if takes_forms(route)}
    assert len(posting) > 90
    assert posting >= set(WITHOUT)
    missing = {name for name in posting if not has_api_request(name)} - set(WITHOUT)
    assert missing == set(), "register it in api_forms.py or api_calls.py of its app"
    assert not {name for name in WITHOUT if has_api_request(name)}
