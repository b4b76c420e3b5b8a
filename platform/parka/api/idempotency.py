"""The ``Idempotency-Key`` header at the edge of HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from parka.accounts.access import Access
from parka.api.authentication import TEAM_HEADER
from parka.core import idempotency

KEPT_HEADERS = ("Location", "Retry-After")


def once(request: Request, act: Callable[[], Response], *, secrets: tuple[str, ...] = ()) -> Response:
    """Carry out ``act`` at most once per key and body. Fields named in ``secrets`` are never stored, so a replay lacks them."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return act()
    question = _question(request, key)
    stored = idempotency.begin(question)
    if stored is not None:
        return Response(stored.response, status=stored.status, headers={**stored.headers, "Idempotency-Replayed": "true"})
    try:
        with transaction.atomic():
            response = act()
            idempotency.finish(question, _answer(response, secrets))
    except BaseException:
        idempotency.give_up(question)
        raise
    return response


def _question(request: Request, key: str) -> idempotency.Question:
    team = request.auth.team.slug if isinstance(request.auth, Access) else request.headers.get(TEAM_HEADER, "")
    scope = hashlib.sha256(f"{request.user.pk}:{team}:{request.method}:{request.path}".encode()).hexdigest()
    return idempotency.Question(scope=scope, key=key, body_sha256=hashlib.sha256(request._request.body).hexdigest())


def _answer(response: Response, secrets: tuple[str, ...]) -> idempotency.Answer:
    data: Any = json.loads(json.dumps(response.data, cls=JSONEncoder))
    kept = {name: value for name, value in data.items() if name not in secrets} if isinstance(data, dict) else data
    headers = {name: str(response.headers[name]) for name in KEPT_HEADERS if name in response.headers}
    return idempotency.Answer(status=response.status_code, response=kept, headers=headers)
