"""Errors of the platform: every refusal has a stable code, an HTTP status and a sentence that says what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong field of a request; ``pointer`` is a JSON pointer such as ``/targets/0/value``."""

    pointer: str
    code: str
    detail: str


class PlatformError(Exception):
    """Root error of the platform. ``status`` is what HTTP answers; domain code never imports HTTP."""

    status = 500

    def __init__(self, code: str, message: str, *, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = fields


class Refused(PlatformError):
    """The request cannot be carried out as it is."""

    status = 422


class NotFound(PlatformError):
    """Absent, or not visible to the asker: the same answer for both."""

    status = 404

    def __init__(self, code: str = "not_found", message: str = "There is no such object here.") -> None:
        super().__init__(code, message)


class Forbidden(PlatformError):
    """Visible, but the asker's role or scope does not allow it."""

    status = 403


class Unauthorized(PlatformError):
    """No or no longer valid credentials."""

    status = 401


class Conflict(PlatformError):
    """Somebody else changed the row first, or the fence does not match."""

    status = 409


class Gone(PlatformError):
    """It existed and has expired."""

    status = 410


class TooLarge(PlatformError):
    """Over a size limit or quota."""

    status = 413


class RateLimited(PlatformError):
    """Too many; try later."""

    status = 429


class Unavailable(PlatformError):
    """The server cannot answer now; the caller may retry."""

    status = 503
