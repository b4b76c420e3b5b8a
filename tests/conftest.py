"""Fixtures of every test folder."""

from __future__ import annotations

import os

import pytest
from django.conf import settings

# The product's Argon2 takes a tenth of a second by design; hundreds of tests make users.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def valkey() -> str:
    """URL of the session's real Valkey."""
    return os.environ["REDIS_URL"]
