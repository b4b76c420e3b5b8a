"""Every graph of the onnx package's own test data, and the limits of the installed runtime."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx.backend.test
import pytest
from onnx import helper

from optimizer.formats import inspect_model
from optimizer.formats.onnx_rules import MAX_IR_VERSION, MAX_OPSET
from tests import samples
from tests.corpus import corpus
from tests.engine.formats.codes import refusal_of

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

CORPUS = [
    *sorted((Path(onnx.backend.test.__file__).parent / "data").glob("*/*/model.onnx")),
    *corpus(),
]


def test_every_graph_of_the_corpus_is_described_or_precisely_refused() -> None:
    codes: dict[str, str] = {}
    for path in CORPUS:
        codes[path.parent.name] = refusal_of(lambda path=path: inspect_model(path))
    assert len(codes) >= 130
    assert set(codes.values()) <= {"", "onnx.op_domain", "onnx.opset"}
    accepted = [name for name, code in codes.items() if not code]
    assert len(accepted) > 0.95 * len(codes)


def _loads(path: Path) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return False
    return True


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("limit", ["ir", *MAX_OPSET])
def test_the_limits_are_those_of_the_installed_runtime(tmp_path: Path, limit: str, beyond: int) -> None:
    model = onnx.load(samples.identity(tmp_path / "m.onnx"))
    if limit == "ir":
        model.ir_version = MAX_IR_VERSION + beyond
    elif limit:
        model.opset_import.append(helper.make_opsetid(limit, MAX_OPSET[limit] + beyond))
    else:
        model.opset_import[0].version = MAX_OPSET[""] + beyond
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert (refusal_of(lambda: inspect_model(tmp_path / "m.onnx")) == "onnx.opset") == bool(beyond)
    assert _loads(tmp_path / "m.onnx") == (not beyond)
