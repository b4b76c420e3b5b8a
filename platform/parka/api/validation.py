"""Errors of serializers as JSON pointers with stable codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rest_framework.exceptions import ErrorDetail

from parka.core.errors import FieldError

CODES = {
    "required": "field.required",
    "blank": "field.blank",
    "empty": "field.blank",
    "null": "field.null",
    "max_length": "field.too_long",
    "max_string_length": "field.too_long",
    "min_value": "field.too_small",
    "max_value": "field.too_large",
    "min_length": "field.blank",
    "invalid_choice": "field.choice",
    "does_not_exist": "field.unknown_object",
}
WHOLE_OBJECT = "non_field_errors"


def field_errors(detail: Any, *, pointer: str = "") -> Iterator[FieldError]:
    """Every leaf of DRF's nested error detail; ``pointer`` is a JSON pointer such as ``/targets/0/value``."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            yield from field_errors(inner, pointer=pointer if key == WHOLE_OBJECT else f"{pointer}/{_escaped(str(key))}")
    elif isinstance(detail, list) and all(isinstance(item, ErrorDetail) for item in detail):
        yield from (_leaf(item, pointer) for item in detail)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            yield from field_errors(inner, pointer=f"{pointer}/{index}")
    elif isinstance(detail, ErrorDetail):
        yield _leaf(detail, pointer)


def _leaf(detail: ErrorDetail, pointer: str) -> FieldError:
    code = str(detail.code)
    return FieldError(pointer=pointer, code=code if "." in code else CODES.get(code, "field.invalid"), detail=str(detail))


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
