"""Tags of applications: actions, API, the unmodified SDK's shapes, pages."""

from __future__ import annotations

import pytest

from access.actions.applications import update_application
from access.actions.tags import create_tag
from access.models import Application, Tag
from accounts.errors import InvalidInput
from tests.access.makers import ACTOR, make_application
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import last_event, login, shown


def names_of(application: Application) -> list[str]:
    return sorted(application.tags.values_list("name", flat=True))


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 36, "-a", "a-", "naïve", "a%2Fb", "<b>", "a\nb"])
def test_names_are_checked(cast: Cast, name: str) -> None:
    with pytest.raises(InvalidInput):
        create_tag(cast.widgetcorp, actor=ACTOR, name=name)
    assert not Tag.objects.exists()


def test_an_application_carries_existing_tags_up_to_25(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, authority=False)
    for number in range(26):
        create_tag(cast.widgetcorp, actor=ACTOR, name=f"tag {number}")
    create_tag(cast.evilcorp, actor=ACTOR, name="theirs")
    update_application(application, actor=ACTOR, tags=["tag 1", "TAG 2"])
    assert names_of(application) == ["tag 1", "tag 2"]
    event = last_event(cast.widgetcorp)
    assert event.new is not None
    assert event.new["tags"] == ["tag 1", "tag 2"]
    for refused in (["theirs"], ["missing"], [f"tag {number}" for number in range(26)]):
        with pytest.raises(InvalidInput) as error:
            update_application(application, actor=ACTOR, tags=refused)
        assert "tags" in error.value.fields
    assert names_of(application) == ["tag 1", "tag 2"]
    update_application(application, actor=ACTOR, name="Renamed")
    assert names_of(application) == ["tag 1", "tag 2"]


def test_api(cast: Cast) -> None:
    api = make_api(cast.widgetcorp)
    application = make_application(cast.widgetcorp, authority=False)
    tags, app = f"{api.account}/access/tags", f"{api.account}/access/apps/{application.pk}"
    assert api.ok("POST", tags, {"name": "data bases"})["app_count"] == 0
    api.refused("POST", tags, {"name": "Data Bases"}, status=409)
    api.refused("PATCH", app, {"tags": ["nothing"]}, status=400)
    assert api.ok("PATCH", app, {"tags": ["data bases"]})["tags"] == ["data bases"]
    assert api.ok("PATCH", app, {"name": "SSH"})["tags"] == ["data bases"]
    assert api.ok("GET", tags)[0]["app_count"] == 1
    assert api.ok("PUT", f"{tags}/data%20bases", {"name": "storage"})["name"] == "storage"
    assert last_event(cast.widgetcorp).name == "access.tag.updated"
    assert api.ok("GET", app)["tags"] == ["storage"]
    made = api.ok("POST", f"{api.account}/access/tags", {"name": "eu"})
    assert api.ok("GET", f"{tags}/{made['name']}")["name"] == "eu"
    assert api.ok("DELETE", f"{tags}/storage") == {"name": "storage"}
    assert api.ok("GET", app)["tags"] == []
    event = last_event(cast.widgetcorp)
    assert (event.name, event.old) == ("access.tag.deleted", {"name": "storage", "applications": ["SSH"]})
    # PUT of an application resets what is not sent.
    api.ok("PATCH", app, {"tags": ["eu"]})
    api.ok("PUT", app, {"name": "SSH", "domain": application.domain})
    assert names_of(application) == []


def test_pages(cast: Cast) -> None:
    client = login(cast.erin)
    base = "/o/widgetcorp/access/tags/"
    application = make_application(cast.widgetcorp, authority=False)
    settings = f"/o/widgetcorp/access/applications/{application.pk}/settings/"
    assert "Find applications by a word" in shown(client, base)
    assert client.post(f"{base}add/", {"name": "a/b"}).status_code == 422
    assert client.post(f"{base}add/", {"name": "databases"}).status_code == 302
    tag = Tag.objects.get()
    assert 'name="tags"' in shown(client, settings)
    sent = {
        "name": "SSH bastion",
        "domain": application.domain,
        "session_duration_seconds": "86400",
        "app_launcher_visible": "on",
        "tags": "databases",
    }
    # The domain is not this organization's, which only matters when it changes.
    assert client.post(f"{settings}edit/", sent).status_code == 302
    assert names_of(application) == ["databases"]
    assert "databases" in shown(client, base)
    assert client.post(f"{base}{tag.pk}/edit/", {"name": "stores"}).status_code == 302
    assert names_of(application) == ["stores"]
    assert "1 application" in shown(client, f"{base}{tag.pk}/delete/")
    assert client.post(f"{base}{tag.pk}/delete/").status_code == 302
    assert names_of(application) == []
