"""The server's description in OpenAPI 3.1, made from what is served."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from luthier.deploy.serve.guard import Bounds

_STRING = {"type": "string"}
_INPUTS: dict[str, Any] = {
    "text": _STRING,
    "tokens": {"type": "array", "items": _STRING, "description": "The words of a text."},
    "image": {"type": "string", "contentEncoding": "base64", "description": "An image file in base64."},
}
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "description": "After which the answer is not wanted."}
_ERRORS = {
    "400": "The request cannot be read.",
    "401": "A token is missing or wrong.",
    "403": "The Host or the Origin is not this server's.",
    "404": "There is no such version.",
    "408": "The request did not arrive in time.",
    "413": "The body, an input or their number is too large.",
    "415": "The Content-Type is none of those above.",
    "422": "An input is not what the model reads.",
    "429": "The queue is full; Retry-After says when to ask again.",
    "500": "Computing the answer failed.",
    "503": "The model is being loaded, or the server is about to stop.",
    "504": "The deadline passed before the answer was computed.",
}


def document(about: Mapping[str, Any], bounds: Bounds, *, token: bool) -> dict[str, Any]:
    """The description.

    Args:
        about: As `luthier.deploy.serve.base.Answers.metadata` gives it.
        bounds: Sizes that are accepted.
        token: Whether one is asked for.
    """
    name = str(about["name"])
    model = f"/v2/models/{name}"
    paths = {
        "/predict": {"post": _predict(str(about.get("input", "text")), bounds)},
        "/v2": {"get": _get("The server.")},
        "/v2/health/live": {"get": _get("Whether the server runs.", free=True)},
        "/v2/health/ready": {"get": _get("Whether it can be asked.", "503", free=True)},
        model: {"get": _get("The model's inputs and outputs.")},
        f"{model}/ready": {"get": _get("Whether the model can be asked.", "503", free=True)},
        f"{model}/infer": {"post": _infer(bounds)},
        "/metrics": {"get": _get("Metrics in Prometheus' text form.", kind="text/plain")},
        "/docs": {"get": _get("A page to try the model on.", kind="text/html", free=True)},
        "/openapi.json": {"get": _get("This description.")},
    }
    for each in about["versions"]:
        paths[f"{model}/versions/{each}"] = {"get": _get("One version's inputs and outputs.")}
        paths[f"{model}/versions/{each}/infer"] = {"post": _infer(bounds)}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version("luthier"), "description": _described(about)},
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    if token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _described(about: Mapping[str, Any]) -> str:
    labels = [str(label) for label in about.get("labels", [])]
    more = ", ..." if len(labels) > 20 else ""
    told = f" Outputs: {', '.join(labels[:20])}{more}." if labels else ""
    return f"A model for {about.get('task', 'an unknown task')}.{told}"


def _predict(kind: str, bounds: Bounds) -> dict[str, Any]:
    one = _INPUTS[kind]
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": bounds.inputs}
    body = {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "inputs": many if kind == "tokens" else {"anyOf": [many, one]},
            "version": {**_STRING, "minLength": 1, "maxLength": 64},
            "timeout": _SECONDS,
        },
    }
    content: dict[str, Any] = {"application/json": {"schema": body}}
    if kind == "image":
        files = {"type": "array", "items": {"type": "string", "format": "binary"}}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": {"files": files}}}
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "summary": "Predict for one input or several.",
        "operationId": "predict",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _json("Answers, in the inputs' order.", "Predictions"), **_errors("Error")},
    }


def _infer(bounds: Bounds) -> dict[str, Any]:
    return {
        "summary": "Predict by the Open Inference Protocol, version 2.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
        },
        "responses": {"200": _json("Tensors of answers.", "InferResponse"), **_errors("PlainError")},
    }


def _get(told: str, *also: str, kind: str = "application/json", free: bool = False) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": told, "content": {kind: {}}}}
    responses |= {status: {"description": "Not now."} for status in also}
    found: dict[str, Any] = {"summary": told, "responses": responses}
    return {**found, "security": []} if free else found


def _json(told: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": told, "content": {"application/json": {"schema": reference}}}


def _errors(schema: str) -> dict[str, Any]:
    return {status: _json(told, schema) for status, told in _ERRORS.items()}


def _schemas() -> dict[str, Any]:
    described = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": _STRING, "message": _STRING, "request": _STRING},
    }
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": _STRING,
            "datatype": _STRING,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array"},
        },
    }
    given = {**tensor, "properties": {**tensor["properties"], "datatype": {"const": "BYTES"}}}  # type: ignore[dict-item]
    named = {"type": "object", "required": ["name"], "properties": {"name": _STRING}}
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": described}},
        "PlainError": {"type": "object", "required": ["error"], "properties": {"error": _STRING}},
        "Predictions": {
            "type": "object",
            "required": ["model", "version", "predictions"],
            "properties": {
                "model": _STRING,
                "version": _STRING,
                "predictions": {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"type": "object", "required": ["id"], "properties": {"id": _STRING}},
                            {"$ref": "#/components/schemas/Error"},
                        ]
                    },
                },
            },
        },
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {**_STRING, "maxLength": 256},
                "inputs": {"type": "array", "items": given, "minItems": 1, "maxItems": 1},
                "outputs": {"type": "array", "items": named, "maxItems": 64},
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": _STRING,
                "model_version": _STRING,
                "id": _STRING,
                "outputs": {"type": "array", "items": tensor},
            },
        },
    }
