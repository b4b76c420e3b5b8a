"""Several examples in one call: which models can take them, and how they are joined and parted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.measure.batches import batched_shapes, in_batches, is_batch_free, parted
from optimizer.specs import ModelCard
from tests.samples import mlp, sample_path

EXAMPLES = [{"x": np.full((1, 2), index, np.float32)} for index in range(5)]


def card(tmp_path: Path, batch: int | str) -> ModelCard:
    return inspect_model(mlp(tmp_path / f"{batch}.onnx", batch=batch))


def test_an_open_first_dim_of_every_tensor_takes_a_batch_and_a_fixed_one_does_not(tmp_path: Path) -> None:
    open_card = card(tmp_path, "n")
    assert is_batch_free(open_card, {"x": (1, 16)})
    assert not is_batch_free(open_card, {"x": (8, 16)})
    assert not is_batch_free(card(tmp_path, 1), {"x": (1, 16)})
    fixed_output = replace(open_card, outputs=(replace(open_card.outputs[0], shape=(1, 4)),))
    assert not is_batch_free(fixed_output, {"x": (1, 16)})


@pytest.mark.parametrize(
    "change", [{"state_pairs": (("x", "y"),)}, {"control_flow": True}, {"random": True}, {"data_dependent_shapes": True}]
)
def test_state_chance_and_control_flow_rule_a_batch_out(tmp_path: Path, change: dict[str, object]) -> None:
    assert not is_batch_free(replace(card(tmp_path, "n"), **change), {"x": (1, 16)})  # type: ignore[arg-type]


def test_real_models_with_an_open_batch_are_seen_as_such() -> None:
    for sample, shapes in (
        ("S1", {"input_ids": (1, 64), "attention_mask": (1, 64)}),
        ("S2.cls", {"x": (1, 3, 48, 192)}),
    ):
        assert is_batch_free(inspect_model(sample_path(sample)), shapes)


def test_the_last_batch_is_filled_up_with_the_first_examples() -> None:
    calls = in_batches(EXAMPLES, 3)
    assert [call["x"][:, 0].tolist() for call in calls] == [[0, 1, 2], [3, 4, 0]]
    assert in_batches(EXAMPLES, 1) == EXAMPLES
    assert batched_shapes({"x": (1, 2), "scale": ()}, 3) == {"x": (3, 2), "scale": ()}


def test_outputs_are_parted_example_by_example() -> None:
    scores, rows = np.arange(6).reshape(3, 2), np.arange(6)
    first, second, third = parted([scores, rows], 3)
    assert [one.tolist() for one in first] == [[[0, 1]], [0, 1]]
    assert third[0].shape == (1, 2)
    assert second[1].tolist() == [2, 3]


@pytest.mark.parametrize("output", [np.float32(1.0).reshape(()), np.zeros((4, 2))])
def test_an_output_that_counts_no_examples_is_refused(output: np.ndarray) -> None:
    with pytest.raises(InputError) as refusal:
        parted([output], 3)
    assert refusal.value.code == "batch.not_separable"
