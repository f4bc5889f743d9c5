"""A SCIM client of few lines, and rows for SCIM tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from accounts.actions.scim_settings import set_scim
from accounts.models import IdentityProvider, Organization
from tests.access.makers import ACTOR, CLIENT_IP

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@dataclass
class Scim:
    provider: IdentityProvider
    secret: str
    host: str = ""
    # One for all calls: each new one would set up the middleware again.
    client: Client = field(default_factory=Client)

    @property
    def base(self) -> str:
        return f"/cdn-cgi/access/scim/v2/{self.provider.pk}"

    def send(
        self, method: str, path: str, body: Any = None, *, secret: str | None = None, **headers: str
    ) -> HttpResponse:
        return self.client.generic(
            method,
            f"{self.base}{path}",
            json.dumps(body) if body is not None else "",
            content_type="application/scim+json",
            headers={
                "Host": self.host or self.provider.organization.team_domain,
                "Authorization": f"Bearer {self.secret if secret is None else secret}",
                "Sallyport-Edge-Token": settings.EDGE_TOKEN,
                "Sallyport-Client-Ip": CLIENT_IP,
                **headers,
            },
        )

    def ok(self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Any:
        response = self.send(method, path, body, **headers)
        assert response.status_code == status, (method, path, response.status_code, response.content)
        if status != 204:
            assert response["Content-Type"] == "application/scim+json"
        return json.loads(response.content) if response.content else None

    def refused(self, method: str, path: str, body: Any = None, *, status: int, **headers: str) -> dict[str, Any]:
        response = self.send(method, path, body, **headers)
        assert response.status_code == status, (method, path, response.status_code, response.content)
        problem: dict[str, Any] = json.loads(response.content)
        assert problem["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert problem["status"] == str(status)
        assert problem["detail"]
        return problem

    def user(self, user_name: str = "alice@widgetcorp.test", **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.ok("POST", "/Users", {"userName": user_name, **more}, status=201)
        return made

    def group(self, name: str, *members: dict[str, Any], **more: Any) -> dict[str, Any]:
        listed = [{"value": member["id"]} for member in members]
        made: dict[str, Any] = self.ok("POST", "/Groups", {"displayName": name, "members": listed, **more}, status=201)
        return made

    def patch(self, path: str, *operations: dict[str, Any], **headers: str) -> Any:
        return self.ok("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, **headers)


def make_scim(organization: Organization, *, name: str = "Okta", **settings_of_scim: Any) -> Scim:
    provider, _ = IdentityProvider.objects.get_or_create(
        organization=organization, name=name, defaults={"type": "okta"}
    )
    secret = set_scim(provider, actor=ACTOR, enabled=True, **settings_of_scim)
    provider.refresh_from_db()
    return Scim(provider, secret or "")
