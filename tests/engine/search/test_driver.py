"""The driver on a sandbox without processes: reports, cache, resume, failures, cancel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import EngineFault, InputError
from optimizer.formats import inspect_model, prepare_model
from optimizer.measure.input_files import read_digests
from optimizer.measure.inputs import prepare_inputs
from optimizer.measure.records import read_samples
from optimizer.sandbox import ChildFailure, ChildJob
from optimizer.score.catalog import price_for
from optimizer.score.scorecard import build_scorecard
from optimizer.search.arms import percentile_calls
from optimizer.search.driver import BUILD_SHARE, CHILD_WALL_S, held_at_most, run_search
from optimizer.search.problem import Cancelled, SearchProblem
from optimizer.specs import Budget, Decision, InputSource, KpiTarget, SearchSpec, Stage, StageReport, StageStatus, Verdict
from optimizer.units import GIB, MIB
from tests.engine.search.fake_sandbox import CRASH, STRAY, FakeSandbox, QuietHost, form
from tests.engine.search.test_planner import HOST
from tests.samples import mlp

BUDGET = Budget(total_s=600.0, block_s=0.01)


class Recorder:
    """An observer that keeps everything; cancels after ``cancel_after`` reports."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.reports: list[StageReport] = []
        self.phases: list[str] = []
        self.lines: list[str] = []
        self.details: list[str] = []
        self.cancel_after = cancel_after

    def phase(self, name: str, *, done: int, total: int, detail: str) -> None:
        assert 0 <= done <= total or name == "baseline", (name, done, total)
        self.phases.append(name)
        self.details.append(detail)

    def report(self, report: StageReport) -> None:
        self.reports.append(report)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def cancelled(self) -> bool:
        return self.cancel_after is not None and len(self.reports) >= self.cancel_after

    def stages(self, trial: int) -> list[Stage]:
        return [report.stage for report in self.reports if report.trial == trial]


@pytest.fixture
def problem(tmp_path: Path) -> SearchProblem:
    upload = mlp(tmp_path / "upload.onnx", batch="batch", width=16)
    entry = prepare_model(upload, tmp_path / "model")
    card = inspect_model(entry)
    dataset = tmp_path / "data.npz"
    np.savez(dataset, x=np.random.default_rng(0).normal(size=(1000, 16)).astype(np.float32))
    spec = SearchSpec(budget=BUDGET, backends=("openvino",), passes=("shape_specialisation", "simplify"))
    inputs = prepare_inputs(card, spec=spec, dataset=dataset, folder=tmp_path / "inputs")
    return SearchProblem(
        model_dir=entry.parent, entry=entry.name, card=card, spec=spec, hardware=HOST, inputs=inputs, workspace=tmp_path / "work"
    )


def fake(tmp_path: Path, **settings: object) -> FakeSandbox:
    return FakeSandbox(root=tmp_path / "children", **settings)  # type: ignore[arg-type]


def test_a_held_process_may_live_as_long_as_the_search(problem: SearchProblem, tmp_path: Path) -> None:
    children = fake(tmp_path, speedups={"openvino f32": 2.0})
    run_search(problem, sandbox=children, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    lives = {job.limits.wall_s for job in children.entries("hold")}
    assert lives == {BUDGET.total_s}
    assert {job.limits.wall_s for job in children.entries("stream")} == {max(CHILD_WALL_S, BUILD_SHARE * BUDGET.total_s)}
    assert children.ready_s == {max(CHILD_WALL_S, BUILD_SHARE * BUDGET.total_s)}


def test_starts_are_told_how_many_calls_the_percentiles_need(problem: SearchProblem, tmp_path: Path) -> None:
    targets = (KpiTarget(kpi="latency_p90_ms", value=0.9, relative=True),)
    asked = replace(problem, spec=replace(problem.spec, targets=targets))
    children = fake(tmp_path)
    run_search(asked, sandbox=children, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert {job.params["percentile_calls"] for job in children.entries("stream")} == {percentile_calls(asked.spec)} != {0}


def test_a_search_ends_with_a_winner_and_a_scorecard_that_names_it(problem: SearchProblem, tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = run_search(problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}), observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    assert outcome.decision is Decision.WINNER
    assert outcome.winner is not None
    assert outcome.sealed_examples >= 381
    assert outcome.input_source is InputSource.REAL
    assert outcome.picks["fastest"] in {duel.trial for duel in outcome.duels}
    card = build_scorecard(reports=recorder.reports, outcome=outcome, spec=problem.spec, price=price_for(HOST))
    assert card.trial == outcome.winner
    assert "lower p50 latency" in card.finding
    first = outcome.first_proven
    assert first is not None
    assert first.trial in {duel.trial for duel in outcome.duels}
    assert 1 <= first.forms < outcome.trials
    assert 0 < first.seconds < outcome.elapsed_s
    assert f"Trial {first.trial} meets all targets and was found first" in card.search


def test_the_winner_and_the_original_have_every_stage_reported_once(problem: SearchProblem, tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = run_search(problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}), observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    assert recorder.stages(0) == [Stage.BUILD, Stage.GATE, Stage.RACE, Stage.CONFIRM]
    assert recorder.stages(outcome.winner or 0) == [Stage.BUILD, Stage.GATE, Stage.SCREEN, Stage.RACE, Stage.CONFIRM]
    seen = [(report.trial, report.stage) for report in recorder.reports]
    assert len(seen) == len(set(seen))
    assert all(report.environment["sandbox_level"] == "C" for report in recorder.reports)


def test_raw_samples_of_every_race_block_are_kept_and_referenced(problem: SearchProblem, tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = run_search(problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}), observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    race = next(report for report in recorder.reports if report.trial == outcome.winner and report.stage is Stage.RACE)
    (samples,) = race.artifacts
    starts = read_samples(Path(samples.path))
    assert len(starts) == outcome.duels[0].blocks
    latency = next(one for one in race.measurements if one.kpi == "latency_p50_ms")
    assert latency.samples_sha256 == samples.sha256
    assert latency.n == sum(len(start.issued_ns) for start in starts)


def test_screening_never_reaches_the_scorecard_as_a_measurement(problem: SearchProblem, tmp_path: Path) -> None:
    recorder = Recorder()
    run_search(problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}), observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    screened = [one for report in recorder.reports if report.stage is Stage.SCREEN for one in report.measurements]
    assert screened
    assert all(one.provenance.is_estimate for one in screened)


def test_no_child_of_the_search_sees_the_sealed_examples_before_its_check(problem: SearchProblem, tmp_path: Path) -> None:
    sandbox = fake(tmp_path, speedups={"openvino f32": 2.0})
    run_search(problem, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    folders = {job.binds["inputs"] for job in sandbox.jobs if "inputs" in job.binds}
    sizes = {folder: len(np.load(folder / "inputs.npz")["x"]) for folder in folders}
    assert problem.inputs.folder not in folders
    assert sorted(sizes.values()) == [32, 200, 500]


@pytest.fixture
def trained_problem(tmp_path: Path, problem: SearchProblem) -> SearchProblem:
    """With 1,600 examples, PyTorch and one pass that trains."""
    dataset = tmp_path / "more.npz"
    np.savez(dataset, x=np.random.default_rng(1).normal(size=(1600, 16)).astype(np.float32))
    spec = replace(problem.spec, passes=("distillation",))
    inputs = prepare_inputs(problem.card, spec=spec, dataset=dataset, folder=tmp_path / "more")
    return replace(problem, spec=spec, inputs=inputs, hardware=replace(HOST, runtimes={**HOST.runtimes, "torch": "2.13.0"}))


def test_what_trains_a_model_never_gates_or_judges_it(trained_problem: SearchProblem, tmp_path: Path) -> None:
    sandbox = fake(tmp_path, speedups={"openvino f32": 2.0})
    run_search(trained_problem, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    trained = {one for job in sandbox.jobs if "training" in job.binds for one in read_digests(job.binds["training"])}
    others = {
        one for job in sandbox.jobs for name in ("inputs", "calibration") if name in job.binds for one in read_digests(job.binds[name])
    }
    assert len(trained) == (1600 - 60 - 200) // 2
    assert len(others) >= 500
    assert not trained & others
    assert trained | others <= set(read_digests(trained_problem.inputs.folder))


def test_a_build_that_trains_tells_how_far_it_is(trained_problem: SearchProblem, tmp_path: Path) -> None:
    recorder = Recorder()
    sandbox = fake(tmp_path, speedups={"openvino f32": 2.0}, says="training 3 of 9 steps\x1b[2J")
    run_search(trained_problem, sandbox=sandbox, observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    told = [detail for detail in recorder.details if "training 3 of 9 steps" in detail]
    assert told
    assert all(detail.startswith("build trial ") and detail.isprintable() for detail in told)


def test_without_a_pass_that_trains_all_examples_may_judge(problem: SearchProblem, trained_problem: SearchProblem, tmp_path: Path) -> None:
    plain = replace(trained_problem, spec=replace(problem.spec, budget=replace(BUDGET, accuracy_examples=20_000)))
    sandbox = fake(tmp_path, speedups={"openvino f32": 2.0})
    outcome = run_search(plain, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert outcome.sealed_examples == 1600 - 60 - 200
    assert not any("training" in job.binds for job in sandbox.jobs)


def test_a_form_that_changes_the_outputs_is_refused_and_said(problem: SearchProblem, tmp_path: Path) -> None:
    recorder = Recorder()
    sandbox = fake(tmp_path, speedups={"openvino f32": 3.0}, noise={"openvino f32": 5.0})
    outcome = run_search(problem, sandbox=sandbox, observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    assert outcome.decision is not Decision.WINNER
    refused = [report for report in recorder.reports if report.stage is Stage.GATE and report.verdict is Verdict.FAIL]
    assert refused
    assert all(report.status is StageStatus.OK for report in refused)


def test_a_failed_build_is_reported_with_its_code_and_the_search_goes_on(problem: SearchProblem, tmp_path: Path) -> None:
    def fail(job: ChildJob) -> ChildFailure | None:
        return ChildFailure(code="pass.failed", detail="no") if job.entry.endswith("apply_recipe") else None

    recorder = Recorder()
    outcome = run_search(problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}, fail=fail), observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    assert outcome.decision is Decision.WINNER
    failed = [report for report in recorder.reports if report.failure]
    assert {report.failure.code for report in failed if report.failure} == {"pass.failed"}


def test_a_model_that_does_not_run_at_all_is_an_error_of_the_input(problem: SearchProblem, tmp_path: Path) -> None:
    refuse = ChildFailure(code="backend.unsupported", detail="ONNX Runtime has no kernel for Foo.")
    sandbox = fake(tmp_path, fail=lambda job: refuse if job.entry.endswith("outputs") else None)
    with pytest.raises(InputError) as refused:
        run_search(problem, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert refused.value.code == "backend.unsupported"
    assert "Foo" in refused.value.message


def test_a_model_that_crashes_the_runtime_is_a_fault(problem: SearchProblem, tmp_path: Path) -> None:
    sandbox = fake(tmp_path, fail=lambda job: CRASH if job.entry.endswith("outputs") else None)
    with pytest.raises(EngineFault) as failed:
        run_search(problem, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert failed.value.code == "child.crash"


@pytest.mark.parametrize("entry", ["outputs", "stream", "hold"])
def test_one_stray_kill_of_the_original_is_survived(problem: SearchProblem, tmp_path: Path, entry: str) -> None:
    struck: list[str] = []

    def fail(job: ChildJob) -> ChildFailure | None:
        if job.entry.endswith(f":{entry}") and form(job) == "onnxruntime f32" and not struck:
            struck.append(entry)
            return STRAY
        return None

    outcome = run_search(
        problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}, fail=fail), observer=Recorder(), witness=QuietHost()
    )  # type: ignore[arg-type]
    assert struck
    assert outcome.decision is Decision.WINNER


def test_disturbed_blocks_are_repeated_and_counted(problem: SearchProblem, tmp_path: Path) -> None:
    recorder, host = Recorder(), QuietHost(invalid={0, 3})
    outcome = run_search(problem, sandbox=fake(tmp_path, speedups={"openvino f32": 2.0}), observer=recorder, witness=host)  # type: ignore[arg-type]
    assert host.blocks == outcome.duels[0].blocks + 2
    race = next(report for report in recorder.reports if report.stage is Stage.RACE)
    assert race.detail["repeated_blocks"] == 2


def test_a_resumed_search_keeps_indices_builds_and_gates_but_times_again(problem: SearchProblem, tmp_path: Path) -> None:
    first, recorder = fake(tmp_path / "a", speedups={"openvino f32": 2.0}), Recorder()
    before = run_search(problem, sandbox=first, observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    finished = [report for report in recorder.reports if report.stage in (Stage.BUILD, Stage.GATE)]
    second, again = fake(tmp_path / "b", speedups={"openvino f32": 2.0}), Recorder()
    after = run_search(problem, sandbox=second, observer=again, finished=finished, budget_left_s=600, witness=QuietHost())  # type: ignore[arg-type]
    assert second.entries("apply_recipe") == []
    assert len(second.entries("outputs")) <= 1 + len(first.entries("outputs")) - len([r for r in finished if r.stage is Stage.GATE])
    assert len(second.entries("stream")) == len(first.entries("stream"))
    indices = {report.recipe.key: report.trial for report in recorder.reports}
    for report in again.reports:
        assert indices.get(report.recipe.key, report.trial) == report.trial
    assert after.decision is before.decision is Decision.WINNER
    told = {(report.trial, report.stage) for report in again.reports}
    assert told.isdisjoint({(report.trial, report.stage) for report in finished})


def test_a_cancelled_search_stops_and_keeps_what_was_reported(problem: SearchProblem, tmp_path: Path) -> None:
    recorder, sandbox = Recorder(cancel_after=5), fake(tmp_path)
    with pytest.raises(Cancelled):
        run_search(problem, sandbox=sandbox, observer=recorder, witness=QuietHost())  # type: ignore[arg-type]
    assert len(recorder.reports) == 5
    assert sandbox.open_sessions == 0


def test_nothing_is_left_open_and_no_scratch_is_left_behind(problem: SearchProblem, tmp_path: Path) -> None:
    sandbox = fake(tmp_path, speedups={"openvino f32": 2.0})
    run_search(problem, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert sandbox.open_sessions == 0
    assert list((tmp_path / "children").iterdir()) == []


def test_a_budget_too_small_is_refused_before_anything_runs(problem: SearchProblem, tmp_path: Path) -> None:
    sandbox = fake(tmp_path)
    small = replace(problem, spec=replace(problem.spec, budget=Budget(total_s=1.0)))
    with pytest.raises(InputError) as refused:
        run_search(small, sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert refused.value.code == "budget.too_small"
    assert sandbox.jobs == []


@pytest.mark.parametrize(("speedup", "wins"), [(2.0, True), (1.1, False)])
def test_targets_decide_on_the_race_itself(problem: SearchProblem, tmp_path: Path, speedup: float, wins: bool) -> None:
    spec = replace(problem.spec, targets=(KpiTarget(kpi="latency_p50_ms", value=0.7, relative=True),))
    sandbox = fake(tmp_path, speedups={"openvino f32": speedup})
    outcome = run_search(replace(problem, spec=spec), sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert (outcome.decision is Decision.WINNER) is wins


def test_on_synthetic_inputs_a_lossy_form_stays_unproven(problem: SearchProblem, tmp_path: Path) -> None:
    inputs = prepare_inputs(problem.card, spec=problem.spec, dataset=None, folder=tmp_path / "made")
    assert inputs.source is InputSource.SYNTHETIC
    sandbox = fake(tmp_path, speedups={"openvino f32": 3.0}, noise={"openvino f32": 1e-3})
    outcome = run_search(replace(problem, inputs=inputs), sandbox=sandbox, observer=Recorder(), witness=QuietHost())  # type: ignore[arg-type]
    assert outcome.decision is Decision.INCONCLUSIVE
    assert "500 real inputs" in outcome.reason


@pytest.mark.parametrize(("available", "held"), [(0, 2), (2 * GIB, 2), (16 * GIB, 6)])
def test_memory_bounds_how_many_are_held_open(available: int, held: int) -> None:
    assert held_at_most(60 * MIB, available) == held
