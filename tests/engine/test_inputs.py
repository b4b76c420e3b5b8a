"""Input sets: bound shapes, synthetic values by role, files and the split."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.measure.input_files import EXAMPLES
from optimizer.measure.inputs import ARRAYS, bound_shapes, load_feeds, load_inputs, prepare_inputs, split
from optimizer.measure.split import SEALED_BEFORE_TRAINING, SEALED_FLOOR, TRAINING_AT_LEAST, TRAINING_AT_MOST, Split, split_by_content
from optimizer.specs import InputSource, ModelCard, SearchSpec, TensorSpec
from tests import samples

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime


def card(*inputs: TensorSpec, **facts: object) -> ModelCard:
    return ModelCard(format="onnx", entry="m.onnx", sha256="0", size_bytes=1, inputs=inputs, **facts)  # type: ignore[arg-type]


def spec(name: str, dtype: str, *shape: int | str | None) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        (spec("input_ids", "int64", "batch", "sequence"), (1, 128)),
        (spec("x", "float32", "x[0]", 3, "x[2]", "x[3]"), (1, 3, 224, 224)),
        (spec("x", "float32", "x[0]", "x[1]", "x[2]", 3), (1, 224, 224, 3)),
        (spec("x", "float32", 1, 3, 64, "w"), (1, 3, 64, 64)),
        (spec("x", "float32", "N", 10), (1, 10)),
        (spec("audio", "float32", "batch", "samples"), (1, 16_000)),
        (spec("x", "float32", "x[0]"), (1,)),
        (spec("x", "float32", "x[0]", "frames", 80), (1, 128, 80)),
        (spec("x", "float32", 2, 3), (2, 3)),
        (spec("sr", "int64"), ()),
    ],
)
def test_open_dims_take_sensible_sizes(tensor: TensorSpec, shape: tuple[int, ...]) -> None:
    assert bound_shapes(card(tensor), {}) == {tensor.name: shape}


def test_a_symbol_has_one_size_in_all_inputs() -> None:
    described = card(
        spec("input_ids", "int64", "b", "s"),
        spec("attention_mask", "int64", "b", "past + s"),
        spec("past.key", "float32", "b", 2, "past", 8),
    )
    assert bound_shapes(described, {"b": 4, "s": 10, "past": 6}) == {
        "input_ids": (4, 10),
        "attention_mask": (4, 16),
        "past.key": (4, 2, 6, 8),
    }


@pytest.mark.parametrize(
    "bindings", [{"nope": 1}, {"batch": 0}, {"batch": -1}, {"batch": True}, {"batch": 1.5}, {"batch": 1 << 25}, {"batch": 1 << 23}]
)
def test_sizes_that_cannot_be_are_refused(bindings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"input\.refused"):
        bound_shapes(card(spec("x", "float32", "batch", 100)), bindings)


def test_inputs_that_cannot_be_fed_are_refused() -> None:
    with pytest.raises(InputError, match=r"input\.refused"):
        bound_shapes(card(spec("x", "sequence")), {})
    with pytest.raises(InputError, match=r"input\.unbound"):
        bound_shapes(card(TensorSpec(name="x", dtype="float32", shape=(), ranked=False)), {})
    with pytest.raises(InputError, match=r"input\.refused"):
        prepare_inputs(card(spec("label", "float32", 1)), spec=SearchSpec(), dataset=None, folder=Path("unused"))


def test_synthetic_values_follow_the_role_of_each_input(tmp_path: Path) -> None:
    described = card(
        spec("input_ids", "int64", 1, 16), spec("attention_mask", "int64", 1, 16), spec("token_type_ids", "int64", 1, 16),
        spec("position_ids", "int64", 1, 16), spec("lengths", "int64", 1), spec("sr", "int64"), spec("state", "float32", 2, 1, 8),
        spec("image", "uint8", 1, 8, 8, 3), spec("pixels", "float32", 1, 3, 8, 8), spec("flag", "bool"), spec("scales", "float32", 3),
        spec("key_padding_mask", "bool", 1, 16), spec("words", "string", 1), vocabularies={"input_ids": 50, "position_ids": 10},
        state_pairs=(("state", "stateN"),),
    )  # fmt: skip
    made = prepare_inputs(described, spec=SearchSpec(), dataset=None, folder=tmp_path)
    feeds = load_feeds(tmp_path / ARRAYS, 3)
    assert made.source is InputSource.SYNTHETIC
    assert {name: feed.dtype.name for name, feed in feeds.items() if name != "words"} == {
        tensor.name: tensor.dtype for tensor in described.inputs if tensor.name != "words"
    }
    assert {name: feed.shape for name, feed in feeds.items()} == made.shapes
    assert 0 < feeds["input_ids"].min() <= feeds["input_ids"].max() < 50
    assert feeds["attention_mask"].all()
    assert not feeds["token_type_ids"].any()
    assert feeds["position_ids"].max() == 9
    assert (feeds["lengths"], feeds["sr"]) == (16, 16_000)
    assert not feeds["state"].any()
    assert not feeds["flag"]
    assert not feeds["key_padding_mask"].any()
    assert feeds["image"].max() > 100
    assert -1 <= feeds["pixels"].min() < 0 < feeds["pixels"].max() <= 1
    assert (feeds["scales"] > 0).all()


def test_synthetic_inputs_depend_on_the_seed_only(tmp_path: Path) -> None:
    described = card(spec("x", "float32", 1, 4))
    digests = [
        prepare_inputs(described, spec=SearchSpec(seed=seed), dataset=None, folder=tmp_path / str(number)).digest
        for number, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]
    assert (tmp_path / "0" / ARRAYS).read_bytes() == (tmp_path / "1" / ARRAYS).read_bytes()


@pytest.mark.parametrize(
    "build",
    [samples.mlp, samples.conv, samples.dynamic_batch, samples.encoder, samples.recurrent, samples.identity, samples.loop, samples.branch],
)
def test_the_runtime_takes_what_is_made_for_each_small_graph(tmp_path: Path, build: object) -> None:
    path = build(tmp_path / "m.onnx")  # type: ignore[operator]
    made = prepare_inputs(inspect_model(path), spec=SearchSpec(), dataset=None, folder=tmp_path / "inputs")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for index in (0, made.n - 1):
        assert all(np.isfinite(output).all() for output in session.run(None, load_feeds(made.folder / ARRAYS, index)))


def test_an_input_set_survives_the_disk_and_a_move(tmp_path: Path) -> None:
    made = prepare_inputs(card(spec("a/b:0", "float32", 1, 4)), spec=SearchSpec(), dataset=None, folder=tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    loaded = load_inputs(tmp_path / "two")
    assert loaded.folder == tmp_path / "two"
    assert (loaded.digest, loaded.shapes, loaded.n) == (made.digest, made.shapes, made.n)
    with np.load(tmp_path / "two" / ARRAYS) as arrays:
        np.testing.assert_array_equal(arrays["a/b:0"][5], load_feeds(tmp_path / "two" / ARRAYS, 5)["a/b:0"])
    with pytest.raises(InputError, match=r"input\.unreadable"):
        load_inputs(tmp_path / "nowhere")
    with pytest.raises(IndexError):
        load_feeds(tmp_path / "two" / ARRAYS, made.n)


def test_feeds_of_a_rewritten_file_are_the_new_ones(tmp_path: Path) -> None:
    for value in (1, 2):
        prepare_inputs(card(spec("x", "float32", 1, value)), spec=SearchSpec(), dataset=None, folder=tmp_path)
        assert load_feeds(tmp_path / ARRAYS, 0)["x"].shape == (1, value)


def test_a_split_follows_contents_and_seals_enough(tmp_path: Path) -> None:
    digests = [f"{index:064x}" for index in np.random.default_rng(0).permutation(700)]
    parts = split_by_content(digests, sealed_at_most=500)
    assert (len(parts.calibration), len(parts.search), len(parts.sealed)) == (60, 200, 440)
    backwards = split_by_content(digests[::-1], sealed_at_most=500)
    assert {digests[index] for index in parts.sealed} == {digests[::-1][index] for index in backwards.sealed}


def parts_with_training(n: int, most: int, *, repeats: int = 1) -> tuple[list[str], Split]:
    digests = [f"{index % max(1, n // repeats):064x}" for index in range(n)]
    return digests, split_by_content(digests, sealed_at_most=most, with_training=True)


@given(n=st.integers(0, 6_000), most=st.integers(0, 20_000), repeats=st.integers(1, 3))
def test_what_trains_neither_chooses_nor_judges(n: int, most: int, repeats: int) -> None:
    digests, parts = parts_with_training(n, most, repeats=repeats)
    others = {digests[index] for part in (parts.calibration, parts.search, parts.sealed) for index in part}
    trained = [digests[index] for index in parts.training]
    assert not others & set(trained)
    assert len(trained) == len(set(trained))
    assert not trained or TRAINING_AT_LEAST <= len(trained) <= TRAINING_AT_MOST
    assert len(parts.sealed) <= most
    plain = split_by_content(digests, sealed_at_most=most)
    assert (parts.calibration, parts.search) == (plain.calibration, plain.search)
    assert parts.sealed == plain.sealed[: len(parts.sealed)]
    assert len(parts.sealed) >= min(len(plain.sealed), SEALED_BEFORE_TRAINING)
    assert parts.training or parts.sealed == plain.sealed


@pytest.mark.parametrize(("n", "most", "sealed", "training"), [(959, 500, 500, 0), (960, 500, 500, 200), (5_000, 500, 500, 4_240), (5_000, 2_000, 2_000, 2_740), (5_000, 20_000, 2_370, 2_370), (1_600, 2_000, 670, 670), (950, 20_000, 690, 0)])  # fmt: skip
def test_the_sealed_part_comes_before_the_training_part(n: int, most: int, sealed: int, training: int) -> None:
    _, parts = parts_with_training(n, most)
    assert (len(parts.sealed), len(parts.training)) == (sealed, training)


def test_streams_have_no_training_part() -> None:
    digests = [f"{index:064x}" for index in range(9_000)]
    assert split_by_content(digests, sealed_at_most=500, steps=3, with_training=True).training == ()


@given(n=st.integers(0, 3_000), most=st.integers(0, 1_000), repeats=st.integers(1, 3))
def test_the_parts_are_disjoint_whatever_the_numbers(n: int, most: int, repeats: int) -> None:
    digests = [f"{index % max(1, n // repeats):064x}" for index in range(n)]
    parts = split_by_content(digests, sealed_at_most=most)
    contents = [digests[index] for part in (parts.calibration, parts.search, parts.sealed) for index in part]
    assert len(contents) == len(set(contents))
    assert len(parts.sealed) <= most
    unique = len(set(digests))
    if unique >= 2 and most >= 1:
        assert parts.search
        assert parts.sealed
    if unique >= 3:
        assert parts.calibration
    if unique >= SEALED_FLOOR + 16 and most >= SEALED_FLOOR:
        assert len(parts.sealed) >= SEALED_FLOOR


def test_repeated_examples_are_used_once(tmp_path: Path) -> None:
    made = prepare_inputs(card(spec("x", "float32", 1, 4)), spec=SearchSpec(), dataset=None, folder=tmp_path)
    (tmp_path / EXAMPLES).write_text(json.dumps(["a", "b", "a", "c", "b", "d"]))
    parts = split(made, sealed_at_most=100)
    assert sorted((*parts.calibration, *parts.search, *parts.sealed)) == [0, 1, 3, 5]
