"""Parts of an input set hold exactly the chosen examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimizer.formats import inspect_model
from optimizer.measure.inputs import InputSet, load_feeds, load_inputs, load_label, prepare_inputs
from optimizer.pipeline import portion
from optimizer.specs import SearchSpec
from tests.samples import mlp


@pytest.fixture
def inputs(tmp_path: Path) -> InputSet:
    card = inspect_model(mlp(tmp_path / "m.onnx", width=16))
    values = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=values, label=np.arange(20) % 4)
    return prepare_inputs(card, spec=SearchSpec(), dataset=tmp_path / "data.npz", folder=tmp_path / "all")


def test_a_portion_holds_the_chosen_examples_in_order_with_their_labels(inputs: InputSet, tmp_path: Path) -> None:
    part = portion(inputs, (7, 3), root=tmp_path / "parts")
    assert part.n == 2
    for place, index in enumerate((7, 3)):
        chosen = load_feeds(part.folder / "inputs.npz", place)["x"]
        assert np.array_equal(chosen, load_feeds(inputs.folder / "inputs.npz", index)["x"])
        assert load_label(part.folder / "inputs.npz", place) == index % 4
    assert load_inputs(part.folder).n == 2


def test_a_portion_is_made_once(inputs: InputSet, tmp_path: Path) -> None:
    first = portion(inputs, (1, 2), root=tmp_path / "parts")
    stamp = (first.folder / "inputs.npz").stat().st_mtime_ns
    second = portion(inputs, (1, 2), root=tmp_path / "parts")
    assert second.folder == first.folder
    assert (second.folder / "inputs.npz").stat().st_mtime_ns == stamp


def test_different_portions_have_different_digests(inputs: InputSet, tmp_path: Path) -> None:
    parts = [portion(inputs, chosen, root=tmp_path / "parts") for chosen in ((1, 2), (2, 1), (1,))]
    assert len({part.digest for part in parts} | {inputs.digest}) == 4
