"""Signed addresses by which an agent fetches a blob: GET only, short-lived, bound to the attempt that may read it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.conf import settings

from parka.core.errors import Forbidden

MAX_AGE_S = 15 * 60
BLOB_PATH = "/api/v1/blobs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobGrant:
    """Who may read which blob until when (``expires_at`` in Unix seconds)."""

    sha256: str
    size_bytes: int
    run: str
    attempt: int
    agent: str
    expires_at: int

    def message(self, method: str) -> bytes:
        """What is signed: every field, and the method."""
        parts = (method, self.sha256, self.size_bytes, self.run, self.attempt, self.agent, self.expires_at)
        return "|".join(str(part) for part in parts).encode()


def _keys() -> list[str]:
    return [settings.URL_SIGNING_KEY, *getattr(settings, "URL_SIGNING_KEY_FALLBACKS", [])]


def _signature(key: str, message: bytes) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def signed_blob_path(*, sha256: str, size_bytes: int, run: str, attempt: int, agent: str, lives_s: int = MAX_AGE_S) -> str:
    """Path with query under which that agent may GET the blob for at most 15 minutes."""
    expires_at = int(time.time()) + min(lives_s, MAX_AGE_S)
    grant = BlobGrant(sha256=sha256, size_bytes=size_bytes, run=run, attempt=attempt, agent=agent, expires_at=expires_at)
    query = {"size": size_bytes, "run": run, "attempt": attempt, "agent": agent, "exp": expires_at}
    return f"{BLOB_PATH}{sha256}?{urlencode({**query, 'sig': _signature(_keys()[0], grant.message('GET'))})}"


def read_grant(method: str, *, sha256: str, query: Mapping[str, str]) -> BlobGrant:
    """The grant in a signed address. Raises Forbidden ``url.invalid`` when it is edited, expired or for another method."""
    try:
        grant = BlobGrant(
            sha256=sha256,
            size_bytes=int(query["size"]),
            run=query["run"],
            attempt=int(query["attempt"]),
            agent=query["agent"],
            expires_at=int(query["exp"]),
        )
        signature = query["sig"]
    except (KeyError, ValueError):
        raise Forbidden("url.invalid") from None
    message = grant.message(method)
    genuine = [hmac.compare_digest(_signature(key, message).encode(), signature.encode()) for key in _keys()]
    if not any(genuine) or grant.expires_at < time.time():
        raise Forbidden("url.invalid")
    return grant
