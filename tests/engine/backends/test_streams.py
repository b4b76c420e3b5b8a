"""Several requests in flight: every backend that offers streams answers each of them right."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from optimizer.backends import BACKENDS, backend
from optimizer.backends.base import ServesStreams, lanes_of
from optimizer.errors import EngineError
from optimizer.hardware import probe
from optimizer.specs import BackendSettings
from tests.samples import mlp

STREAMING = sorted(name for name, one in BACKENDS.items() if isinstance(one, ServesStreams) and "onnx" in one.formats)
every_streaming_backend = pytest.mark.parametrize("name", STREAMING)


def test_both_runtimes_offer_streams_and_no_more_than_the_quota() -> None:
    assert STREAMING == ["onnxruntime", "openvino"]
    hardware = probe(benchmark=False)
    for name in STREAMING:
        counts = backend(name).stream_counts(hardware)  # type: ignore[attr-defined]
        assert counts[-1] == 1
        assert max(counts) <= max(1, hardware.cores)


@every_streaming_backend
@pytest.mark.parametrize("threads", [2, 4])
def test_requests_at_once_get_their_own_answers(tmp_path: Path, name: str, threads: int) -> None:
    model = mlp(tmp_path / "m.onnx")
    feeds = [{"x": np.random.default_rng(seed).normal(size=(1, 16)).astype(np.float32)} for seed in range(40)]
    single = backend(name).open(model, BackendSettings(threads=1), shapes={"x": (1, 16)})
    expected = [single.run(feed)[0] for feed in feeds]
    session = backend(name).open(model, BackendSettings(threads=threads, streams=2), shapes={"x": (1, 16)})
    lanes = lanes_of(session)
    assert len(lanes) == 2
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(lambda lane: [lanes[lane](feed)[0] for feed in feeds[lane::2]], range(2)))
    for lane, half in enumerate(halves):
        for found, wanted in zip(half, expected[lane::2], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    session.close()


@every_streaming_backend
def test_a_refused_feed_is_explained_on_every_lane(tmp_path: Path, name: str) -> None:
    session = backend(name).open(mlp(tmp_path / "m.onnx"), BackendSettings(threads=2, streams=2), shapes={"x": (1, 16)})
    for run in lanes_of(session):
        with pytest.raises(EngineError) as refusal:
            run({"x": np.zeros((1, 3), np.float32)})
        assert refusal.value.code == "backend.input_refused"


def test_more_streams_than_threads_are_refused_by_onnx_runtime(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as refusal:
        backend("onnxruntime").open(mlp(tmp_path / "m.onnx"), BackendSettings(threads=2, streams=3))
    assert refusal.value.code == "backend.setting_refused"


def test_a_session_that_knows_no_streams_has_one_lane() -> None:
    class Plain:
        inputs = outputs = ()

        def run(self, feeds):
            return [np.zeros(1)]

    assert len(lanes_of(Plain())) == 1  # type: ignore[arg-type]


@every_streaming_backend
def test_a_rewritten_model_with_one_fixed_example_is_no_obstacle_where_the_runtime_can_widen_it(tmp_path: Path, name: str) -> None:
    settings, shapes = BackendSettings(threads=1, batch=3), {"x": (3, 16)}
    model = mlp(tmp_path / "m.onnx")
    if name == "onnxruntime":
        with pytest.raises(EngineError) as refusal:
            backend(name).open(model, settings, shapes=shapes)
        assert refusal.value.code == "backend.input_refused"
    else:
        assert backend(name).open(model, settings, shapes=shapes).run({"x": np.zeros((3, 16), np.float32)})[0].shape == (3, 4)
