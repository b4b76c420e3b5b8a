"""A sandbox of each level that this machine has; CI may demand level A."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from optimizer.sandbox import Level, Sandbox
from optimizer.sandbox.levels import is_installed


def require(level: Level) -> None:
    """Skip where the level is not installed, unless the environment says that it must be."""
    if not is_installed(level):
        if os.environ.get("PARKA_REQUIRE_SANDBOX_A") == "1":
            pytest.fail(f"sandbox level {level} is required here and is not installed")
        pytest.skip(f"sandbox level {level} is not installed here")


@pytest.fixture(scope="module", params=list(Level))
def level(request: pytest.FixtureRequest) -> Level:
    require(request.param)
    return request.param


@pytest.fixture(scope="module")
def sandbox(level: Level, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp(f"sandbox-{level}"), level=level) as sandbox:
        yield sandbox
