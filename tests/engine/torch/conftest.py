"""Tests that need PyTorch: left out of the default run, set up and run by ``make test-torch``.

Without the package they skip loudly; ``PARKA_REQUIRE_TORCH=1`` turns the skip into a failure.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests import folders

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked; libraries below PyTorch warn of their own future, which is not ours."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.torch)
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"))


@pytest.fixture(scope="session", autouse=True)
def _torch_or_skip() -> None:
    absent = [name for name in ("torch", "transformers", "safetensors") if importlib.util.find_spec(name) is None]
    if absent:
        words = f"{absent[0]} is not installed: run make test-torch"
        if os.environ.get("PARKA_REQUIRE_TORCH") == "1":
            pytest.fail(words)
        pytest.skip(words)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``config.json`` of the tiny encoder."""
    return folders.encoder(tmp_path_factory.mktemp("net") / "model") / "config.json"
