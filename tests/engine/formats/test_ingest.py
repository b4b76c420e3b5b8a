"""The ingest child: a model or dataset in, one bounded JSON out, in the real sandbox."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from optimizer.codec import from_jsonable
from optimizer.sandbox import ChildJob, ChildOutcome, Level, Sandbox
from optimizer.specs import ModelCard
from tests import samples

MODEL, DATASET = "optimizer.formats.child:ingest_model", "optimizer.formats.child:ingest_dataset"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    opened = Sandbox(root=tmp_path / "jobs", level=Level.C)
    yield opened
    opened.close()


def ingest(sandbox: Sandbox, entry: str, upload: Path, **params: object) -> ChildOutcome:
    return sandbox.run(ChildJob(entry=entry, params=params, binds={"upload": upload}))


def test_a_model_becomes_a_card_and_a_folder_for_loaders(sandbox: Sandbox, tmp_path: Path) -> None:
    outcome = ingest(sandbox, MODEL, samples.external_zip(tmp_path / "x.zip"), bindings={}, file_name="net.zip")
    assert outcome.failure is None
    assert outcome.result is not None
    card = from_jsonable(ModelCard, outcome.result["card"])
    assert (card.entry, card.external_files) == ("model.onnx", ("weights.bin",))
    assert sorted(path.name for path in (outcome.out_dir / "model").iterdir()) == ["model.onnx", "weights.bin"]
    assert len(json.dumps(outcome.result)) < 1 << 20


def test_a_refusal_comes_back_with_its_code(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(pickle.dumps({"x": 1}))
    outcome = ingest(sandbox, MODEL, path)
    assert outcome.failure is not None
    assert outcome.failure.code == "format.pickle"


def test_a_dataset_becomes_a_card(sandbox: Sandbox, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 3), np.float32), label=np.arange(5))
    outcome = ingest(sandbox, DATASET, tmp_path / "x.npz", file_name="x.npz")
    arrays = {"x": {"dtype": "float32", "shape": [5, 3]}, "label": {"dtype": "int64", "shape": [5]}}
    assert outcome.result == {"card": {"arrays": arrays, "samples": 5, "labels": True}}


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": np.zeros((5, 3)), "y": np.zeros((4, 3))}, "input.count"),
        ({"x": np.zeros(())}, "input.count"),
        ({"x": np.zeros((0, 3))}, "input.empty"),
        ({"x": np.array([None])}, "npz.object_dtype"),
    ],
)
def test_a_dataset_that_cannot_be_used_has_its_code(sandbox: Sandbox, tmp_path: Path, arrays: dict[str, np.ndarray], code: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    outcome = ingest(sandbox, DATASET, tmp_path / "x.npz")
    assert outcome.failure is not None
    assert outcome.failure.code == code


def test_a_model_uploaded_as_a_dataset_is_told_so(sandbox: Sandbox, tmp_path: Path) -> None:
    outcome = ingest(sandbox, DATASET, samples.mlp(tmp_path / "m.onnx"))
    assert outcome.failure is not None
    assert outcome.failure.code == "format.not_dataset"
