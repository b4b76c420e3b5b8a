"""From a finished search to a bundle: the trial's build, its own samples, and what its race recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from optimizer.errors import EngineFault
from optimizer.export.bundle import BundleContent, write_bundle
from optimizer.export.contents import Recorded
from optimizer.export.samples import Artifact, make_samples
from optimizer.measure.inputs import split
from optimizer.measure.records import ROLE, read_samples
from optimizer.measure.traffic import buckets_of
from optimizer.pipeline import BuildCache, limits_for
from optimizer.sandbox import Sandbox
from optimizer.search.actions import Arm
from optimizer.search.arms import value
from optimizer.search.driver import CHILD_WALL_S
from optimizer.search.problem import SearchProblem
from optimizer.specs import ArtifactRef, Budget, Json, SearchSpec, Stage, StageReport, StageStatus


def bundle_trial(
    trial: int,
    *,
    problem: SearchProblem,
    reports: Sequence[StageReport],
    sandbox: Sandbox,
    target: Path,
    summary: Mapping[str, Json] | None = None,
) -> ArtifactRef:
    """Bundle a trial of a search from its build in the workspace; trial 0 and pass-free recipes are the upload.

    Raises EngineFault ``build.lost`` when the build is no longer in the cache, and EngineError when it cannot be run.
    """
    artifact = _artifact(trial, problem=problem, reports=reports)
    samples = make_samples(
        artifact,
        inputs=problem.inputs,
        indices=split(problem.inputs, sealed_at_most=problem.spec.budget.accuracy_examples_most).search or (0,),
        sandbox=sandbox,
        root=problem.workspace / "bundle-samples" / str(trial),
        limits=limits_for(problem.hardware, wall_s=CHILD_WALL_S),
    )
    content = BundleContent(
        model_dir=artifact.folder,
        entry=artifact.entry,
        recipe=artifact.recipe,
        samples=samples,
        shapes=problem.inputs.shapes,
        traffic=buckets_of(problem.card, problem.spec),
        summary=summary or {},
        runtimes=problem.hardware.runtimes,
        recorded=recorded(trial, reports=reports, spec=problem.spec, root=problem.workspace),
    )
    return write_bundle(content, target)


def recorded(trial: int, *, reports: Sequence[StageReport], spec: SearchSpec, root: Path) -> Recorded:
    """Environment and start medians of the trial's race; sample files are found below ``root``. Without a race there are none."""
    raced = next((one for one in reports if one.trial == trial and one.stage is Stage.RACE and one.status is StageStatus.OK), None)
    budget: Budget = spec.budget
    if raced is None:
        return Recorded(block_s=budget.stream_s, margin=spec.margin)
    paths = [root / one.path for one in raced.artifacts if one.role == ROLE]
    medians = [median for path in paths if path.is_file() for median in start_medians_ms(path)]
    return Recorded(environment=dict(raced.environment), start_latencies_p50_ms=tuple(medians), block_s=budget.stream_s, margin=spec.margin)


def start_medians_ms(path: Path) -> list[float]:
    """The median latency of each fresh start of a stored record."""
    arms = [
        Arm(rows_ns=np.column_stack([start.issued_ns, start.completed_ns]), calls_per_sample=start.calls_per_sample, items=start.items)
        for start in read_samples(path)
    ]
    return [value(arm, "latency_p50_ms") for arm in arms]


def _artifact(trial: int, *, problem: SearchProblem, reports: Sequence[StageReport]) -> Artifact:
    build = _build_report(trial, reports)
    if not build.recipe.is_built:
        return Artifact(folder=problem.model_dir, entry=problem.entry, recipe=build.recipe)
    found = BuildCache(problem.workspace / "builds").find(str(build.detail.get("build_key", "")))
    if found is None:
        raise EngineFault("build.lost", f"The build of trial {trial} is no longer in the cache; run the search again.")
    return Artifact(folder=found.folder, entry=found.entry, recipe=build.recipe)


def _build_report(trial: int, reports: Sequence[StageReport]) -> StageReport:
    for report in reports:
        if report.trial == trial and report.stage is Stage.BUILD and report.status is StageStatus.OK:
            return report
    raise EngineFault("build.lost", f"No successful build of trial {trial} was reported.")
