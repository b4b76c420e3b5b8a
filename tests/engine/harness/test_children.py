"""Real children that time a real, tiny model, at every sandbox level."""

import os

import numpy as np
import pytest

from optimizer.backends import available_backends, backend
from optimizer.backends.base import Available
from optimizer.measure.records import StartSamples, read_samples, write_samples
from optimizer.measure.telemetry import Telemetry
from optimizer.sandbox import ChildDied, ChildJob, Level, Limits, Sandbox
from optimizer.sandbox.levels import is_installed
from tests.samples import mlp

BACKENDS = [name for name, state in available_backends().items() if isinstance(state, Available) and "onnx" in backend(name).formats]
INPUTS = 4


@pytest.fixture(scope="module", params=list(Level))
def sandbox(request, tmp_path_factory):
    if not is_installed(request.param):
        pytest.skip(f"sandbox level {request.param} is not installed here")
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), level=request.param) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    model, inputs = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("inputs")
    mlp(model / "model.onnx", width=64, hidden=64)
    arrays = np.random.default_rng(1).normal(size=(INPUTS, 1, 64)).astype(np.float32)
    np.savez(inputs / "inputs.npz", x=arrays, label=np.arange(INPUTS))
    return {"model": model, "inputs": inputs}


def job(function, folders, **changes):
    params = {
        "entry": "model.onnx",
        "backend": "onnxruntime",
        "settings": {"threads": 1, "precision": "f32"},
        "shapes": {"x": [1, 64]},
        "indices": list(range(INPUTS)),
        "seed": 7,
        "block_s": 0.1,
        "min_iterations": 30,
        "max_s": 5.0,
        **changes,
    }
    return ChildJob(entry=f"optimizer.measure.child:{function}", params=params, binds=folders, limits=Limits(wall_s=60))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_start_yields_ordered_samples_and_its_own_load_time(sandbox, folders, name, tmp_path):
    outcome = sandbox.run(job("stream", folders, backend=name))
    assert outcome.ok, outcome.failure
    result, samples = outcome.result, np.load(outcome.out_dir / "samples.npy")
    assert samples.dtype == np.int64
    assert samples.shape == (result["n"], 2)
    assert result["n"] >= 30
    assert (samples[:, 1] >= samples[:, 0]).all()
    assert (np.diff(samples[:, 0]) > 0).all()
    assert 0 < result["load_ns"] < result["time_to_steady_ns"] < outcome.usage.wall_s * 1e9
    assert result["first_ns"] > 0
    assert result["p50_ns"] == pytest.approx(np.median(samples[:, 1] - samples[:, 0]) / result["calls_per_sample"])
    start = StartSamples(start_id=0, block_id=0, issued_ns=samples[:, 0], completed_ns=samples[:, 1])
    assert len(read_samples(tmp_path / write_samples([start], folder=tmp_path).path)[0].issued_ns) == result["n"]


def test_a_held_model_answers_rounds_between_pauses(sandbox, folders):
    session = sandbox.open(job("hold", folders))
    assert session.ready["load_ns"] > 0
    for _ in range(2):
        session.resume()
        answer = session.request({"cmd": "round", "s": 0.05}, timeout_s=20)
        session.pause()
        assert answer["n"] >= 3
        assert len(answer["samples_ns"]) <= 2000
        assert min(answer["samples_ns"]) <= answer["median_ns"] <= max(answer["samples_ns"])
    session.resume()
    outcome = session.close()
    assert outcome.result == {"rounds": 2}


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"indices": []}, "input.none"), ({"backend": "absent"}, "backend.unknown"), ({"entry": "other.onnx"}, "backend.load_failed")],
)
def test_what_cannot_be_timed_is_refused_with_its_own_code(sandbox, folders, changes, code):
    assert sandbox.run(job("stream", folders, **changes)).failure.code == code
    with pytest.raises(ChildDied) as death:
        sandbox.open(job("hold", folders, **changes))
    assert death.value.failure.code == code


@pytest.fixture(scope="module")
def open_folders(tmp_path_factory):
    """A model whose batch is free."""
    model, inputs = tmp_path_factory.mktemp("open-model"), tmp_path_factory.mktemp("open-inputs")
    mlp(model / "model.onnx", batch="n", width=64, hidden=64)
    np.savez(inputs / "inputs.npz", x=np.random.default_rng(1).normal(size=(INPUTS, 1, 64)).astype(np.float32))
    return {"model": model, "inputs": inputs}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_start_with_several_requests_in_flight_tells_overlapping_rows_by_completion(sandbox, open_folders, name):
    settings = {"threads": 2, "streams": 2, "batch": 4, "precision": "f32"}
    outcome = sandbox.run(job("stream", open_folders, backend=name, settings=settings))
    assert outcome.ok, outcome.failure
    samples = np.load(outcome.out_dir / "samples.npy")
    assert outcome.result["in_flight"] == 2
    assert outcome.result["calls_per_sample"] == 1
    assert (np.diff(samples[:, 1]) >= 0).all()
    assert (samples[1:, 0] < samples[:-1, 1]).any()


def test_a_held_model_tells_its_time_per_example(sandbox, open_folders):
    for settings in ({"threads": 1, "batch": 4, "precision": "f32"}, {"threads": 2, "streams": 2, "batch": 4, "precision": "f32"}):
        session = sandbox.open(job("hold", open_folders, settings=settings))
        session.resume()
        answer = session.request({"cmd": "round", "s": 0.05}, timeout_s=20)
        assert 0 < answer["item_ns"] < np.mean(answer["samples_ns"])
        assert session.close().result == {"rounds": 1}


def test_an_input_that_the_dataset_lacks_is_named(sandbox, folders, tmp_path):
    np.savez(tmp_path / "inputs.npz", other=np.zeros((INPUTS, 1, 64), np.float32))
    failure = sandbox.run(job("stream", {**folders, "inputs": tmp_path})).failure
    assert failure.code == "input.missing"
    assert "'x'" in failure.detail


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="needs Linux")  # noqa: PTH110
def test_the_time_of_finished_children_counts_as_our_own(sandbox, folders):
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.start()
        before = telemetry.own_cpu_s
        outcome = sandbox.run(job("stream", folders, block_s=0.5))
        block = telemetry.stop()
        assert telemetry.own_cpu_s - before >= 0.8 * outcome.usage.cpu_s
        assert "control_job_deviation" in block.signals
