"""The small graphs with inputs and expected outputs that ONNX ships: Debian's ``libonnx-testdata``, 1,072 of them.

``PARKA_ONNX_TESTDATA`` names the folder when the package is unpacked elsewhere; ``PARKA_REQUIRE_ONNX_TESTDATA=1`` turns the
skip of a test that needs it into a failure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

FOLDER = Path(os.environ.get("PARKA_ONNX_TESTDATA", "/usr/share/libonnx-testdata"))
Arrays = list[np.ndarray[Any, Any]]


def corpus() -> list[Path]:
    """Every model of the corpus, sorted; empty where it is not installed."""
    return sorted(FOLDER.glob("**/model.onnx"))


def required_corpus() -> list[Path]:
    """Every model of the corpus; skips the test loudly when it is absent."""
    found = corpus()
    if not found:
        why = f"no graphs in {FOLDER}: apt-get install libonnx-testdata, or set PARKA_ONNX_TESTDATA to its folder"
        pytest.fail(why) if os.environ.get("PARKA_REQUIRE_ONNX_TESTDATA") == "1" else pytest.skip(why)
    return found


def examples(model: Path) -> list[tuple[Arrays, Arrays]]:
    """Inputs and expected outputs of each data set beside the model."""
    folders = sorted(model.parent.glob("test_data_set_*"))
    return [(_tensors(folder, "input"), _tensors(folder, "output")) for folder in folders]


def _tensors(folder: Path, role: str) -> Arrays:
    files = sorted(folder.glob(f"{role}_*.pb"), key=lambda file: int(file.stem.rpartition("_")[2]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]
