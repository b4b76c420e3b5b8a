"""Serializer fields that several resources share."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from optimizer.codec import from_jsonable


class SpecField(serializers.JSONField):
    """A value of the engine as JSON; ``kind`` is its dataclass, whose schema appears in the OpenAPI document."""

    def __init__(self, kind: type, **options: Any) -> None:
        self.kind = kind
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> Any:
        return from_jsonable(self.kind, data)
