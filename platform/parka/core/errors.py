"""Errors of the platform: every refusal has a stable code, an HTTP status and a sentence that says what to do.

The codes themselves, with their default sentences, are listed once in ``core.codes``.
"""

from __future__ import annotations

from dataclasses import dataclass

from parka.core.codes import sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong field of a request; ``pointer`` is a JSON pointer such as ``/targets/0/value``."""

    pointer: str
    code: str
    detail: str


class PlatformError(Exception):
    """Root error of the platform. ``status`` is what HTTP answers; domain code never imports HTTP.

    ``message`` defaults to the registered sentence of the code; ``retry_after_s`` tells the caller when to come back.
    """

    status = 500

    def __init__(self, code: str, message: str = "", *, fields: tuple[FieldError, ...] = (), retry_after_s: int | None = None) -> None:
        self.code = code
        self.message = message or sentence(code)
        self.fields = fields
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class Refused(PlatformError):
    """The request cannot be carried out as it is."""

    status = 422


class BadRequest(PlatformError):
    """The request itself is malformed."""

    status = 400


class NotFound(PlatformError):
    """Absent, or not visible to the asker: the same answer for both."""

    status = 404

    def __init__(self, code: str = "not_found", message: str = "") -> None:
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


class PreconditionFailed(PlatformError):
    """``If-Match`` names another version than the current one, or a protocol header is missing."""

    status = 412


class TooLarge(PlatformError):
    """Over a size limit or quota."""

    status = 413


class UnsupportedMedia(PlatformError):
    """The body is of a type that this route does not read."""

    status = 415


class Locked(PlatformError):
    """Somebody else is writing the same thing right now."""

    status = 423


class RateLimited(PlatformError):
    """Too many; try later."""

    status = 429


class ChecksumMismatch(PlatformError):
    """The bytes are not the announced ones (tus 1.0 answers 460)."""

    status = 460


class Unavailable(PlatformError):
    """The server cannot answer now; the caller may retry."""

    status = 503


class StorageFull(PlatformError):
    """The disk of the server is full; reads go on."""

    status = 507


class UpgradeRequired(PlatformError):
    """The caller speaks another version of a protocol."""

    status = 426
