"""One platform for all flow tests of a process, ended before any other test runs: it takes the environment for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.stack import LiveStack, started_stack
from tests.samples import huge_constant, mlp


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """A running platform with this machine as its agent."""
    with started_stack(tmp_path_factory.mktemp("flow")) as live:
        live.wait_for_agent()
        yield live


@pytest.fixture(scope="package")
def tiny_version(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An inspected model of a few kilobytes."""
    path: Path = mlp(tmp_path_factory.mktemp("tiny") / "tiny.onnx", width=256, hidden=256, layers=3)
    return stack.ready_version(path, name="tiny")


@pytest.fixture(scope="package")
def huge_version(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model of a few bytes that asks for more memory than any machine has."""
    return stack.ready_version(huge_constant(tmp_path_factory.mktemp("huge") / "huge.onnx"), name="huge")
