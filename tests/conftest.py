"""Fixtures of every test folder."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("parka", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parka")


@pytest.fixture(scope="session")
def valkey() -> str:
    """URL of the session's real Valkey."""
    return os.environ["REDIS_URL"]
