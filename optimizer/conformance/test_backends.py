"""Every backend serves the same tiny models with the reference evaluator's numbers, or refuses them by name."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from optimizer.backends import BACKENDS, availability, backend, backends
from optimizer.backends.base import Available, Session
from optimizer.conformance import graphs, tiny_models
from optimizer.errors import EngineError, Side
from optimizer.specs import BackendSettings

ONE_THREAD = BackendSettings(threads=1)
ONNX_BACKENDS = sorted(name for name, one in backends().items() if "onnx" in one.formats)
RUNS_REMEMBERED_AT_MOST = 5000
every_backend = pytest.mark.parametrize("name", ONNX_BACKENDS)
every_case = pytest.mark.parametrize("case", graphs.CASES, ids=lambda case: case.name)


def opened(name: str, model: Path, feeds: graphs.Feeds | None = None) -> Session:
    shapes = {key: array.shape for key, array in feeds.items()} if feeds is not None else None
    return backend(name).open(model, ONE_THREAD, shapes=shapes)


@pytest.mark.parametrize("name", sorted(backends()))
def test_a_backend_can_be_loaded(name: str) -> None:
    assert backend(name).name == name
    assert backend(name).formats, availability(name)


@every_backend
def test_a_backend_is_available_and_says_its_version(name: str) -> None:
    found = availability(name)
    assert isinstance(found, Available)
    assert found.version[0].isdigit()
    assert found.devices


@every_backend
@every_case
def test_a_backend_gives_the_reference_outputs_or_refuses_by_name(tmp_path: Path, name: str, case: graphs.Case) -> None:
    model = case.build(tmp_path / "model.onnx")
    may_refuse = name in case.refused_by or name not in BACKENDS
    try:
        session = opened(name, model, case.feeds)
    except EngineError as refusal:
        assert (refusal.code, may_refuse) == ("backend.unsupported", True)  # noqa: PT017 - both endings are right here
        return
    assert name not in case.refused_by
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
def test_feeds_of_long_ago_are_let_go(tmp_path: Path, name: str) -> None:
    session = opened(name, tiny_models.identity(tmp_path / "m.onnx"))
    first = np.zeros(4, np.float32)
    session.run({"x": first})
    seen = weakref.ref(first)
    del first
    for _ in range(RUNS_REMEMBERED_AT_MOST):
        session.run({"x": np.zeros(4, np.float32)})
    gc.collect()
    assert seen() is None


@every_backend
def test_without_a_thread_count_the_one_in_use_is_stated(tmp_path: Path, name: str) -> None:
    facts = backend(name).open(tiny_models.identity(tmp_path / "m.onnx"), BackendSettings()).facts()
    assert (facts.get("threads") or facts.get("inference_num_threads") or 0) >= 1


@every_backend
def test_outputs_of_one_run_survive_the_next(tmp_path: Path, name: str) -> None:
    session = opened(name, tiny_models.mlp(tmp_path / "m.onnx"), {"x": np.zeros((1, 16), np.float32)})
    first = session.run({"x": np.zeros((1, 16), np.float32)})[0]
    kept = first.copy()
    session.run({"x": np.ones((1, 16), np.float32)})
    np.testing.assert_array_equal(first, kept)


@every_backend
def test_a_feed_changed_in_place_is_seen(tmp_path: Path, name: str) -> None:
    feed = {"x": np.zeros(4, np.float32)}
    session = opened(name, tiny_models.identity(tmp_path / "m.onnx"), feed)
    session.run(feed)
    feed["x"][:] = 7
    assert session.run(feed)[0].tolist() == [7, 7, 7, 7]


@every_backend
def test_a_feed_that_is_not_contiguous_is_read_right(tmp_path: Path, name: str) -> None:
    strided = np.arange(8, dtype=np.float32)[::2]
    session = opened(name, tiny_models.identity(tmp_path / "m.onnx"), {"x": strided})
    assert session.run({"x": strided})[0].tolist() == [0, 2, 4, 6]
    strided[:] = 1
    assert session.run({"x": strided})[0].tolist() == [1, 1, 1, 1]


@every_backend
def test_a_feed_that_may_not_be_written_is_read_right(tmp_path: Path, name: str) -> None:
    feed = np.arange(4, dtype=np.float32)
    feed.flags.writeable = False
    session = opened(name, tiny_models.identity(tmp_path / "m.onnx"), {"x": feed})
    assert session.run({"x": feed})[0].tolist() == [0, 1, 2, 3]


@every_backend
@pytest.mark.parametrize("dtype", [TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4])
@pytest.mark.parametrize("side", ["x", "y"])
def test_a_type_that_numpy_cannot_exchange_with_the_runtime_is_refused_when_opening(
    tmp_path: Path, name: str, dtype: int, side: str
) -> None:
    narrow, wide = tiny_models.value("x", [4], dtype=dtype), tiny_models.value("y", [4])
    if side == "y":
        narrow, wide = tiny_models.value("x", [4]), tiny_models.value("y", [4], dtype=dtype)
    node = helper.make_node("Cast", ["x"], ["y"], to=wide.type.tensor_type.elem_type)
    model = tiny_models.save(helper.make_graph([node], "cast", [narrow], [wide]), tmp_path / "m.onnx", opset=21)
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
    session = opened(name, tiny_models.mlp(tmp_path / "m.onnx"), {"x": np.zeros((1, 16), np.float32)})
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
        backend(name).open(tiny_models.mlp(tmp_path / "m.onnx"), ONE_THREAD, shapes=shapes)
    assert refusal.value.code == "backend.input_refused"
    assert "x float32 [1, 16]" in refusal.value.message


@every_backend
@pytest.mark.parametrize(
    ("build", "operator"),
    [(tiny_models.unsupported_op, "FrobnicateTensor"), (tiny_models.custom_domain, "Fancy"), (graphs.sequence_output, "")],
)
def test_an_unsupported_operator_is_named(tmp_path: Path, name: str, build: Callable[[Path], Path], operator: str) -> None:
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
    entry = tiny_models.external(tmp_path / "model")
    (tmp_path / "model" / "weights.bin").unlink()
    with pytest.raises(EngineError) as refusal:
        opened(name, entry)
    assert refusal.value.code == "backend.load_failed"


@every_backend
def test_external_data_is_read(tmp_path: Path, name: str) -> None:
    feeds = {"x": np.ones((1, 16), np.float32)}
    beside = opened(name, tiny_models.external(tmp_path / "model"), feeds).run(feeds)[0]
    inside = opened(name, tiny_models.mlp(tmp_path / "m.onnx"), feeds).run(feeds)[0]
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
        backend(name).open(tiny_models.identity(tmp_path / "m.onnx"), settings)
    assert refusal.value.code == "backend.setting_refused"


@every_backend
def test_facts_say_what_really_runs(tmp_path: Path, name: str) -> None:
    session = opened(name, tiny_models.conv(tmp_path / "m.onnx"), {"image": np.zeros((1, 3, 32, 32), np.float32)})
    facts = session.facts()
    assert facts["runtime"].startswith(name)
    assert facts["precision"] == "f32"
    assert 1 in (facts.get("threads"), facts.get("inference_num_threads"))


@every_backend
def test_a_closed_session_does_not_run(tmp_path: Path, name: str) -> None:
    session = opened(name, tiny_models.identity(tmp_path / "m.onnx"))
    session.close()
    with pytest.raises(EngineError):
        session.run({"x": np.zeros(4, np.float32)})
