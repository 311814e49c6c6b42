"""/openapi.json: OpenAPI 3.1, made from the very table that answers requests."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import (
    NUMBERS,
    Endpoint,
    Listing,
    ListOf,
    Nothing,
    Past,
)
from arena_core.entrypoints.http.errors import Problem

_PARAMETER = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"
_AUTHENTICATED = {
    "401": "The credential is missing, unknown, rotated or revoked",
    "403": "The role does not allow it",
}


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of `endpoints`."""
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
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _types(endpoints: Sequence[Endpoint]) -> list[Any]:
    types: list[Any] = [Problem, Nothing, Past, Listing]
    for endpoint in endpoints:
        answer = endpoint.answer
        carried = answer.item if isinstance(answer, ListOf) else answer
        also = endpoint.also_answer or carried
        for kind in (carried, also, endpoint.body, endpoint.query):
            if kind not in types:
                types.append(kind)
    return types


def _operation(
    endpoint: Endpoint, by_type: dict[Any, Any], components: dict[str, Any]
) -> dict[str, Any]:
    query = components[endpoint.query.__name__]
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": [*_path_parameters(endpoint), *_query_parameters(query)],
        "responses": _responses(endpoint, by_type),
    }
    if isinstance(endpoint.needs, Role):
        operation["security"] = [{"token": []}]
    if endpoint.upload:
        tar = {"schema": {"type": "string", "format": "binary"}}
        kinds = ("application/x-tar", "application/octet-stream")
        operation["requestBody"] = {
            "required": True,
            "content": dict.fromkeys(kinds, tar),
        }
    elif endpoint.body is not Nothing:
        schema = {"schema": by_type[endpoint.body]}
        required = bool(components[endpoint.body.__name__].get("required"))
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": schema},
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", _PARAMETER.sub(r"\1", endpoint.path))
    return "_".join([endpoint.method.lower(), *words])


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer"}
            if name in NUMBERS
            else {"type": "string", "format": "uuid"},
        }
        for name in _PARAMETER.findall(endpoint.path)
    ]


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
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


def _responses(endpoint: Endpoint, by_type: dict[Any, Any]) -> dict[str, Any]:
    answers = {endpoint.status: endpoint.answer}
    if endpoint.also is not None:
        answers[endpoint.also] = endpoint.also_answer or endpoint.answer
    responses = {
        str(int(status)): {
            "description": endpoint.summary,
            "content": {
                media_type: {"schema": _answer(answer, by_type)}
                for media_type in endpoint.media_types
            },
        }
        for status, answer in answers.items()
    }
    responses["default"] = _problem(by_type)
    if isinstance(endpoint.needs, Role):
        for status, description in _AUTHENTICATED.items():
            responses[status] = {**_problem(by_type), "description": description}
    return responses


def _answer(answer: object, by_type: dict[Any, Any]) -> dict[str, Any]:
    if not isinstance(answer, ListOf):
        schema: dict[str, Any] = by_type[answer]
        return schema
    items = {"type": "array", "items": by_type[answer.item]}
    cursor = {"type": ["string", "null"]}
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {"items": items, "next_cursor": cursor},
    }


def _problem(by_type: dict[Any, Any]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": by_type[Problem]}}
    return {"description": "What is wrong, and what to do", "content": content}
