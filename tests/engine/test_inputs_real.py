"""Uploaded datasets are checked against the model, and every refusal says what the model expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.codec import to_jsonable
from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.measure.inputs import ARRAYS, InputSet, load_feeds, load_inputs, load_label, prepare_inputs
from optimizer.measure.split import TRAINING_AT_MOST
from optimizer.sandbox import ChildJob, Level, Sandbox
from optimizer.specs import InputSource, ModelCard, SearchSpec
from tests import samples

RNG = np.random.default_rng(0)


@pytest.fixture
def classifier(tmp_path: Path) -> ModelCard:
    """``x`` f32 [batch, 16]."""
    return inspect_model(samples.dynamic_batch(tmp_path / "m.onnx"))


@pytest.fixture
def encoder(tmp_path: Path) -> ModelCard:
    """``input_ids``, ``attention_mask`` i64 [batch, sequence]; 64 tokens."""
    return inspect_model(samples.encoder(tmp_path / "e.onnx"))


def prepared(card: ModelCard, tmp_path: Path, arrays: dict[str, Any], *, spec: SearchSpec | None = None) -> InputSet:
    np.savez(tmp_path / "data.npz", **arrays)
    return prepare_inputs(card, spec=spec or SearchSpec(), dataset=tmp_path / "data.npz", folder=tmp_path / "inputs")


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(np.float32)


def test_rows_with_or_without_the_batch_dim_are_taken(classifier: ModelCard, tmp_path: Path) -> None:
    rows = floats(20, 16)
    for array in (rows, rows[:, None]):
        made = prepared(classifier, tmp_path, {"x": array})
        assert (made.source, made.n, made.shapes) == (InputSource.REAL, 20, {"x": (1, 16)})
        np.testing.assert_array_equal(load_feeds(made.folder / ARRAYS, 7)["x"], rows[7:8])


def test_labels_are_kept_with_their_metric(classifier: ModelCard, tmp_path: Path) -> None:
    made = prepared(classifier, tmp_path, {"x": floats(5, 16), "label": np.arange(5)})
    assert (made.has_labels, made.metric) == (True, "top1")
    assert [load_label(made.folder / ARRAYS, index) for index in range(5)] == [0, 1, 2, 3, 4]
    assert set(load_feeds(made.folder / ARRAYS, 0)) == {"x"}


def test_a_bound_batch_groups_rows(classifier: ModelCard, tmp_path: Path) -> None:
    rows = floats(10, 16)
    made = prepared(classifier, tmp_path, {"x": rows}, spec=SearchSpec(bindings={"batch": 4}))
    assert (made.n, made.shapes) == (2, {"x": (4, 16)})


def test_open_sizes_come_from_the_data(encoder: ModelCard, tmp_path: Path) -> None:
    ids = RNG.integers(0, 64, (12, 40))
    made = prepared(encoder, tmp_path, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert made.shapes == {"input_ids": (1, 40), "attention_mask": (1, 40)}


def test_narrower_dtypes_are_widened(encoder: ModelCard, classifier: ModelCard, tmp_path: Path) -> None:
    ids = RNG.integers(0, 64, (3, 8)).astype(np.uint8)
    made = prepared(encoder, tmp_path, {"input_ids": ids, "attention_mask": np.ones((3, 8), np.int32)})
    assert load_feeds(made.folder / ARRAYS, 0)["input_ids"].dtype == np.int64
    made = prepared(classifier, tmp_path, {"x": floats(3, 16).astype(np.float64)})
    assert load_feeds(made.folder / ARRAYS, 0)["x"].dtype == np.float32


def test_a_single_unnamed_array_is_taken_for_the_single_input(classifier: ModelCard, tmp_path: Path) -> None:
    made = prepared(classifier, tmp_path, {"arr_0": floats(3, 16)})
    assert any("arr_0" in warning for warning in made.warnings)


def test_unread_arrays_are_left_out_with_a_warning(classifier: ModelCard, tmp_path: Path) -> None:
    made = prepared(classifier, tmp_path, {"x": floats(3, 16), "names": np.array(["a", "b", "c"])})
    assert any("names" in warning for warning in made.warnings)
    assert set(load_feeds(made.folder / ARRAYS, 0)) == {"x"}


def test_state_and_sample_rate_are_filled_in(tmp_path: Path) -> None:
    card = inspect_model(samples.recurrent(tmp_path / "m.onnx"))
    made = prepared(card, tmp_path, {"input": floats(4, 1, 8)})
    feeds = load_feeds(made.folder / ARRAYS, 2)
    assert not feeds["state"].any()
    assert feeds["sr"] == 16_000
    assert any("state, sr" in warning for warning in made.warnings)


IDS = RNG.integers(0, 64, (3, 8))


@pytest.mark.parametrize(
    ("arrays", "bindings", "code", "says"),
    [
        ({"x": floats(3, 15)}, {}, "input.shape", "batch, 16"),
        ({"x": floats(3, 4, 4, 16)}, {}, "input.shape", "batch, 16"),
        ({"x": floats(3)}, {}, "input.shape", "batch, 16"),
        ({"x": floats(3, 2, 16)}, {"batch": 4}, "input.shape", "[4, 16]"),
        ({"x": np.array(["a"] * 3)}, {}, "input.shape", "batch, 16"),
        ({"x": np.array([["a"] * 16] * 3)}, {}, "input.dtype", "float32"),
        ({"x": floats(3, 16).astype(np.complex64)}, {}, "input.dtype", "float32"),
        ({"y": floats(3, 16), "z": floats(3, 16)}, {}, "input.missing", "'x' (float32, shape [n, batch, 16])"),
        ({"x": np.full((3, 16), np.nan, np.float32)}, {}, "input.not_finite", "row 0"),
        ({"x": np.full((3, 16), 1e300)}, {}, "input.not_finite", "'x'"),
        ({"x": np.array([[0.0] * 16, [np.inf] * 16])}, {}, "input.not_finite", "row 1"),
        ({"x": floats(3, 16), "label": np.arange(2)}, {}, "input.count", "label: 2"),
        ({"x": floats(3, 16), "label": np.zeros((3, 2))}, {}, "input.label", "[n]"),
        ({"x": floats(0, 16)}, {}, "input.empty", "no example"),
        ({"x": floats(3, 16)}, {"batch": 4}, "input.empty", "batch of 4"),
        ({"x": floats(3, 16)}, {"nope": 4}, "input.refused", "batch"),
        ({"x": np.array([None] * 3)}, {}, "npz.object_dtype", "objects"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(
    classifier: ModelCard, tmp_path: Path, arrays: dict[str, Any], bindings: dict[str, int], code: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        prepared(classifier, tmp_path, arrays, spec=SearchSpec(bindings=bindings))
    assert caught.value.code == code
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"input_ids": IDS + 1_000, "attention_mask": np.ones_like(IDS)}, "input.out_of_vocabulary"),
        ({"input_ids": IDS - 65, "attention_mask": np.ones_like(IDS)}, "input.out_of_vocabulary"),
        ({"input_ids": IDS}, "input.missing"),
        ({"input_ids": IDS.astype(np.float32), "attention_mask": np.ones_like(IDS)}, "input.dtype"),
        ({"input_ids": IDS, "attention_mask": np.ones((3, 9), np.int64)}, "input.shape"),
        ({"input_ids": IDS, "attention_mask": np.ones((4, 8), np.int64)}, "input.count"),
    ],
)
def test_token_datasets_are_checked_against_the_vocabulary(encoder: ModelCard, tmp_path: Path, arrays: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        prepared(encoder, tmp_path, arrays)
    assert caught.value.code == code


def test_a_large_dataset_is_thinned_by_the_seed(classifier: ModelCard, tmp_path: Path) -> None:
    rows = floats(23_000, 16)
    made = prepared(classifier, tmp_path, {"x": rows})
    assert made.n == 4 * 500 + 260 + TRAINING_AT_MOST
    again = prepared(classifier, tmp_path, {"x": rows})
    assert made.digest == again.digest


def test_the_child_prepares_a_dataset_in_the_sandbox(classifier: ModelCard, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=floats(6, 16))
    sandbox = Sandbox(root=tmp_path / "jobs", level=Level.C)
    params = {"card": to_jsonable(classifier), "spec": to_jsonable(SearchSpec())}
    for binds, source in (({"dataset": tmp_path / "data.npz"}, InputSource.REAL), ({}, InputSource.SYNTHETIC)):
        outcome = sandbox.run(ChildJob(entry="optimizer.measure.inputs_child:prepare", params=params, binds=binds))
        assert outcome.failure is None
        assert load_inputs(outcome.out_dir / "inputs").source is source
    sandbox.close()
