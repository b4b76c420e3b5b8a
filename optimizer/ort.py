"""The one door to ONNX Runtime: its telemetry is switched off before its library is loaded."""

from __future__ import annotations

import importlib
import os
from types import ModuleType


def load_onnxruntime() -> ModuleType:
    """The ``onnxruntime`` module, silent: no telemetry, only errors in its log.

    Raises ImportError where the package is absent.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    module = importlib.import_module("onnxruntime")
    module.disable_telemetry_events()
    module.set_default_logger_severity(3)
    return module
