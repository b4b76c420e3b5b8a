"""What drf-spectacular cannot know: values of the engine, pages, problem documents, and the plain views."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension

from optimizer.codec import type_adapter
from parka.api.handwritten import PATHS

PREFIX = "/api/v1/"
JSON = "application/json"
REF = "#/components/schemas/"
IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "Repeat a request safely: the same key and body get the same answer for 24 hours.",
}
PAGE_PARAMETERS = [
    {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "From `next` or `previous`."},
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}},
]
PROBLEM = {
    "type": "object",
    "description": "RFC 9457; `type` is a page that explains the code.",
    "required": ["type", "title", "status", "detail", "instance", "code", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request's id."},
        "code": {"type": "string", "description": "Stable, never renamed."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {name: {"type": "string"} for name in ("pointer", "code", "detail")},
            },
        },
    },
}
FAILED = {"description": "A problem", "content": {"application/problem+json": {"schema": {"$ref": f"{REF}Problem"}}}}
ENGINE_SCHEMAS: dict[str, Any] = {}


class SpecFieldExtension(OpenApiSerializerFieldExtension):
    """The JSON schema of an engine value, kept once under its name."""

    target_class = "parka.api.fields.SpecField"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        kind = self.target.kind
        schema = type_adapter(kind).json_schema(ref_template=f"{REF}{{model}}", mode="serialization")
        ENGINE_SCHEMAS.update(schema.pop("$defs", {}))
        ENGINE_SCHEMAS[kind.__name__] = schema
        return {"$ref": f"{REF}{kind.__name__}"}


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Postprocessing hook: engine schemas, hand-written paths, pages, idempotency and problems."""
    schemas = result["components"].setdefault("schemas", {})
    schemas.update({name: schema for name, schema in ENGINE_SCHEMAS.items() if name not in schemas})
    schemas["Problem"] = PROBLEM
    for path, item in PATHS.items():
        result["paths"].setdefault(path, {}).update(item)
    for path, item in result["paths"].items():
        if path.startswith(PREFIX):
            for method, operation in item.items():
                _finish(method, operation)
    _drop_empty_choices(result)
    result["paths"] = dict(sorted(result["paths"].items()))
    result["components"]["schemas"] = dict(sorted(schemas.items()))
    return result


def _finish(method: str, operation: dict[str, Any]) -> None:
    operation["responses"].setdefault("default", FAILED)
    if method == "post" and JSON in operation.get("requestBody", {}).get("content", {}):
        operation.setdefault("parameters", []).append(IDEMPOTENCY)
    for response in operation["responses"].values():
        content = response.get("content", {}).get(JSON, {})
        if content.get("schema", {}).get("type") == "array":
            content["schema"] = _page(content["schema"])
            operation.setdefault("parameters", []).extend(PAGE_PARAMETERS)


def _drop_empty_choices(node: Any) -> None:
    """Anything at all includes null: a choice between the two would be ambiguous."""
    if isinstance(node, dict):
        if {} in node.get("oneOf", []):
            node.pop("oneOf")
        for inner in node.values():
            _drop_empty_choices(inner)
    elif isinstance(node, list):
        for inner in node:
            _drop_empty_choices(inner)


def _page(items: dict[str, Any]) -> dict[str, Any]:
    link = {"type": ["string", "null"], "format": "uri"}
    properties = {"items": items, "next": link, "previous": link}
    return {"type": "object", "required": list(properties), "properties": properties}
