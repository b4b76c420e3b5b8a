"""Fixtures of every test folder."""

from __future__ import annotations

import os

import pytest
from django.conf import settings

# The product's Argon2 takes a tenth of a second by design; hundreds of tests make users.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of whole flows first: with workers side by side the longest files must not be the last to start."""
    long_files = {item.path for item in items if item.get_closest_marker("flow")}
    items.sort(key=lambda item: item.path not in long_files)


@pytest.fixture(scope="session")
def valkey() -> str:
    """URL of the session's real Valkey."""
    return os.environ["REDIS_URL"]
