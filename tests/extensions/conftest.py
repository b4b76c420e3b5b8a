"""One environment with the example package and a broken one for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.extensions.broken_package import write_broken_package
from tests.extensions.environment import PARTNER, built_wheel, copied_environment, install


@pytest.fixture(scope="package")
def partner_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The interpreter of a copied environment into which both wheels are installed."""
    wheels = tmp_path_factory.mktemp("wheels")
    with TemporaryDirectory(prefix="parka-partner-") as folder:
        python = copied_environment(Path(folder) / "venv")
        install(built_wheel(PARTNER, wheels / "acme"), python)
        install(built_wheel(write_broken_package(wheels / "source"), wheels / "broken"), python)
        yield python
