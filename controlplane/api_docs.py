"""The API's own description: /client/v4/openapi.json and a page without scripts at /client/v4/docs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from ninja import NinjaAPI

from accounts.http import declares
from accounts.permissions import SCOPES, Permission

_PREFIX = "client/v4"
_PARAMETER = re.compile(r"{([a-z_]+)}")
_CONVERTER_FREE = re.compile(r"[{}]")


def pages(api: NinjaAPI) -> list[URLPattern]:
    """The two addresses below /client/v4. Public: they say nothing about any tenant."""

    @cache
    def schema() -> dict[str, Any]:
        return _complete(dict(api.get_openapi_schema(path_prefix=_PREFIX)))

    @declares(Permission.PUBLIC)
    def openapi_document(request: HttpRequest) -> HttpResponse:
        return HttpResponse(json.dumps(schema()), content_type="application/json")

    @declares(Permission.PUBLIC)
    def documentation(request: HttpRequest) -> HttpResponse:
        areas: dict[str, list[dict[str, Any]]] = {}
        for entry in _entries(schema()):
            areas.setdefault(entry["area"], []).append(entry)
        context = {"areas": areas, "scopes": [scope.value for scope in SCOPES]}
        return render(request, "api_docs.html", context)

    return [
        path("openapi.json", openapi_document, name="openapi"),
        path("docs", documentation, name="documentation"),
    ]


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Unique operation ids, and the path parameters that come from a router's prefix (ninja omits both)."""
    for address, methods in schema["paths"].items():
        for method, operation in list(methods.items()):
            # One operation object may stand under several addresses.
            copy = {**operation, "parameters": list(operation["parameters"])}
            words = _CONVERTER_FREE.sub("", address.removeprefix(f"/{_PREFIX}/")).replace("/", "_")
            copy["operationId"] = f"{method}_{words}"
            known = {parameter["name"] for parameter in copy["parameters"]}
            for name in _PARAMETER.findall(address):
                if name not in known:
                    parameter = {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
                    copy["parameters"].insert(0, parameter)
            methods[method] = copy
    return schema


def _entries(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for address, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield {
                "area": (operation.get("tags") or ["Other"])[0],
                "method": method.upper(),
                "path": address.removeprefix(f"/{_PREFIX}"),
                "summary": operation["summary"],
                "description": operation.get("description", ""),
                "permission": operation.get("x-permission", ""),
                "query": [item["name"] for item in operation["parameters"] if item["in"] == "query"],
                "fields": _body_fields(schema, operation),
            }


def _body_fields(schema: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    if "requestBody" not in operation:
        return []
    shape = operation["requestBody"]["content"]["application/json"]["schema"]
    reference = shape.get("$ref") or next((item["$ref"] for item in shape.get("anyOf", []) if "$ref" in item), "")
    body = schema["components"]["schemas"].get(reference.rpartition("/")[2], shape)
    required = set(body.get("required", []))
    return [{"name": name, "required": name in required} for name in body.get("properties", {})]
