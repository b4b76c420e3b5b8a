"""Errors of the engine: a stable code, a side, and a sentence that says what to do next."""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """Who can mend the cause."""

    USER = "user"
    SYSTEM = "system"


class EngineError(Exception):
    """Root of every error that the engine raises on purpose.

    ``code`` is stable and dotted (``area.reason``); ``message`` is one sentence for a person.
    """

    side: Side = Side.SYSTEM

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InputError(EngineError):
    """What the user handed in cannot be used as it is; the message says what to do."""

    side = Side.USER


class EngineFault(EngineError):
    """The engine or its host failed; the input may be fine."""
