"""Outputs between child and supervisor: what goes in comes out, and a broken file is an error, never a crash."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from optimizer.backends import backend
from optimizer.errors import EngineFault
from optimizer.measure.fidelity_outputs import OutputWriter, StoredOutputs
from optimizer.sandbox import ChildJob, Level, Sandbox
from optimizer.specs import BackendSettings
from tests import samples

Array = np.ndarray[Any, Any]


def written(path: Path, examples: list[list[Array]]) -> OutputWriter:
    with OutputWriter(path) as writer:
        for outputs in examples:
            writer.add(outputs)
    return writer


def test_every_kind_of_output_comes_back(tmp_path: Path) -> None:
    examples = [
        [
            np.full((2, 3), index, np.float32),
            np.array(index),
            np.array([True, False]),
            np.array([["a", "bcd"]], object),
            np.ones(2, ml_dtypes.bfloat16),
            np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
            np.zeros((0, 4), np.float32),
        ]
        for index in range(3)
    ]
    writer = written(tmp_path / "o.npz", examples)
    stored = StoredOutputs(tmp_path / "o.npz")
    assert writer.examples == len(stored) == 3
    for index, outputs in enumerate(stored):
        for wanted, found in zip(examples[index], outputs, strict=True):
            assert found.shape == wanted.shape
            assert (
                found.astype(str).tolist()
                == np.asarray(wanted, None if wanted.dtype.name != "bfloat16" else np.float32).astype(str).tolist()
            )
    assert stored[-1][1] == 2
    with pytest.raises(IndexError):
        stored[3]


def test_ragged_outputs_are_kept_as_they_are(tmp_path: Path) -> None:
    written(tmp_path / "o.npz", [[np.zeros(3)], [np.zeros((2, 5))]])
    assert [one[0].shape for one in StoredOutputs(tmp_path / "o.npz")] == [(3,), (2, 5)]


def test_the_digest_follows_the_contents(tmp_path: Path) -> None:
    digests = [written(tmp_path / f"{i}.npz", [[np.full(2, value)]]).sha256 for i, value in enumerate((1.0, 1.0, 2.0))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (np.nan, False), (np.inf, False)])
def test_values_that_are_not_finite_are_noticed(tmp_path: Path, value: float, finite: bool) -> None:
    assert written(tmp_path / "o.npz", [[np.array([value], np.float32), np.array([1])]]).finite is finite


def _zip(path: Path, entries: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def _npy(array: Array, **options: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


HUGE = _npy(np.zeros(1)).replace(b"(1,), }          ", b"(99999999999,), }")


@pytest.mark.parametrize(
    "entries",
    [
        {"0/0.npy": b"not an array"},
        {"0/0.npy": _npy(np.zeros(3))[:-8]},
        {"0/0.npy": HUGE},
        {"0/0.npy": _npy(np.array([{}], object), allow_pickle=True)},
        {"0/0.npy": _npy(np.asfortranarray(np.ones((2, 3))))},
    ],
    ids=["garbage", "truncated", "claims more than it holds", "pickled", "other order"],
)
def test_a_broken_array_is_an_error_with_a_code(tmp_path: Path, entries: dict[str, bytes]) -> None:
    stored = StoredOutputs(_zip(tmp_path / "o.npz", entries))
    with pytest.raises(EngineFault) as fault:
        stored[0]
    assert fault.value.code == "child.output_invalid"


def test_a_compressed_entry_is_refused(tmp_path: Path) -> None:
    bomb = _zip(tmp_path / "o.npz", {"0/0.npy": _npy(np.zeros(1 << 20))}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(EngineFault):
        StoredOutputs(bomb)[0]


@pytest.mark.parametrize("entries", [{"x.npy": b""}, {"0/0.npy": b"", "1/1.npy": b""}, {"-1/0.npy": b""}])
def test_a_file_with_other_entries_is_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(EngineFault):
        StoredOutputs(_zip(tmp_path / "o.npz", entries))


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.npz").write_bytes(b"nothing")
    with pytest.raises(EngineFault):
        StoredOutputs(tmp_path / "o.npz")


def test_a_child_writes_what_the_session_gives(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "inputs").mkdir()
    model = samples.mlp(tmp_path / "model" / "model.onnx")
    feeds = np.random.default_rng(0).normal(size=(6, 1, 16)).astype(np.float32)
    np.savez(tmp_path / "inputs" / "inputs.npz", x=feeds, label=np.arange(6))
    sandbox = Sandbox(root=tmp_path / "jobs", level=Level.C)
    job = ChildJob(
        entry="optimizer.measure.fidelity_child:outputs",
        params={"entry": "model.onnx", "backend": "openvino", "settings": {"threads": 1}, "shapes": {"x": [1, 16]}, "indices": [4, 1]},
        binds={"model": tmp_path / "model", "inputs": tmp_path / "inputs"},
    )
    outcome = sandbox.run(job)
    sandbox.close()
    assert outcome.result is not None, outcome.failure
    assert (outcome.result["n"], outcome.result["finite"], outcome.result["names"]) == (2, True, ["y"])
    session = backend("openvino").open(model, BackendSettings(threads=1), shapes={"x": (1, 16)})
    stored = StoredOutputs(outcome.out_dir / "outputs.npz")
    for index, outputs in zip([4, 1], stored, strict=True):
        np.testing.assert_array_equal(outputs[0], session.run({"x": feeds[index]})[0])
