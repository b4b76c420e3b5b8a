"""Every backend serves the same tiny models with the reference evaluator's numbers, or refuses them by name."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from optimizer.backends import BACKENDS, backend
from optimizer.backends.base import Available, Session
from optimizer.errors import EngineError, Side
from optimizer.specs import BackendSettings, Precision
from tests import samples
from tests.engine.backends import graphs

ONE_THREAD = BackendSettings(threads=1)
ONNX_BACKENDS = sorted(name for name, one in BACKENDS.items() if "onnx" in one.formats)
every_backend = pytest.mark.parametrize("name", ONNX_BACKENDS)


def opened(name: str, model: Path, feeds: graphs.Feeds | None = None) -> Session:
    shapes = {key: array.shape for key, array in feeds.items()} if feeds is not None else None
    return backend(name).open(model, ONE_THREAD, shapes=shapes)


def served(*, by_refusal: bool) -> pytest.MarkDecorator:
    pairs = [(name, case) for name in ONNX_BACKENDS for case in graphs.CASES if (name in case.refused_by) is by_refusal]
    return pytest.mark.parametrize(("name", "case"), pairs, ids=[f"{name}: {case.name}" for name, case in pairs])


@served(by_refusal=True)
def test_a_backend_refuses_precisely_what_it_cannot_serve(tmp_path: Path, name: str, case: graphs.Case) -> None:
    with pytest.raises(EngineError) as refusal:
        opened(name, case.build(tmp_path / "model.onnx"), case.feeds)
    assert refusal.value.code == "backend.unsupported"


@served(by_refusal=False)
def test_a_backend_gives_the_reference_outputs(tmp_path: Path, name: str, case: graphs.Case) -> None:
    model = case.build(tmp_path / "model.onnx")
    session = opened(name, model, case.feeds)
    first, again = session.run(case.feeds), session.run(case.feeds)
    expected = case.expected(model)
    assert [one.name for one in session.inputs] == list(case.feeds)
    assert len(first) == len(expected) == len(session.outputs)
    for output, repeated, wanted in zip(first, again, expected, strict=True):
        assert output.shape == wanted.shape
        assert repeated.tolist() == output.tolist()
        if wanted.dtype.kind in "OU":
            assert output.tolist() == wanted.tolist()
        else:
            assert output.dtype == wanted.dtype
            np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-5)


@every_backend
def test_a_backend_is_available_and_says_its_version(name: str) -> None:
    found = BACKENDS[name].availability()
    assert isinstance(found, Available)
    assert found.version[0].isdigit()
    assert "CPU" in found.devices


@every_backend
def test_outputs_of_one_run_survive_the_next(tmp_path: Path, name: str) -> None:
    session = opened(name, samples.mlp(tmp_path / "m.onnx"), {"x": np.zeros((1, 16), np.float32)})
    first = session.run({"x": np.zeros((1, 16), np.float32)})[0]
    kept = first.copy()
    session.run({"x": np.ones((1, 16), np.float32)})
    np.testing.assert_array_equal(first, kept)


@every_backend
def test_a_feed_changed_in_place_is_seen(tmp_path: Path, name: str) -> None:
    feed = {"x": np.zeros(4, np.float32)}
    session = opened(name, samples.identity(tmp_path / "m.onnx"), feed)
    session.run(feed)
    feed["x"][:] = 7
    assert session.run(feed)[0].tolist() == [7, 7, 7, 7]


@every_backend
def test_feeds_of_long_ago_are_let_go(tmp_path: Path, name: str) -> None:
    from optimizer.backends.openvino import MAX_BOUND_TENSORS

    session = opened(name, samples.identity(tmp_path / "m.onnx"))
    first = np.zeros(4, np.float32)
    session.run({"x": first})
    seen = weakref.ref(first)
    del first
    for _ in range(MAX_BOUND_TENSORS + 1):
        session.run({"x": np.zeros(4, np.float32)})
    gc.collect()
    assert seen() is None


@every_backend
def test_a_feed_that_is_not_contiguous_is_read_right(tmp_path: Path, name: str) -> None:
    strided = np.arange(8, dtype=np.float32)[::2]
    session = opened(name, samples.identity(tmp_path / "m.onnx"), {"x": strided})
    assert session.run({"x": strided})[0].tolist() == [0, 2, 4, 6]
    strided[:] = 1
    assert session.run({"x": strided})[0].tolist() == [1, 1, 1, 1]


@every_backend
def test_a_feed_that_may_not_be_written_is_read_right(tmp_path: Path, name: str) -> None:
    feed = np.arange(4, dtype=np.float32)
    feed.flags.writeable = False
    session = opened(name, samples.identity(tmp_path / "m.onnx"), {"x": feed})
    assert session.run({"x": feed})[0].tolist() == [0, 1, 2, 3]


@every_backend
@pytest.mark.parametrize("dtype", [TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4])
@pytest.mark.parametrize("side", ["x", "y"])
def test_a_type_that_numpy_cannot_exchange_with_the_runtime_is_refused_when_opening(
    tmp_path: Path, name: str, dtype: int, side: str
) -> None:
    narrow, wide = samples.value("x", [4], dtype=dtype), samples.value("y", [4])
    if side == "y":
        narrow, wide = samples.value("x", [4]), samples.value("y", [4], dtype=dtype)
    node = helper.make_node("Cast", ["x"], ["y"], to=wide.type.tensor_type.elem_type)
    model = samples.save(helper.make_graph([node], "cast", [narrow], [wide]), tmp_path / "m.onnx", opset=21)
    with pytest.raises(EngineError, match="exchange with numpy") as refusal:
        opened(name, model)
    assert refusal.value.code == "backend.unsupported"
    assert repr(side) in refusal.value.message


@every_backend
@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        ({"x": np.zeros((1, 15), np.float32)}, "shape [1, 15]"),
        ({"x": np.zeros((1, 1, 16), np.float32)}, "shape [1, 1, 16]"),
        ({"x": np.zeros((1, 16), np.float64)}, "dtype float64"),
        ({"x": np.zeros((1, 16), np.int64)}, "dtype int64"),
        ({}, "'x' is missing"),
        ({"y": np.zeros((1, 16), np.float32)}, "'x' is missing"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused_with_what_was_expected(tmp_path: Path, name: str, feeds: graphs.Feeds, expected: str) -> None:
    session = opened(name, samples.mlp(tmp_path / "m.onnx"), {"x": np.zeros((1, 16), np.float32)})
    with pytest.raises(EngineError) as refusal:
        session.run(feeds)
    assert refusal.value.code == "backend.input_refused"
    assert refusal.value.side is Side.USER
    assert expected in refusal.value.message
    assert "float32 [1, 16]" in refusal.value.message or "missing" in refusal.value.message


@every_backend
@pytest.mark.parametrize("shapes", [{"x": (1, 15)}, {"x": (16,)}, {"other": (1, 16)}])
def test_a_bound_shape_that_does_not_fit_is_refused_when_opening(tmp_path: Path, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(EngineError) as refusal:
        backend(name).open(samples.mlp(tmp_path / "m.onnx"), ONE_THREAD, shapes=shapes)
    assert refusal.value.code == "backend.input_refused"
    assert "x float32 [1, 16]" in refusal.value.message


@every_backend
@pytest.mark.parametrize(
    ("build", "operator"), [(samples.unsupported_op, "FrobnicateTensor"), (samples.custom_domain, "Fancy"), (graphs.sequence_output, "")]
)
def test_an_unsupported_operator_is_named(tmp_path: Path, name: str, build: graphs.Callable[[Path], Path], operator: str) -> None:
    with pytest.raises(EngineError) as refusal:
        opened(name, build(tmp_path / "m.onnx"))
    assert refusal.value.code == "backend.unsupported"
    assert operator in refusal.value.message


@every_backend
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_a_file_that_is_no_model_fails_to_load_with_a_stable_code(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(EngineError) as refusal:
        opened(name, tmp_path / "m.onnx")
    assert refusal.value.code == "backend.load_failed"


@every_backend
def test_missing_external_data_fails_to_load(tmp_path: Path, name: str) -> None:
    entry = samples.external(tmp_path / "model")
    (tmp_path / "model" / "weights.bin").unlink()
    with pytest.raises(EngineError) as refusal:
        opened(name, entry)
    assert refusal.value.code == "backend.load_failed"


@every_backend
def test_external_data_is_read(tmp_path: Path, name: str) -> None:
    feeds = {"x": np.ones((1, 16), np.float32)}
    beside = opened(name, samples.external(tmp_path / "model"), feeds).run(feeds)[0]
    inside = opened(name, samples.mlp(tmp_path / "m.onnx"), feeds).run(feeds)[0]
    np.testing.assert_allclose(beside, inside, rtol=1e-5)


@every_backend
@pytest.mark.parametrize(
    "settings",
    [
        BackendSettings(threads=1, device="NPU9"),
        BackendSettings(threads=1, extra={"no.such.key": "1"}),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(tmp_path: Path, name: str, settings: BackendSettings) -> None:
    with pytest.raises(EngineError) as refusal:
        backend(name).open(samples.identity(tmp_path / "m.onnx"), settings)
    assert refusal.value.code == "backend.setting_refused"


@every_backend
def test_facts_say_what_really_runs(tmp_path: Path, name: str) -> None:
    session = opened(name, samples.conv(tmp_path / "m.onnx"), {"image": np.zeros((1, 3, 32, 32), np.float32)})
    facts = session.facts()
    assert facts["runtime"].startswith(name)
    assert facts["precision"] == "f32"
    assert 1 in (facts.get("threads"), facts.get("inference_num_threads"))


@every_backend
def test_without_a_thread_count_the_quota_is_stated(tmp_path: Path, name: str) -> None:
    from optimizer.hardware import allowed_cores

    facts = backend(name).open(samples.identity(tmp_path / "m.onnx"), BackendSettings()).facts()
    assert allowed_cores() in (facts.get("threads"), facts.get("inference_num_threads"))


@every_backend
def test_a_closed_session_does_not_run(tmp_path: Path, name: str) -> None:
    session = opened(name, samples.identity(tmp_path / "m.onnx"))
    session.close()
    with pytest.raises(EngineError):
        session.run({"x": np.zeros(4, np.float32)})


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
