"""The ground the tests stand on is real."""

import platform
import sys

import pytest
from django.core.cache import cache
from django.db import connection

from parka.core.models import IdempotencyRecord


def test_the_standard_library_platform_module_is_not_shadowed():
    assert platform.__file__.startswith(sys.base_prefix)
    assert callable(platform.system)


@pytest.mark.django_db
def test_rows_and_cache_entries_survive_a_round_trip():
    IdempotencyRecord.objects.create(scope="t", key="k", body_sha256="0" * 64)
    cache.set("a", 1)
    assert IdempotencyRecord.objects.get().created_at is not None
    assert cache.get("a") == 1
    assert connection.vendor in {"sqlite", "postgresql"}
