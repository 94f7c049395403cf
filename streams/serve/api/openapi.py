"""The OpenAPI 3.1 document, made of the routes and the types of their parameters, bodies and answers. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from streams.schema import interaction_schema
from streams.serve.api.problems import CONTENT_TYPE as PROBLEM
from streams.serve.api.problems import PROBLEMS, ProblemDocument
from streams.serve.api.routes import EVENTS, FORM, JSON, PATH_TYPES, Route

_REF = "#/components/schemas/{name}"
_BINARY = {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document of these routes."""
    kinds = [kind for route in routes for kind in (route.answer, route.body) if kind is not None]
    schemas, components = msgspec.json.schema_components([*kinds, ProblemDocument], ref_template=_REF)
    # The rules of an interaction that its type alone does not express
    components["InteractionMessage"] = interaction_schema()["$defs"]["InteractionMessage"]
    found = iter(schemas)
    paths: dict[str, Any] = defaultdict(dict)
    for route in routes:
        answer = next(found)
        body = None if route.body is None else next(found)
        paths[route.path][route.method.lower()] = _operation(route, answer, body)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tastestream",
            "version": version("tastestream"),
            "description": "What users want next, from the pictures that they touched. Times are RFC 3339.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(paths),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`tastestream token create` makes one. Its scopes are read, write and admin.",
                }
            },
        },
    }


def _operation(route: Route, answer: dict[str, Any], body: dict[str, Any] | None) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "The answer.", "content": {route.media: {"schema": _schema(route, answer)}}}
    responses: dict[str, Any] = {str(route.status): good}
    for status, when in route.also.items():
        responses[str(status)] = {"description": when} if status == 304 else {**good, "description": when}
    reasons: dict[int, list[str]] = defaultdict(list)
    for reason in route.reasons:
        reasons[PROBLEMS[reason].status].append(reason)
    for status, some in sorted(reasons.items()):
        problem = {"schema": {"$ref": _REF.format(name="ProblemDocument")}}
        described = {"description": "; ".join(f"`{reason}`" for reason in some), "content": {PROBLEM: problem}}
        before = responses.get(str(status))
        if before is not None:  # a status that an answer has too
            described = {
                "description": f"{before['description']} Or {described['description']}",
                "content": {**before["content"], PROBLEM: problem},
            }
        responses[str(status)] = described
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": responses,
        "security": [] if route.scope is None else [{"token": []}],
    }
    if route.scope is not None:
        operation["x-scope"] = route.scope
    if body is not None:
        content: dict[str, Any] = {JSON: {"schema": body}}
        if route.form is not None:
            _, parts = msgspec.json.schema_components([route.form], ref_template=_REF)
            [form] = parts.values()
            form["properties"] = {
                name: {**_BINARY, "description": f"{name}: files, or URLs as text"} for name in form["properties"]
            }
            content[FORM] = {"schema": {**form, "minProperties": 1}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _schema(route: Route, answer: dict[str, Any]) -> dict[str, Any]:
    return (
        {"type": "string", "description": f"`data` of an event: {answer['$ref']}"} if route.media == EVENTS else answer
    )


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "percent-encoded, a slash in it too",
            "schema": msgspec.json.schema(PATH_TYPES[name]),
        }
        for name in route.path_names
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([route.query], ref_template=_REF)
    [kind] = components.values()
    required = kind.get("required", [])
    found: list[dict[str, Any]] = []
    for name, schema in kind["properties"].items():
        described = {key: value for key, value in schema.items() if key != "description"}
        found.append({"name": name, "in": "query", "required": name in required, "schema": described})
        if "description" in schema:
            found[-1]["description"] = schema["description"]
    return found
