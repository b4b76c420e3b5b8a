"""OpenAPI of the plain views, by hand: uploads (tus 1.0), waiting details, signed downloads, the document itself."""

from __future__ import annotations

from typing import Any

REF = "#/components/schemas/"
SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]


def _header(name: str, description: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "schema": {"type": "string"}, "description": description}


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": description}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


TUS = _header("Tus-Resumable", "1.0.0")
UPLOAD_ID = _path("upload_id", "upl_…")
UPLOAD = {
    "type": "object",
    "required": ["id", "state", "role", "file_name", "size_bytes", "offset_bytes", "sha256", "expires_at", "artifact"],
    "properties": {
        "id": {"type": "string"},
        "state": {"type": "string", "enum": ["open", "complete", "aborted", "expired"]},
        "role": {"type": "string", "enum": ["model", "dataset"]},
        "file_name": {"type": "string"},
        "size_bytes": {"type": "integer"},
        "offset_bytes": {"type": "integer"},
        "sha256": {"type": "string"},
        "expires_at": {"type": "string", "format": "date-time"},
        "artifact": {"type": ["string", "null"]},
    },
}
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "role": {"type": "string", "enum": ["model", "dataset"], "default": "model"},
        "sha256": {"type": "string"},
    },
}
WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0, "maximum": 30, "default": 0},
    "description": "Hold the answer until the work has ended, at most so many seconds.",
}


def _operation(
    name: str, tag: str, text: str, *, parameters: list[dict[str, Any]], responses: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": [tag],
        "description": text,
        "parameters": parameters,
        "security": SECURITY,
        "responses": responses,
        **more,
    }


ROOT = {
    "get": _operation(
        "list_uploads",
        "uploads",
        "Your open uploads.",
        parameters=[],
        responses={
            "200": _json(
                "Open uploads", {"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "items": UPLOAD}}}
            )
        },
    ),
    "post": _operation(
        "create_upload",
        "uploads",
        "tus 1.0 creation, or a whole file up to 256 MiB as multipart/form-data.",
        parameters=[
            _header("Tus-Resumable", "1.0.0 (not for a form)", required=False),
            _header("Upload-Length", "Bytes of the file", required=False),
            _header("Upload-Metadata", "filename, role (model or dataset), optionally sha256; values in base64", required=False),
        ],
        responses={
            "201": {
                "description": "Created; send pieces to Location. A form is complete and answers with the upload.",
                "headers": {"Location": {"schema": {"type": "string"}}, "Upload-Expires": {"schema": {"type": "string"}}},
            }
        },
        requestBody={"required": False, "content": {"multipart/form-data": {"schema": FORM}}},
    ),
}
DETAIL = {
    "get": _operation("get_upload", "uploads", "An upload.", parameters=[UPLOAD_ID], responses={"200": _json("The upload", UPLOAD)}),
    "head": _operation(
        "get_upload_offset",
        "uploads",
        "tus: how far the upload has come.",
        parameters=[UPLOAD_ID, TUS],
        responses={
            "200": {"description": "Upload-Offset and Upload-Length", "headers": {"Upload-Offset": {"schema": {"type": "integer"}}}}
        },
    ),
    "patch": _operation(
        "send_piece",
        "uploads",
        "tus: the next piece, at most 16 MiB, 8 MiB advised. The last one completes the upload (Parka-Artifact).",
        parameters=[
            UPLOAD_ID,
            TUS,
            _header("Upload-Offset", "Where the piece starts"),
            _header("Upload-Checksum", "sha256 and base64", required=False),
        ],
        responses={"204": {"description": "Written", "headers": {"Upload-Offset": {"schema": {"type": "integer"}}}}},
        requestBody={"required": True, "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    ),
    "delete": _operation(
        "abort_upload", "uploads", "tus: give the upload up.", parameters=[UPLOAD_ID, TUS], responses={"204": {"description": "Gone"}}
    ),
}
PATHS: dict[str, dict[str, Any]] = {
    "/api/v1/uploads": ROOT,
    "/api/v1/uploads/{upload_id}": DETAIL,
    "/api/v1/experiments/{key}": {
        "get": _operation(
            "get_experiment",
            "experiments",
            "An experiment by id or E-45.",
            parameters=[_path("key", "exp_… or E-45"), WAIT],
            responses={"200": _json("The experiment", {"$ref": f"{REF}ExperimentDetail"})},
        )
    },
    "/api/v1/runs/{key}": {
        "get": _operation(
            "get_run",
            "runs",
            "A run by id or R-118.",
            parameters=[_path("key", "run_… or R-118"), WAIT],
            responses={"200": _json("The run", {"$ref": f"{REF}RunDetail"})},
        )
    },
}
