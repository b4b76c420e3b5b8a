"""Requests per minute, counted in the shared cache; without the cache reads and writes go on."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import structlog
from django.core.cache import cache
from django.http import HttpRequest
from redis.exceptions import RedisError

from parka.accounts.access import Access
from parka.core.addresses import client_address
from parka.core.errors import RateLimited

log = structlog.get_logger(__name__)
WINDOW_S = 60
TOKEN_LIMIT = 600
ANONYMOUS_LIMIT = 60
GUESS_LIMIT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left of a caller's minute."""

    limit: int
    remaining: int
    resets_in_s: int

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy`` as of the IETF draft."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={WINDOW_S}',
            "RateLimit": f'"default";r={max(self.remaining, 0)};t={self.resets_in_s}',
        }


def count_request(request: HttpRequest, *, access: Access | None, user_id: int | None = None) -> Allowance:
    """Count one request of a token, a signed-in person or an address. Raises RateLimited ``rate.limited``."""
    if access is not None and access.scope is not None:
        return spend(f"token:{access.team.pk}:{access.via}:{access.user.pk}", limit=TOKEN_LIMIT)
    if access is not None or user_id is not None:
        return spend(f"user:{user_id if access is None else access.user.pk}", limit=TOKEN_LIMIT)
    return spend(f"address:{client_address(request)}", limit=ANONYMOUS_LIMIT)


def count_guess(address: str) -> None:
    """Count one wrong token from an address. Raises RateLimited ``rate.limited``."""
    spend(f"guess:{address}", limit=GUESS_LIMIT)


def spend(name: str, *, limit: int) -> Allowance:
    """Take one from the bucket of this minute. Raises RateLimited ``rate.limited`` when it is empty."""
    now = int(time.time())
    resets_in_s = WINDOW_S - now % WINDOW_S
    bucket = hashlib.sha256(f"{name}:{now // WINDOW_S}".encode()).hexdigest()
    used = _increment(f"rate:{bucket}")
    if used > limit:
        raise RateLimited("rate.limited", retry_after_s=resets_in_s)
    return Allowance(limit=limit, remaining=limit - used, resets_in_s=resets_in_s)


def _increment(key: str) -> int:
    try:
        if cache.add(key, 1, WINDOW_S * 2):
            return 1
        return int(cache.incr(key))
    except (RedisError, OSError) as error:
        log.warning("rate.uncounted", error=type(error).__name__)
        return 0
