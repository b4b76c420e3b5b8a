"""Task-shaped fidelity on outputs made by hand: what passes, what fails, what needs more examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizer.errors import InputError
from optimizer.measure.fidelity import FidelityResult, compare_outputs, examples_needed, require_finite
from optimizer.specs import InputSource, KpiTarget, TaskKind, Verdict

Array = np.ndarray[Any, Any]
Outputs = list[list[Array]]
ENOUGH = 400


def floats(*shape: int, n: int = ENOUGH, seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=shape).astype(np.float32)] for _ in range(n)]


def noisy(outputs: Outputs, *, scale: float, seed: int = 1) -> Outputs:
    rng = np.random.default_rng(seed)
    return [[(array + rng.normal(size=array.shape) * scale).astype(array.dtype) for array in example] for example in outputs]


def measured(result: FidelityResult, name: str) -> float:
    return next(one.value for one in result.measurements if one.kpi == name and one.value is not None)


def classes(*, wrong: int, n: int, width: int = 5) -> tuple[Outputs, Outputs]:
    """Scores of ``n`` examples, ``wrong`` of which the candidate puts into another class."""
    rng = np.random.default_rng(2)
    reference = [[np.eye(width, dtype=np.float32)[rng.integers(width)][None]] for _ in range(n)]
    candidate = [[np.roll(one[0], 1, axis=-1) if index < wrong else one[0].copy()] for index, one in enumerate(reference)]
    return reference, candidate


@pytest.mark.parametrize(
    ("n", "wrong", "verdict", "needed"),
    [
        (380, 0, Verdict.UNPROVEN, 381),
        (381, 0, Verdict.PASS, None),
        (400, 30, Verdict.FAIL, None),
        (100, 0, Verdict.UNPROVEN, 381),
    ],
)
def test_classifiers_pass_by_the_lower_end_of_wilsons_interval(n: int, wrong: int, verdict: Verdict, needed: int | None) -> None:
    result = compare_outputs(TaskKind.CLASSIFICATION, *classes(wrong=wrong, n=n))
    assert (result.verdict, result.needed) == (verdict, needed)
    assert measured(result, "fidelity_top1_agreement_fraction") == (n - wrong) / n
    assert verdict is not Verdict.UNPROVEN or "needs at least 381 sealed inputs" in result.reason


def test_a_share_just_above_the_limit_needs_more_examples_and_says_how_many() -> None:
    result = compare_outputs(TaskKind.CLASSIFICATION, *classes(wrong=2, n=400))
    assert result.verdict is Verdict.UNPROVEN
    assert result.needed is not None
    assert 1000 < result.needed < 2000
    assert compare_outputs(TaskKind.CLASSIFICATION, *classes(wrong=int(result.needed * 0.005), n=result.needed)).verdict is Verdict.PASS


def test_the_users_target_replaces_the_default_limit() -> None:
    reference, candidate = classes(wrong=20, n=400)
    lenient = [KpiTarget(kpi="fidelity_top1_agreement_fraction", value=0.9)]
    assert compare_outputs(TaskKind.CLASSIFICATION, reference, candidate).verdict is Verdict.FAIL
    result = compare_outputs(TaskKind.CLASSIFICATION, reference, candidate, targets=lenient)
    assert result.verdict is Verdict.PASS
    assert result.limits == {"fidelity_top1_agreement_fraction": 0.9}


def test_a_target_on_another_fidelity_kpi_gates_too() -> None:
    reference = floats(1, 64)
    targets = [KpiTarget(kpi="fidelity_snr_db", value=80.0)]
    result = compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.001), targets=targets)
    assert result.verdict is Verdict.FAIL
    assert "SNR" in result.reason


def test_a_target_that_the_outputs_cannot_answer_stays_unproven() -> None:
    targets = [KpiTarget(kpi="fidelity_sequence_exact_fraction", value=0.9)]
    reference = floats(1, 64)
    result = compare_outputs(TaskKind.EMBEDDING, reference, reference, targets=targets)
    assert result.verdict is Verdict.UNPROVEN
    assert "decoded sequence exact" in result.reason


def test_embeddings_that_keep_direction_and_order_pass() -> None:
    reference = floats(1, 64)
    result = compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.01))
    assert result.verdict is Verdict.PASS
    assert set(result.limits) == {"fidelity_cosine_p01_ratio", "fidelity_rank_correlation_ratio"}
    assert not result.invariant


def test_embeddings_with_an_offset_fail_by_order_though_their_cosine_is_high() -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(1, 64)) * 20
    reference = [[(shared + rng.normal(size=(1, 64))).astype(np.float32)] for _ in range(ENOUGH)]
    result = compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=1.0))
    assert measured(result, "fidelity_cosine_p01_ratio") > 0.99
    assert result.verdict is Verdict.FAIL
    assert "Similarity rank correlation" in result.reason


def test_nearest_neighbours_are_reported_and_do_not_gate() -> None:
    reference = floats(1, 64)
    result = compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.02))
    assert 0 < measured(result, "fidelity_nearest_agreement_fraction") < 1
    assert "fidelity_nearest_agreement_fraction" not in result.limits


def test_the_first_percentile_of_cosine_needs_368_examples() -> None:
    for n, verdict in ((367, Verdict.UNPROVEN), (368, Verdict.PASS)):
        reference = floats(1, 32, n=n)
        assert compare_outputs(TaskKind.EMBEDDING, reference, reference).verdict is verdict
    assert examples_needed(TaskKind.EMBEDDING) == 368
    assert examples_needed(TaskKind.CLASSIFICATION) == examples_needed(TaskKind.SEQUENCE) == 381


def test_the_pooled_output_carries_an_embedding_and_the_others_are_reported() -> None:
    rng = np.random.default_rng(4)
    reference = [
        [rng.normal(size=(1, 8, 16)).astype(np.float32), np.ones((1, 8), np.int64), rng.normal(size=(1, 16)).astype(np.float32)]
        for _ in range(ENOUGH)
    ]
    candidate = [[-one[0], one[1], one[2]] for one in reference]
    result = compare_outputs(TaskKind.EMBEDDING, reference, candidate)
    assert result.verdict is Verdict.PASS
    assert not result.invariant
    assert result.others[0]["cosine_p01"] == pytest.approx(-1)
    assert set(result.others) == {0, 2}


def test_token_states_without_a_pooled_output_are_averaged() -> None:
    reference = floats(1, 8, 16)
    assert compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.005)).verdict is Verdict.PASS
    assert compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.5)).verdict is Verdict.FAIL


def test_every_float_output_of_a_generic_model_gates() -> None:
    rng = np.random.default_rng(6)
    reference = [[rng.normal(size=(1, 9)).astype(np.float32), rng.normal(size=(2, 3, 4)).astype(np.float32)] for _ in range(ENOUGH)]
    assert compare_outputs(TaskKind.GENERIC, reference, noisy(reference, scale=0.01)).verdict is Verdict.PASS
    one_bad = [[one[0], -one[1]] for one in reference]
    assert compare_outputs(TaskKind.GENERIC, reference, one_bad).verdict is Verdict.FAIL
    assert compare_outputs(TaskKind.DETECTION, reference, one_bad).verdict is Verdict.FAIL


def test_noise_is_caught_by_snr_where_the_cosine_cannot_see_it() -> None:
    reference: Outputs = [[np.array([[0.9]], np.float32)]] * ENOUGH
    candidate: Outputs = [[np.array([[0.5]], np.float32)]] * ENOUGH
    result = compare_outputs(TaskKind.GENERIC, reference, candidate)
    assert measured(result, "fidelity_cosine_p01_ratio") == 1.0
    assert result.verdict is Verdict.FAIL


def test_whole_number_outputs_must_be_equal() -> None:
    reference: Outputs = [[np.arange(4)[None] + index] for index in range(ENOUGH)]
    same = compare_outputs(TaskKind.GENERIC, reference, [[one[0].copy()] for one in reference])
    assert same.verdict is Verdict.PASS
    assert same.invariant
    off_by_one = [[one[0] + (index % 10 == 0)] for index, one in enumerate(reference)]
    assert compare_outputs(TaskKind.GENERIC, reference, off_by_one).verdict is Verdict.FAIL


def test_text_and_flags_are_compared_as_they_are() -> None:
    reference: Outputs = [[np.array([["a", "b"]]), np.array([True, False])]] * ENOUGH
    assert compare_outputs(TaskKind.GENERIC, reference, reference).verdict is Verdict.PASS
    other: Outputs = [[np.array([["a", "c"]]), np.array([True, False])]] * ENOUGH
    assert compare_outputs(TaskKind.GENERIC, reference, other).verdict is Verdict.FAIL


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", list(TaskKind))
def test_a_value_that_is_not_finite_fails_whatever_the_task(task: TaskKind, value: float) -> None:
    reference = floats(1, 8, n=5)
    candidate = [[one[0].copy()] for one in reference]
    candidate[3][0][0, 2] = value
    result = compare_outputs(task, reference, candidate)
    assert (result.verdict, result.code, result.finite) == (Verdict.FAIL, "fidelity.not_finite", False)


@pytest.mark.parametrize("changed", [[np.zeros((1, 9), np.float32)], [np.zeros((1, 8), np.float32)] * 2, []])
def test_a_changed_shape_or_number_of_outputs_fails(changed: list[Array]) -> None:
    reference: Outputs = [[np.zeros((1, 8), np.float32)]] * 4
    result = compare_outputs(TaskKind.GENERIC, reference, [*reference[:3], changed])
    assert (result.verdict, result.code) == (Verdict.FAIL, "fidelity.shape_changed")


def test_a_baseline_that_is_not_finite_is_an_error_of_its_own() -> None:
    reference: Outputs = [[np.array([[np.nan]], np.float32)]] * 3
    with pytest.raises(InputError) as refusal:
        compare_outputs(TaskKind.GENERIC, reference, reference)
    assert refusal.value.code == "baseline.not_finite"
    with pytest.raises(InputError) as refusal:
        require_finite({"finite": False})
    assert refusal.value.code == "baseline.not_finite"
    require_finite({"finite": True})


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (3, 2)])
def test_nothing_or_unequal_numbers_of_examples_cannot_be_compared(ours: int, theirs: int) -> None:
    with pytest.raises(InputError) as refusal:
        compare_outputs(TaskKind.GENERIC, floats(1, 3, n=ours), floats(1, 3, n=theirs))
    assert refusal.value.code == "fidelity.no_examples"


@pytest.mark.parametrize("task", list(TaskKind))
@pytest.mark.parametrize(("scale", "is_invariant"), [(0.0, True), (1e-6, True), (0.003, False)])
def test_invariant_means_agreement_to_rounding(task: TaskKind, scale: float, is_invariant: bool) -> None:
    reference = floats(1, 8, n=10)
    assert compare_outputs(task, reference, noisy(reference, scale=scale)).invariant is is_invariant


def test_on_synthetic_inputs_only_agreement_to_rounding_passes() -> None:
    reference = floats(1, 64)
    exact = compare_outputs(TaskKind.EMBEDDING, reference[:16], noisy(reference[:16], scale=1e-6), source=InputSource.SYNTHETIC)
    assert exact.verdict is Verdict.PASS
    close = compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.01), source=InputSource.SYNTHETIC)
    assert close.verdict is Verdict.UNPROVEN
    assert "add 500 real inputs to prove it" in close.reason
    assert compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=5), source=InputSource.SYNTHETIC).verdict is Verdict.FAIL


def test_few_real_inputs_suffice_only_for_recipes_that_are_exact_by_construction() -> None:
    reference = floats(1, 64, n=16)
    again = noisy(reference, scale=1e-6)
    assert compare_outputs(TaskKind.EMBEDDING, reference, again, accuracy_invariant=True).verdict is Verdict.PASS
    assert compare_outputs(TaskKind.EMBEDDING, reference, again).verdict is Verdict.UNPROVEN
    assert compare_outputs(TaskKind.EMBEDDING, reference, noisy(reference, scale=0.01), accuracy_invariant=True).verdict is Verdict.UNPROVEN


def test_with_labels_the_change_in_accuracy_decides() -> None:
    reference, candidate = classes(wrong=30, n=1000)
    labels = np.array([int(one[0].argmax()) for one in reference])
    worse = compare_outputs(TaskKind.CLASSIFICATION, reference, candidate, labels=labels)
    assert worse.verdict is Verdict.FAIL
    assert measured(worse, "accuracy_top1_fraction") == 0.97
    assert measured(worse, "accuracy_delta_pp") == pytest.approx(-3.0)
    better = compare_outputs(TaskKind.CLASSIFICATION, candidate, reference, labels=labels)
    assert better.verdict is Verdict.PASS
    assert measured(better, "fidelity_top1_agreement_fraction") == 0.97
    assert better.limits == {"accuracy_delta_pp": -1.0}


def test_the_permitted_drop_is_the_users() -> None:
    reference, candidate = classes(wrong=30, n=1000)
    labels = np.array([int(one[0].argmax()) for one in reference])
    targets = [KpiTarget(kpi="accuracy_delta_pp", value=-6.0)]
    assert compare_outputs(TaskKind.CLASSIFICATION, reference, candidate, labels=labels, targets=targets).verdict is Verdict.PASS


def test_labels_that_do_not_match_the_rows_are_not_used() -> None:
    reference, candidate = classes(wrong=0, n=400)
    result = compare_outputs(TaskKind.CLASSIFICATION, reference, candidate, labels=np.zeros(3))
    assert "accuracy_delta_pp" not in result.limits
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize("task", [TaskKind.CLASSIFICATION, TaskKind.EMBEDDING, TaskKind.SEQUENCE])
def test_outputs_that_do_not_have_the_tasks_shape_are_judged_as_generic(task: TaskKind) -> None:
    reference = floats(2, 3, 4, 5)
    result = compare_outputs(task, reference, noisy(reference, scale=0.01))
    assert result.verdict is Verdict.PASS
    assert set(result.limits) == {"fidelity_cosine_p01_ratio", "fidelity_snr_db"}


def test_measurements_carry_no_infinity_so_that_they_survive_json() -> None:
    from optimizer.codec import canonical_json

    reference: Outputs = [[np.zeros((1, 8), np.float32)]] * ENOUGH
    for candidate in (reference, [[np.ones((1, 8), np.float32)]] * ENOUGH):
        result = compare_outputs(TaskKind.GENERIC, reference, candidate)
        canonical_json(result)
