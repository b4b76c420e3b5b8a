"""A POST with an ``Idempotency-Key`` is carried out once; a repetition gets the stored answer for 24 hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from parka.core.errors import Conflict, Refused
from parka.core.models import IdempotencyRecord

KEPT = timedelta(hours=24)
GIVEN_UP_AFTER = timedelta(minutes=10)
KEY_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A repeatable request: who asks what (``scope``), under which key, with which body."""

    scope: str
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered."""

    status: int
    response: Any
    headers: dict[str, str]


def begin(question: Question) -> Answer | None:
    """The stored answer, or None when the caller must carry the request out now.

    Raises Refused ``idempotency.key`` ``idempotency.mismatch``, Conflict ``idempotency.in_flight``.
    """
    if not 1 <= len(question.key) <= KEY_LENGTH:
        raise Refused("idempotency.key")
    _of(question).filter(Q(created_at__lte=Now() - KEPT) | Q(status=0, created_at__lte=Now() - GIVEN_UP_AFTER)).delete()
    try:
        with transaction.atomic():
            IdempotencyRecord.objects.create(scope=question.scope, key=question.key, body_sha256=question.body_sha256)
    except IntegrityError:
        return _stored(question)
    return None


def finish(question: Question, answer: Answer) -> None:
    """Store the answer, in the transaction of what was done."""
    _of(question).update(status=answer.status, response=answer.response, headers=answer.headers)


def give_up(question: Question) -> None:
    """The request failed; the same key may be tried again."""
    _of(question).filter(status=0).delete()


def purge_idempotency_records() -> int:
    """Forget answers older than 24 hours; returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lte=Now() - KEPT).delete()[0]


def _of(question: Question) -> Any:
    return IdempotencyRecord.objects.filter(scope=question.scope, key=question.key)


def _stored(question: Question) -> Answer:
    record = _of(question).first()
    if record is None or (record.status == 0 and record.body_sha256 == question.body_sha256):
        raise Conflict("idempotency.in_flight", retry_after_s=1)
    if record.body_sha256 != question.body_sha256:
        raise Refused("idempotency.mismatch")
    return Answer(status=record.status, response=record.response, headers=record.headers)
