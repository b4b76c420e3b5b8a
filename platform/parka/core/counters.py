"""Numbers that count up per owner without gaps or doubles: E-45, R-118, resnet50@7."""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models import F

from parka.core.models import Counter


def next_number(scope: str) -> int:
    """The next number of ``scope`` (such as ``team:7:run``), from 1; the row stays locked until the transaction ends.

    Must run inside a transaction, so that a number whose row is never written is not used up.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("next_number needs the transaction of the row that takes the number")
    counter = Counter.objects.filter(scope=scope)
    if not counter.update(value=F("value") + 1):
        Counter.objects.bulk_create([Counter(scope=scope, value=0)], ignore_conflicts=True)
        counter.update(value=F("value") + 1)
    return counter.values_list("value", flat=True).get()
