"""/openapi.json: OpenAPI 3.1, made from the very table that answers requests.

What is not in that table, the data plane, is described by hand: `openapi_inference`
and `openapi_v2`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from arena_core.domain.values import LONGEST_NAME, Role
from arena_core.entrypoints.http import (
    openapi_inference,
    openapi_responses,
    openapi_v2,
)
from arena_core.entrypoints.http.endpoints import (
    NUMBERS,
    TEXTS,
    Endpoint,
    Listing,
    ListOf,
    Nothing,
    Past,
)
from arena_core.entrypoints.http.errors import Plain, Problem

FORM = "application/x-www-form-urlencoded"
_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of `endpoints`, and of the data plane."""
    types = _types(endpoints)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, by_type, components)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "arena-core",
            "version": version,
            "summary": "Trained checkpoints become agents that answer, with a history.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**paths, **openapi_inference.PATHS, **openapi_v2.PATHS},
        "components": {
            "schemas": {**components, **openapi_inference.SCHEMAS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(endpoints: Sequence[Endpoint]) -> list[Any]:
    types: list[Any] = [Problem, Plain, Nothing, Past, Listing]
    for endpoint in endpoints:
        answer = endpoint.answer
        carried = answer.item if isinstance(answer, ListOf) else answer
        also = endpoint.also_answer or carried
        shows = endpoint.also_shows or carried
        for kind in (carried, also, shows, endpoint.body, endpoint.query):
            if kind not in types:
                types.append(kind)
    return types


def _operation(
    endpoint: Endpoint, by_type: Mapping[Any, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    query = components[endpoint.query.__name__]
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "tags": [_tag(endpoint.path)],
        "parameters": [
            *_path_parameters(endpoint),
            *_query_parameters(query),
            *_header_parameters(endpoint),
        ],
        "responses": openapi_responses.of(endpoint, by_type),
    }
    if isinstance(endpoint.needs, Role):
        operation["security"] = [{"token": []}]
    body = _request_body(endpoint, by_type, components)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _request_body(
    endpoint: Endpoint, by_type: Mapping[Any, Any], components: Mapping[str, Any]
) -> dict[str, Any] | None:
    if endpoint.upload:
        tar = {"schema": {"type": "string", "format": "binary"}}
        kinds = ("application/x-tar", "application/octet-stream")
        return {"required": True, "content": dict.fromkeys(kinds, tar)}
    if endpoint.body is Nothing:
        return None
    kind = FORM if endpoint.form else "application/json"
    required = bool(components[endpoint.body.__name__].get("required"))
    return {
        "required": required,
        "content": {kind: {"schema": by_type[endpoint.body]}},
    }


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", _PARAMETER.sub(r"\1", endpoint.path))
    return "_".join([endpoint.method.lower(), *words])


def _tag(path: str) -> str:
    """Return what an address is about: the part after the prefix of its family."""
    named = re.sub(r"^/api/(cli/v1|v1|users)/|^/realms/.*/", "", path)
    return re.split(r"[/.]", named.strip("/"), maxsplit=1)[0]


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _of_path(name)}
        for name in _PARAMETER.findall(endpoint.path)
    ]


def _of_path(name: str) -> dict[str, Any]:
    if name in NUMBERS:
        return {"type": "integer", "minimum": 0}
    if name in TEXTS:
        return {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    return {"type": "string", "format": "uuid"}


def _header_parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    if endpoint.takes_key:
        yield _header(
            "Idempotency-Key", "Under one key it is done once, within 24 hours"
        )
    if endpoint.takes_if_match:
        yield _header("If-Match", "The ETag of what is to be changed")
    if endpoint.method == "GET" and isinstance(endpoint.needs, Role):
        yield _header("If-None-Match", "The ETag of what is there already: 304 then")


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


def _query_parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": described,
        }
        for name, described in schema["properties"].items()
    ]
