"""Fixtures of every test folder."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def valkey() -> str:
    """URL of the session's real Valkey."""
    return os.environ["REDIS_URL"]
