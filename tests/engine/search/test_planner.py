"""What is planned for which model on which machine, and what is said about time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.backends import Missing
from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.search import planner
from optimizer.search.estimate import gate_examples
from optimizer.specs import (
    BackendSettings,
    Budget,
    HardwareProfile,
    InputSource,
    KpiTarget,
    ModelCard,
    Precision,
    Recipe,
    Scenario,
    SearchSpec,
    TaskKind,
    TrafficShare,
)
from tests.samples import conv, mlp, sample_path

HOST = HardwareProfile(
    os="Linux",
    os_version="test",
    architecture="x86_64",
    kernel="6",
    cpu_model="test",
    cores=4,
    memory_bytes=16 << 30,
    dot_int8=True,
    instruction_sets=("avx512f", "avx512_vnni"),
    peaks_flops={"f32": 2e11},
    memory_bandwidth_bytes_per_s=2e10,
    runtimes={"onnxruntime": "1.32.0", "openvino": "2026.4.1"},
)
MATRIX = replace(HOST, matrix_bf16=True, matrix_int8=True, instruction_sets=(*HOST.instruction_sets, "amx_bf16", "amx_int8", "amx_tile"))


@pytest.fixture(scope="module")
def encoder() -> ModelCard:
    return inspect_model(sample_path("S1"), bindings={"batch_size": 1, "sequence_length": 128})


@pytest.fixture(scope="module")
def classifier() -> ModelCard:
    return inspect_model(sample_path("S2.cls"), bindings={})


def plan_for(card: ModelCard, host: HardwareProfile = HOST, **changes: object) -> planner.Plan:
    spec = replace(SearchSpec(), **changes)  # type: ignore[arg-type]
    return planner.plan(card, spec, host, planner.installed_backends(host))


def test_a_quick_plan_is_small(encoder: ModelCard, classifier: ModelCard) -> None:
    for card in (encoder, classifier):
        assert 8 <= len(plan_for(card).candidates) <= 14


def test_no_recipe_is_planned_twice_and_never_the_reference(encoder: ModelCard) -> None:
    plan = plan_for(encoder)
    keys = [one.recipe.key for one in plan.candidates]
    assert len(keys) == len(set(keys))
    assert plan.reference.key not in keys


def test_matrix_units_put_reduced_precision_first(encoder: ModelCard) -> None:
    assert plan_for(encoder, MATRIX).candidates[0].recipe.settings.precision is Precision.BF16
    assert plan_for(encoder, HOST).candidates[0].recipe.settings.precision is Precision.F32


def test_the_first_candidates_are_of_different_kinds(encoder: ModelCard) -> None:
    first = plan_for(encoder).candidates[:5]
    assert {one.recipe.backend for one in first} == {"onnxruntime", "openvino"}
    assert any("int8" in step.name for one in first for step in one.recipe.passes)


def test_one_candidate_changes_nothing_but_settings(encoder: ModelCard) -> None:
    plan = plan_for(encoder)
    only_settings = [one for one in plan.candidates if one.recipe.backend == plan.reference.backend and not one.recipe.passes]
    assert only_settings
    assert all(one.accuracy_invariant for one in only_settings)


def test_a_missing_backend_is_named_with_how_to_install_it(encoder: ModelCard) -> None:
    host = replace(HOST, runtimes={"onnxruntime": "1.32.0"})
    plan = plan_for(encoder, host)
    assert {one.recipe.backend for one in plan.candidates} == {"onnxruntime"}
    assert any(one.label == "openvino" and "pip install openvino" in one.reason for one in plan.not_tried)
    assert isinstance(planner.installed_backends(host)["openvino"], Missing)


@pytest.mark.parametrize(("matrix_bf16", "fallback"), [(True, "bf16"), (False, "f32")])
def test_int8_is_planned_only_under_the_precision_its_exact_layers_run_in(classifier: ModelCard, matrix_bf16: bool, fallback: str) -> None:
    host = replace(HOST, matrix_bf16=matrix_bf16, dot_int8=True, runtimes={**HOST.runtimes, "nncf": "3.4.0"})
    planned = plan_for(classifier, host, passes=("openvino_int8",)).candidates
    found = [one for one in planned if one.recipe.passes]
    assert {(one.recipe.settings.precision, one.recipe.passes[-1].params["fallback"]) for one in found} == {(fallback, fallback)}
    assert all(one.tries_forms and one.rewrites_arithmetic and not one.refines for one in found)


TRAINED = {"structured_pruning", "distillation", "qat_int8"}
WITH_TORCH = replace(HOST, runtimes={**HOST.runtimes, "torch": "2.13.0"})


def training_plan(card: ModelCard, *, examples: int, source: InputSource = InputSource.REAL, total_s: float = 1200.0) -> planner.Plan:
    spec = SearchSpec(budget=Budget(preset="standard", total_s=total_s))
    found = planner.installed_backends(WITH_TORCH)
    return planner.plan(card, spec, WITH_TORCH, found, input_source=source, training_examples=examples)


def trains(one: planner.Candidate) -> bool:
    return any(step.name in TRAINED for step in one.recipe.passes)


def test_training_passes_are_planned_when_there_are_examples_and_get_their_share_of_the_budget(tmp_path: Path) -> None:
    card = inspect_model(conv(tmp_path / "m.onnx"))
    trained = [one for one in training_plan(card, examples=400).candidates if trains(one)]
    assert {step.name for one in trained for step in one.recipe.passes} & TRAINED == TRAINED
    assert {one.training_s for one in trained} == {144.0}
    assert {step.params["seconds"] for one in trained for step in one.recipe.passes if step.name in TRAINED} == {144.0}
    assert any([step.name for step in one.recipe.passes][-2:] == ["structured_pruning", "static_int8"] for one in trained)
    assert all(one.training_s == 0 for one in training_plan(card, examples=400).candidates if not trains(one))


@pytest.mark.parametrize(
    ("examples", "source", "total_s", "says"),
    [
        (0, InputSource.REAL, 1200.0, "at least 200 examples beyond"),
        (400, InputSource.PROXY, 1200.0, "examples of your own"),
        (400, InputSource.SYNTHETIC, 1200.0, "examples of your own"),
        (400, InputSource.REAL, 0.5, "a larger budget may hold it"),
    ],
)
def test_training_that_cannot_be_done_is_left_out_with_its_reason(
    tmp_path: Path, examples: int, source: InputSource, total_s: float, says: str
) -> None:
    plan = training_plan(inspect_model(conv(tmp_path / "m.onnx")), examples=examples, source=source, total_s=total_s)
    assert not any(trains(one) for one in plan.candidates)
    assert says in {one.label: one.reason for one in plan.not_tried}["Structured pruning"]


def test_passes_that_do_not_apply_give_their_reason(classifier: ModelCard) -> None:
    reasons = {one.label: one.reason for one in plan_for(classifier).not_tried}
    assert "attention" in reasons["Transformer fusion"].lower()


def test_on_synthetic_inputs_what_may_win_comes_first(encoder: ModelCard) -> None:
    plan = planner.plan(encoder, SearchSpec(), MATRIX, planner.installed_backends(MATRIX), input_source=InputSource.SYNTHETIC)
    order = [one.accuracy_invariant for one in plan.candidates]
    assert order == sorted(order, reverse=True)
    assert order[0]
    assert any("real examples" in one.reason for one in plan.not_tried)


def test_the_user_may_restrict_backends_passes_and_threads(encoder: ModelCard) -> None:
    plan = plan_for(encoder, backends=("onnxruntime",), passes=("simplify",), max_threads=2)
    assert plan.reference.settings.threads == 2
    assert {one.recipe.backend for one in plan.candidates} == {"onnxruntime"}
    assert {step.name for one in plan.candidates for step in one.recipe.passes} <= {"simplify"}
    assert all((one.recipe.settings.threads or 0) <= 2 for one in plan.candidates)
    assert any(one.reason == "Left out by request." for one in plan.not_tried)


def test_tuning_changes_settings_only(encoder: ModelCard) -> None:
    plan = plan_for(encoder)
    candidate = plan.candidates[0]
    tuned = plan.tune(candidate)
    assert tuned
    for one in tuned:
        assert one.recipe.passes == candidate.recipe.passes
        assert one.recipe.settings.precision is candidate.recipe.settings.precision
        assert one.recipe != candidate.recipe


def test_the_parts_of_an_estimate_add_up_within_the_budget(encoder: ModelCard) -> None:
    for total_s in (90.0, 210.0, 1200.0):
        found = planner.estimate(encoder, SearchSpec(budget=Budget(total_s=total_s)), HOST)
        assert found.high_s == pytest.approx(sum(found.parts.values()))
        assert 0 < found.low_s <= found.high_s <= total_s


def test_a_sufficient_budget_has_no_problems(encoder: ModelCard) -> None:
    found = planner.estimate(encoder, SearchSpec(), HOST)
    assert found.problems == ()
    planner.check_budget(found)


def test_a_budget_without_room_for_an_answer_is_refused_with_the_least_that_would_do(encoder: ModelCard) -> None:
    found = planner.estimate(encoder, SearchSpec(budget=Budget(total_s=5)), HOST)
    with pytest.raises(InputError, match=r"allow at least \d+ s") as refused:
        planner.check_budget(found)
    assert refused.value.code == "budget.too_small"
    enough = planner.estimate(encoder, SearchSpec(budget=Budget(total_s=found.least_s + 1)), HOST)
    assert enough.problems == ()


def test_the_accuracy_check_states_how_many_sealed_examples_it_needs(classifier: ModelCard) -> None:
    assert planner.estimate(classifier, SearchSpec(task=TaskKind.CLASSIFICATION), HOST).sealed_needed == 381


def test_a_p99_objective_asks_for_longer_starts(encoder: ModelCard) -> None:
    typical = planner.estimate(encoder, SearchSpec(), HOST)
    tail = planner.estimate(encoder, SearchSpec(objective="latency_p99_ms"), HOST)
    assert tail.least_s > typical.least_s


def test_a_target_on_a_tail_percentile_asks_for_longer_starts(encoder: ModelCard) -> None:
    slow = replace(HOST, peaks_flops={"f32": 1e10})
    typical = planner.estimate(encoder, SearchSpec(), slow)
    tail = planner.estimate(encoder, SearchSpec(targets=(KpiTarget(kpi="latency_p99_ms", value=10),)), slow)
    assert tail.least_s > typical.least_s


def test_a_tiny_model_is_planned_too(tmp_path: Path) -> None:
    card = inspect_model(mlp(tmp_path / "m.onnx"), bindings={})
    keys = [one.recipe.key for one in plan_for(card).candidates]
    assert keys
    assert len(keys) == len(set(keys))


OFFLINE = SearchSpec(objective="throughput_per_s")


def offline_plan(card: ModelCard, **changes: object) -> planner.Plan:
    return planner.plan(card, replace(OFFLINE, **changes), HOST, planner.installed_backends(HOST))  # type: ignore[arg-type]


def test_throughput_and_cost_are_asked_offline_and_latency_one_at_a_time() -> None:
    assert [SearchSpec(objective=one).scenario for one in ("throughput_per_s", "cost_usd_per_million_inferences")] == [Scenario.OFFLINE] * 2
    for objective in ("latency_p50_ms", "model_size_bytes", "memory_peak_host_bytes"):
        assert SearchSpec(objective=objective).scenario is Scenario.SINGLE_STREAM
    assert not SearchSpec(objective="throughput_per_s", scenario=Scenario.SINGLE_STREAM).is_offline
    with pytest.raises(InputError) as refusal:
        SearchSpec(scenario=Scenario.OFFLINE)
    assert refusal.value.code == "scenario.objective"


def test_one_request_at_a_time_is_offered_neither_streams_nor_batches(encoder: ModelCard, classifier: ModelCard) -> None:
    single = replace(OFFLINE, scenario=Scenario.SINGLE_STREAM)
    for card in (encoder, classifier):
        for found in (plan_for(card), planner.plan(card, single, HOST, planner.installed_backends(HOST))):
            offered = [one.recipe.settings for one in (*found.candidates, *found.tune(found.candidates[0]))]
            assert {(one.streams, one.batch) for one in offered} == {(1, 1)}


def test_offline_every_form_starts_with_a_stream_per_core_and_one_changes_nothing_else(classifier: ModelCard) -> None:
    found = offline_plan(classifier)
    assert found.reference.settings.streams == found.reference.settings.batch == 1
    assert all(one.recipe.settings.streams == HOST.cores for one in found.candidates if one.recipe.passes)
    alone = [one.recipe for one in found.candidates[:4] if one.recipe.backend == "onnxruntime" and not one.recipe.passes]
    assert (alone[0].settings.threads, alone[0].settings.streams) == (HOST.cores, HOST.cores)


def test_offline_settings_vary_streams_and_batch_where_the_batch_is_free(classifier: ModelCard) -> None:
    tuned = [one.recipe.settings for one in offline_plan(classifier).tune(offline_plan(classifier).candidates[0])]
    assert {one.batch for one in tuned} == {1, 4, 16}
    assert {one.streams for one in tuned} == {1, 2, 4}
    assert {one.threads for one in tuned} == {HOST.cores}
    fixed = replace(classifier, inputs=tuple(replace(one, shape=(1, *one.shape[1:])) for one in classifier.inputs))
    assert {one.recipe.settings.batch for one in offline_plan(fixed).tune(offline_plan(fixed).candidates[0])} == {1}
    capped = offline_plan(classifier, max_threads=2)
    assert {one.recipe.settings.streams for one in (*capped.candidates, *capped.tune(capped.candidates[0]))} == {1, 2}


def test_offline_no_chain_fixes_a_batch_that_is_free(classifier: ModelCard) -> None:
    assert not any(step.name == "shape_specialisation" for one in offline_plan(classifier).candidates for step in one.recipe.passes)
    assert any(step.name == "shape_specialisation" for one in plan_for(classifier).candidates for step in one.recipe.passes)


def test_a_label_tells_streams_and_batch() -> None:
    settings = BackendSettings(threads=4, streams=2, batch=8)
    assert Recipe(backend="openvino", settings=settings).label == "as uploaded · openvino · 4 threads · 2 streams · batch 8"


def test_starts_are_cached_only_where_they_count(classifier: ModelCard) -> None:
    plain = plan_for(classifier)
    assert not any(one.recipe.settings.cached for one in (*plain.candidates, *plain.tune(plain.candidates[0])))
    limited = plan_for(classifier, targets=(KpiTarget(kpi="cold_start_ms", value=0.8, relative=True),))
    assert all(one.recipe.settings.cached for one in (*limited.candidates, *limited.tune(limited.candidates[0])))
    wanted = plan_for(classifier, objective="cold_start_ms").candidates
    assert {one.recipe.settings.cached for one in wanted} == {True, False}
    assert wanted[0].recipe.settings.cached


def test_traffic_of_several_shapes_keeps_shapes_open_and_tries_a_session_for_each(encoder: ModelCard) -> None:
    traffic = tuple(TrafficShare(bindings={"sequence_length": size}) for size in (16, 128))
    found = plan_for(encoder, MATRIX, traffic=traffic, budget=Budget(preset="standard"))
    steps = {step.name for one in found.candidates for step in one.recipe.passes}
    assert steps
    assert not steps & {"shape_specialisation", "partial_bf16", "openvino_int8", "openvino_weight_only"}
    assert {one.recipe.settings.bucketed for one in found.candidates if one.recipe.backend == "openvino"} == {True, False}
    assert not any(one.recipe.settings.bucketed for one in found.candidates if one.recipe.backend == "onnxruntime")
    assert any("fixes the input shapes" in one.reason for one in found.not_tried)


def test_traffic_that_cannot_be_measured_is_refused_before_the_start(encoder: ModelCard) -> None:
    traffic = tuple(TrafficShare(bindings={"batch_size": size}) for size in (1, 8))
    with pytest.raises(InputError) as refusal:
        planner.estimate(encoder, SearchSpec(traffic=traffic), HOST)
    assert refusal.value.code == "traffic.batch"


def test_the_original_itself_is_never_cached(classifier: ModelCard) -> None:
    assert not plan_for(classifier, objective="cold_start_ms").reference.settings.cached


def test_a_gate_looks_at_fewer_examples_where_inference_is_slow(classifier: ModelCard) -> None:
    counts = [gate_examples(replace(classifier, flops=flops), HOST) for flops in (10**6, 3 * 10**9, 10**12)]
    assert counts[0] == 200 > counts[1] >= counts[2] == 64
