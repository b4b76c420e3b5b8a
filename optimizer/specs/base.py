"""What all nouns share."""

from __future__ import annotations

from typing import Any

SCHEMA_VERSION = 1
Json = Any
