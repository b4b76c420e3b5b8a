"""JSON round trip of the frozen dataclasses: one door in, one door out."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from optimizer.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter  # imported on first use: a timed child that validates nothing starts faster

T = TypeVar("T")


@cache
def _cached_adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def type_adapter(kind: Any) -> TypeAdapter[Any]:
    """The compiled validator of a type; building one is slow, using one is not."""
    return _cached_adapter(kind)


def to_jsonable(value: object) -> Any:
    """Plain JSON types for a spec (or a container of specs)."""
    return type_adapter(type(value)).dump_python(value, mode="json")


def from_jsonable(kind: type[T], data: object) -> T:
    """Build and validate ``kind`` from plain JSON types; unknown keys are ignored.

    Raises InputError ``spec.invalid`` naming the first offending field.
    """
    from pydantic import ValidationError

    try:
        return type_adapter(kind).validate_python(data)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise InputError("spec.invalid", f"{where}: {first['msg']}.") from None


def canonical_json(value: object) -> str:
    """The one text form used for keys and digests: sorted keys, no spaces, no NaN."""
    return json.dumps(to_jsonable(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
