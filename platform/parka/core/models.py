"""Shapes shared by every app, and the record of idempotent requests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from parka.core.ids import new_public_id

if TYPE_CHECKING:
    BaseCharField = models.CharField[str, str]
else:
    BaseCharField = models.CharField


class PublicIdField(BaseCharField):
    """A unique random id with the prefix of its kind."""

    def __init__(self, prefix: str = "", **options: Any) -> None:
        self.prefix = prefix
        options.update(max_length=32, unique=True, editable=False, default=partial(new_public_id, prefix))
        super().__init__(**options)

    def deconstruct(self) -> Any:
        name, path, args, options = super().deconstruct()
        for key in ("max_length", "unique", "editable", "default"):
            options.pop(key, None)
        return name, path, args, {**options, "prefix": self.prefix}


class TimedModel(models.Model):
    """A row that knows when it was made, by the database clock."""

    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True


class IdempotencyRecord(TimedModel):
    """The stored answer to a POST with an ``Idempotency-Key``; kept 24 hours. ``status`` 0 means in flight."""

    scope = models.CharField(max_length=80)
    key = models.CharField(max_length=200)
    body_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    response = models.JSONField(default=dict)
    headers = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_once")]


class Counter(models.Model):
    """The last number given out in a scope such as ``team:7:run``; see ``core.counters``."""

    scope = models.CharField(max_length=80, unique=True)
    value = models.PositiveBigIntegerField(default=0)
