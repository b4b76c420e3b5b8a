"""What our own backends do beyond the contract's suite (``optimizer.conformance``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.backends import BACKENDS, backend
from optimizer.conformance import graphs
from optimizer.conformance.test_backends import ONE_THREAD, opened
from optimizer.errors import EngineError
from optimizer.specs import BackendSettings, Precision
from tests import samples

ONNX_BACKENDS = sorted(name for name, one in BACKENDS.items() if "onnx" in one.formats)


@pytest.mark.parametrize("name", ONNX_BACKENDS)
def test_without_a_thread_count_the_quota_is_stated(tmp_path: Path, name: str) -> None:
    from optimizer.hardware import allowed_cores

    facts = backend(name).open(samples.identity(tmp_path / "m.onnx"), BackendSettings()).facts()
    assert allowed_cores() in (facts.get("threads"), facts.get("inference_num_threads"))


def test_openvino_in_f32_stays_in_f32_and_bf16_says_so(tmp_path: Path) -> None:
    model = samples.conv(tmp_path / "m.onnx")
    shapes = {"image": (1, 3, 32, 32)}
    full = backend("openvino").open(model, BackendSettings(threads=1, precision=Precision.F32), shapes=shapes).facts()
    assert full["precision"] == "f32"
    assert not set(full["runtime_precisions"]) & {"bf16", "f16"}


def test_openvino_takes_no_precision_behind_the_recipes_back(tmp_path: Path) -> None:
    settings = BackendSettings(threads=1, extra={"INFERENCE_PRECISION_HINT": "bf16"})
    with pytest.raises(EngineError) as refusal:
        backend("openvino").open(samples.identity(tmp_path / "m.onnx"), settings)
    assert refusal.value.code == "backend.setting_refused"
    assert "precision" in refusal.value.message


def test_openvino_writes_and_reuses_its_compile_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    model = samples.conv(tmp_path / "m.onnx")
    feeds = {"image": np.ones((1, 3, 32, 32), np.float32)}
    shapes = {"image": (1, 3, 32, 32)}
    first = backend("openvino").open(model, ONE_THREAD, shapes=shapes, cache_dir=cache).run(feeds)[0]
    assert list(cache.rglob("*.blob"))
    again = backend("openvino").open(model, ONE_THREAD, shapes=shapes, cache_dir=cache).run(feeds)[0]
    np.testing.assert_array_equal(first, again)


def test_openvino_cuts_integers_beyond_32_bits_which_only_the_fidelity_gate_can_see(tmp_path: Path) -> None:
    from optimizer.measure.fidelity import compare_outputs
    from optimizer.specs import TaskKind, Verdict

    model = graphs.big_integers(tmp_path / "m.onnx")
    feeds = {"x": np.array([2**40, -(2**50)])}
    outputs = {name: opened(name, model, feeds).run(feeds) for name in ONNX_BACKENDS}
    result = compare_outputs(TaskKind.GENERIC, [outputs["onnxruntime"]] * 20, [outputs["openvino"]] * 20)
    assert result.verdict is Verdict.FAIL
    assert not result.invariant


def test_a_runtime_failure_names_the_node(tmp_path: Path) -> None:
    model = samples.encoder(tmp_path / "m.onnx", vocabulary=8)
    session = opened("onnxruntime", model)
    with pytest.raises(EngineError) as failure:
        session.run({"input_ids": np.full((1, 3), 99), "attention_mask": np.ones((1, 3), np.int64)})
    assert failure.value.code == "backend.run_failed"
    assert "Gather" in failure.value.message
