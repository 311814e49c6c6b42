"""What /openapi.json says of the data plane, which no table of endpoints describes.

Arrays are `.npy` files in base64, and nest: see `application/action_requests`.
"""

from typing import Any

_JSON = "application/json"
_NPY = "application/x-npy"
_REFUSALS = {
    "400": "The request does not fit the agent: detail says what to change",
    "401": "The credential is missing, unknown, rotated or revoked",
    "403": "The credential is good, but not for this deployment",
    "404": "Nothing is served at this address",
    "408": "The body came too slowly",
    "409": "Other weights have made the hidden state: begin the episode anew",
    "413": "The body is larger than the server allows",
    "429": "This credential has used up its rate: see Retry-After",
    "503": "It is being put live, has failed or is overloaded: see Retry-After",
    "504": "The deadline was over before its turn",
}
_DEPLOYMENT = {
    "name": "deployment_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}
_DEADLINE = {
    "name": "Arena-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "By when the request is begun, or refused",
    "schema": {"type": "integer", "minimum": 1, "maximum": 86_400_000},
}
_MODE = {
    "name": "mode",
    "in": "query",
    "required": False,
    "description": "sample draws from the policy's distribution, if it has one",
    "schema": {"type": "string", "enum": ["greedy", "sample"], "default": "greedy"},
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(name: str, *others: str) -> dict[str, Any]:
    """Return the responses of an operation that answers a `name`."""
    content: dict[str, Any] = {_JSON: {"schema": _ref(name)}}
    content.update({kind: {"schema": {"type": "string"}} for kind in others})
    refusal = {"content": {_JSON: {"schema": _ref("Refusal")}}}
    return {
        "200": {"description": "The answer", "content": content},
        **{
            status: {**refusal, "description": said}
            for status, said in _REFUSALS.items()
        },
        "default": {**refusal, "description": "What is wrong, and what to do"},
    }


def _call(verb: str, summary: str, asked: str, answered: str) -> dict[str, Any]:
    parameters = [_DEPLOYMENT, _DEADLINE]
    if verb == "get_action":
        parameters.append(_MODE)
    return {
        "summary": summary,
        "operationId": verb,
        "tags": ["inference"],
        "security": [{"token": []}],
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": _ref(asked)},
                _NPY: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": _answers(answered, _NPY),
    }


_STATUS = {
    "summary": "Say what the agent is",
    "operationId": "status",
    "tags": ["inference"],
    "parameters": [_DEPLOYMENT],
    "responses": _answers("AgentStatus"),
}
_ROOT = "/inference/{deployment_id}"
PATHS: dict[str, dict[str, Any]] = {
    f"{_ROOT}/status": {"get": _STATUS},
    f"{_ROOT}/get_action": {
        "post": _call("get_action", "Choose actions", "ActionRequest", "ActionAnswer")
    },
    f"{_ROOT}/predict": {
        "post": _call("predict", "Predict", "PredictRequest", "PredictAnswer")
    },
}


def _object(required: list[str], **properties: object) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_TREE = _ref("Tree")
_FLAGS = ("multi_agent", "llm", "recurrent", "supervised")
SCHEMAS: dict[str, Any] = {
    "Tree": {
        "description": "A .npy file in base64 whose first axis is the batch, null, or "
        "an object or a list of such.",
        "anyOf": [
            {"type": "string", "contentEncoding": "base64"},
            {"type": "null"},
            {"type": "object", "additionalProperties": _TREE},
            {"type": "array", "items": _TREE},
        ],
    },
    "ActionRequest": _object(
        ["obs"],
        obs=_TREE,
        batch_size={"type": ["integer", "null"]},
        action_mask=_TREE,
        hidden_state=_TREE,
        env_defined_actions=_TREE,
    ),
    "ActionAnswer": _object(
        ["action"],
        action=_TREE,
        hidden_state=_TREE,
    ),
    "PredictRequest": _object(["inputs"], inputs=_TREE),
    "PredictAnswer": _object(
        ["success", "results", "batch_size", "inference_time_ms"],
        success={"const": True},
        results=_TREE,
        batch_size={"type": "integer", "minimum": 1},
        inference_time_ms={"type": "number", "minimum": 0},
    ),
    "AgentStatus": {
        **_object(
            ["success", "deployment_id", "instance_id", "agent"],
            success={"const": True},
            deployment_id={"type": "string"},
            instance_id={"type": "string"},
            agent={
                **_object(
                    ["algo", *_FLAGS],
                    algo={"type": "string"},
                    **{flag: {"type": "boolean"} for flag in _FLAGS},
                ),
                "additionalProperties": False,
            },
        ),
        "additionalProperties": False,
    },
    "Refusal": _object(["detail"], detail={"type": "string"}),
}
