"""What /openapi.json says of the Open Inference Protocol, version 2.

Tensors may also come and go as bytes behind the JSON: see `application/open_inference`.
"""

from typing import Any

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_STATUSES = {
    "400": "The request does not fit the agent: error says what to change",
    "401": "The credential is missing, unknown, rotated or revoked",
    "403": "The credential is good, but not for this",
    "404": "There is no such agent or version, or it is somebody else's",
    "409": "The state of things does not allow it",
    "413": "The body is larger than the server allows",
    "429": "Too often: see Retry-After",
    "503": "Not now: see Retry-After",
    "504": "The deadline was over before its turn",
}
_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The id of an agent or of its deployment, or the agent's name",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "The first twelve characters of the live checkpoint's digest",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
}


def _object(required: list[str], **properties: object) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _many(items: object) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_PARAMETERS = {
    "type": ["object", "null"],
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_DESCRIBED = _object(
    ["name", "datatype", "shape"],
    name=_TEXT,
    datatype=_TEXT,
    shape=_many({"type": "integer", "minimum": -1}),
)
_TENSOR = _object(
    ["name", "datatype", "shape"],
    name=_TEXT,
    datatype=_TEXT,
    shape=_many({"type": "integer", "minimum": 0}),
    parameters=_PARAMETERS,
    data={"type": ["array", "null"]},
)
_ASKED = _object(
    ["inputs"],
    id={"type": ["string", "null"]},
    parameters=_PARAMETERS,
    inputs=_many(_TENSOR),
    outputs={
        "type": ["array", "null"],
        "items": _object(["name"], name=_TEXT, parameters=_PARAMETERS),
    },
)
_ANSWERED = _object(
    ["model_name", "outputs"],
    model_name=_TEXT,
    model_version=_TEXT,
    id=_TEXT,
    parameters=_PARAMETERS,
    outputs=_many(_TENSOR),
)
_METADATA = _object(
    ["name", "versions", "platform", "inputs", "outputs"],
    name=_TEXT,
    versions=_many(_TEXT),
    platform=_TEXT,
    inputs=_many(_DESCRIBED),
    outputs=_many(_DESCRIBED),
)
_SERVER = _object(
    ["name", "version", "extensions"],
    name=_TEXT,
    version=_TEXT,
    extensions=_many(_TEXT),
)
_READY = _object(["name", "ready"], name=_TEXT, ready=_FLAG)
_HEALTH = _object(["live", "ready"], live=_FLAG, ready=_FLAG)
_INDEX = _many(_object(["name", "state"], name=_TEXT, state=_TEXT))
_REFUSED = {
    "allOf": [
        {"$ref": "#/components/schemas/Problem"},
        _object(["error"], error=_TEXT),
    ]
}


def _operation(  # noqa: PLR0913 -- what an operation is
    summary: str,
    operation_id: str,
    answer: dict[str, Any] | None,
    *parameters: dict[str, Any],
    body: dict[str, Any] | None = None,
    is_public: bool = False,
    is_state: bool = False,
) -> dict[str, Any]:
    """Return an operation; `is_state`: whether 503 is an answer, too."""
    refused = {"content": {_PROBLEM: {"schema": _REFUSED}}}
    answered: dict[str, Any] = {"description": summary}
    if answer is not None:
        answered["content"] = {_JSON: {"schema": answer}}
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": operation_id,
        "tags": ["open inference"],
        "parameters": list(parameters),
        "responses": {
            "200": answered,
            **{s: {**refused, "description": said} for s, said in _STATUSES.items()},
            "default": {**refused, "description": "What is wrong, and what to do"},
        },
    }
    if is_state:
        operation["responses"]["503"] = answered
    if not is_public:
        operation["security"] = [{"token": []}]
    if body is not None:
        content = {_JSON: {"schema": body}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _health(of: str) -> dict[str, Any]:
    said = f"Say whether the server is {of}"
    operation = _operation(
        said, f"v2_health_{of}", _HEALTH, is_public=True, is_state=True
    )
    return {"get": operation}


def _of_model(suffix: str, *parameters: dict[str, Any]) -> dict[str, dict[str, Any]]:
    path, name = f"/v2/models/{suffix}", "v2_version" if len(parameters) > 1 else "v2"
    return {
        path: {
            "get": _operation(
                "Say what it takes and gives",
                f"{name}_metadata",
                _METADATA,
                *parameters,
            )
        },
        f"{path}/ready": {
            "get": _operation(
                "Say whether it answers",
                f"{name}_ready",
                _READY,
                *parameters,
                is_state=True,
            )
        },
        f"{path}/infer": {
            "post": _operation(
                "Ask it", f"{name}_infer", _ANSWERED, *parameters, body=_ASKED
            )
        },
    }


_ORDERED = "/v2/repository/models/{model}"
PATHS: dict[str, dict[str, Any]] = {
    "/v2": {"get": _operation("Say what the server can do", "v2_server", _SERVER)},
    "/v2/health/live": _health("live"),
    "/v2/health/ready": _health("ready"),
    **_of_model("{model}", _MODEL),
    **_of_model("{model}/versions/{version}", _MODEL, _VERSION),
    "/v2/repository/index": {
        "post": _operation("List the agents and their states", "v2_index", _INDEX)
    },
    f"{_ORDERED}/load": {"post": _operation("Connect", "v2_load", None, _MODEL)},
    f"{_ORDERED}/unload": {"post": _operation("Disconnect", "v2_unload", None, _MODEL)},
}
