"""A mix of shapes through real children: timed in its shares, answered right, with open shapes and with a session per shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from optimizer.measure.fidelity_outputs import FILE_NAME, StoredOutputs
from optimizer.sandbox import ChildJob, Level, Limits, Sandbox
from tests.samples import save, value

WIDEST, SHARES = 24, ((8, 0.75), (24, 0.25))
FORMS = [("onnxruntime", False), ("openvino", False), ("openvino", True)]
every_form = pytest.mark.parametrize(("name", "bucketed"), FORMS)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(root=tmp_path_factory.mktemp("sandbox"), level=Level.C) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``y`` = tanh of ``x``, of any length."""
    model, inputs = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("inputs")
    node = helper.make_node("Tanh", ["x"], ["y"], name="tanh")
    save(helper.make_graph([node], "any", [value("x", [1, "n"])], [value("y", [1, "n"])]), model / "model.onnx")
    np.savez(inputs / "inputs.npz", x=np.random.default_rng(1).normal(size=(8, 1, WIDEST)).astype(np.float32))
    return {"model": model, "inputs": inputs}


def job(entry: str, folders: dict[str, Path], *, name: str, bucketed: bool) -> ChildJob:
    params: dict[str, Any] = {
        "entry": "model.onnx",
        "backend": name,
        "settings": {"threads": 1, "precision": "f32", "bucketed": bucketed},
        "shapes": {"x": [1, WIDEST]},
        "buckets": [{"share": share, "shapes": {"x": [1, size]}} for size, share in SHARES],
        "indices": list(range(8)),
        "seed": 7,
        "block_s": 0.05,
        "min_iterations": 40,
        "max_s": 5.0,
    }
    return ChildJob(entry=entry, params=params, binds=folders, limits=Limits(wall_s=60))


@every_form
def test_a_start_times_the_mix_in_its_shares(sandbox: Sandbox, folders: dict[str, Path], name: str, bucketed: bool) -> None:
    outcome = sandbox.run(job("optimizer.measure.child:stream", folders, name=name, bucketed=bucketed))
    assert outcome.ok, outcome.failure
    rows, buckets = np.load(outcome.out_dir / "samples.npy"), np.load(outcome.out_dir / "buckets.npy")
    assert len(rows) == len(buckets) >= 40
    counts = Counter(buckets.tolist())
    assert counts[0] == pytest.approx(0.75 * len(buckets), abs=2)
    assert outcome.result is not None
    assert outcome.result["calls_per_sample"] == 1
    assert outcome.result["facts"].get("sessions", 1) == (2 if bucketed else 1)


@every_form
def test_every_example_is_answered_in_the_shape_of_its_bucket(
    sandbox: Sandbox, folders: dict[str, Path], name: str, bucketed: bool
) -> None:
    outcome = sandbox.run(job("optimizer.measure.fidelity_child:outputs", folders, name=name, bucketed=bucketed))
    assert outcome.ok, outcome.failure
    x = np.load(folders["inputs"] / "inputs.npz")["x"]
    with StoredOutputs(outcome.out_dir / FILE_NAME) as found:
        assert Counter(one[0].shape for one in found) == {(1, 8): 6, (1, 24): 2}
        for example, (answer,) in zip(x, found, strict=True):
            np.testing.assert_allclose(answer, np.tanh(example[:, : answer.shape[1]]), rtol=1e-4, atol=1e-6)
