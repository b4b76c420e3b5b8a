"""The ``export`` and ``replay`` commands: a result becomes a bundle, a bundle is measured again on this machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from optimizer.cli_compare import Answer
from optimizer.cli_progress import Progress
from optimizer.cli_workbench import Opened, Workbench
from optimizer.codec import to_jsonable
from optimizer.errors import EngineError, InputError
from optimizer.export import BundleContent, write_bundle
from optimizer.export.agreement import OutputAgreement, compare_samples
from optimizer.export.packages import VersionGap, version_gaps
from optimizer.export.reading import Bundle, open_bundle
from optimizer.export.replay import Conclusion, Replay, ReplayVerdict, conclude, departures, latency_effect, telling
from optimizer.export.samples import Artifact, make_samples, run_artifact
from optimizer.export.trial import recorded
from optimizer.measure.environment import environment_fingerprint
from optimizer.measure.fidelity_outputs import FILE_NAME, StoredOutputs
from optimizer.measure.inputs import InputSet, split
from optimizer.measure.traffic import buckets_of
from optimizer.pipeline import Build, Subject, limits_for
from optimizer.pipeline.builds import digest_folder
from optimizer.result_folder import ResultFolder
from optimizer.sandbox import Level
from optimizer.score.change import change_of
from optimizer.score.wording import format_change
from optimizer.search.appraise import start_measurements
from optimizer.search.arms import value
from optimizer.search.driver import CHILD_WALL_S
from optimizer.search.duel import measure_starts
from optimizer.specs import ArtifactRef, Budget, InputSource, Json, Measurement, SearchSpec

EXIT_OF = {ReplayVerdict.REPRODUCED: 0, ReplayVerdict.NOT_REPRODUCED: 1, ReplayVerdict.UNDECIDED: 2}
P50 = "latency_p50_ms"
WELCH = "welch_t_on_log_starts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """A bundle (zip or folder) and how to measure it; ``seconds`` None takes the block length of the record."""

    path: Path
    starts: int = 10
    seconds: float | None = None
    seed: int = 1
    level: Level | None = None
    quiet: bool = False


def export(result: ResultFolder, target: Path, *, level: Level | None, folder: Path) -> ArtifactRef:
    """Write the chosen model of a result folder as a bundle. Raises InputError ``out.exists``."""
    if target.exists():
        raise InputError("out.exists", f"{str(target)!r} exists; choose another name with --out.")
    outcome, chosen, inputs = result.outcome, result.chosen, result.inputs
    artifact = Artifact(folder=chosen.folder, entry=chosen.entry, recipe=chosen.recipe)
    with Workbench(folder=folder, level=level) as workbench:
        samples = make_samples(
            artifact,
            inputs=inputs,
            indices=split(inputs, sealed_at_most=0).search or (0,),
            sandbox=workbench.sandbox,
            root=folder / "samples",
            limits=limits_for(workbench.hardware(), wall_s=CHILD_WALL_S),
        )
    content = BundleContent(
        model_dir=chosen.folder,
        entry=chosen.entry,
        recipe=chosen.recipe,
        samples=samples,
        shapes=inputs.shapes,
        traffic=buckets_of(chosen.card, result.spec),
        summary={"scorecard": to_jsonable(result.scorecard), "decision": outcome.decision.value, "reason": outcome.reason},
        runtimes=result.runtimes,
        recorded=recorded(chosen.trial, reports=result.reports(), spec=result.spec, root=result.root),
    )
    return write_bundle(content, target)


def replay(request: ReplayRequest, console: Console, *, folder: Path) -> Answer:
    """Run the bundle's samples and measure its latency in fresh starts; exit 0 reproduced, 1 not reproduced, 2 undecided."""
    bundle = open_bundle(request.path, folder=folder / "bundle")
    progress = Progress(console=console, quiet=request.quiet)
    with Workbench(folder=folder, level=request.level) as workbench, progress:
        opened = workbench.open_folder(bundle.model_folder, name="model")
        subject = _subject(bundle, opened, request, workbench)
        progress.phase("optimise", done=0, total=1, detail="compare the outputs")
        outputs = None if opened.card.random else _outputs(bundle, opened, subject=subject, workbench=workbench)
        here = environment_fingerprint(subject.hardware, workbench.sandbox.level)

        def told(done: int, total: int) -> None:
            progress.phase("baseline", done=done, total=total, detail=f"fresh start {done + 1}")

        block_s = request.seconds or bundle.recorded.block_s
        spec = SearchSpec(budget=replace(Budget(), block_s=block_s), seed=request.seed)
        arms = measure_starts(
            (_build(opened), bundle.described.recipe),
            subject=subject,
            spec=spec,
            sandbox=workbench.sandbox,
            starts=request.starts,
            told=told,
        )
    here_ms = tuple(value(arm, P50) for arm in arms)
    found = Replay(
        recipe=bundle.described.recipe,
        gaps=version_gaps(bundle.requirements),
        departures=departures(bundle.recorded, here),
        outputs=outputs,
        recorded_ms=bundle.recorded.start_latencies_p50_ms,
        here_ms=here_ms,
        latency=latency_effect(bundle.recorded, here_ms),
    )
    return _answer(found, start_measurements(arms), margin=bundle.recorded.margin)


def _subject(bundle: Bundle, opened: Opened, request: ReplayRequest, workbench: Workbench) -> Subject:
    hardware = workbench.hardware()
    described = bundle.described
    samples = InputSet(folder=bundle.samples_folder, source=InputSource.REAL, n=described.samples, digest="", shapes=dict(described.shapes))
    return Subject(
        model_dir=opened.folder,
        entry=opened.entry,
        card=opened.card,
        hardware=hardware,
        inputs=samples,
        timing=samples,
        buckets=described.traffic,
        workspace=workbench.folder,
        seed=request.seed,
        limits=limits_for(hardware, wall_s=CHILD_WALL_S),
    )


def _build(opened: Opened) -> Build:
    sha256, size_bytes = digest_folder(opened.folder)
    return Build(key=sha256, folder=opened.folder, entry=opened.entry, card=opened.card, sha256=sha256, size_bytes=size_bytes)


def _outputs(bundle: Bundle, opened: Opened, *, subject: Subject, workbench: Workbench) -> tuple[OutputAgreement, ...]:
    artifact = Artifact(folder=opened.folder, entry=opened.entry, recipe=bundle.described.recipe)
    outcome = run_artifact(artifact, inputs=subject.timing, sandbox=workbench.sandbox, limits=subject.limits)
    found = StoredOutputs(outcome.out_dir / FILE_NAME)
    expected = _expected(bundle)
    names = [tensor.name for tensor in bundle.described.outputs]
    try:
        return compare_samples(names, expected[:], found[:])
    except EngineError as error:
        raise InputError("bundle.damaged", f"The bundle's expected outputs cannot be read: {error.message}") from error
    finally:
        expected.close()
        found.close()
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)


def _expected(bundle: Bundle) -> StoredOutputs:
    try:
        return StoredOutputs(bundle.samples_folder / FILE_NAME)
    except EngineError as error:
        raise InputError("bundle.damaged", f"The bundle's expected outputs cannot be read: {error.message}") from error


def _answer(found: Replay, measured: tuple[Measurement, ...], *, margin: float) -> Answer:
    conclusion = conclude(found)
    sentences = (found.recipe.label, _versions(found.gaps), _environment(found), *_agreements(found), *_latency(found, margin))
    verdict = f"{conclusion.verdict.value.replace('_', ' ').capitalize()}: {conclusion.reason}."
    return Answer(
        measurements=measured,
        sentences=(*sentences, verdict),
        data=_data(found, conclusion, measured),
        exit_code=EXIT_OF[conclusion.verdict],
    )


def _data(found: Replay, conclusion: Conclusion, measured: tuple[Measurement, ...]) -> dict[str, Json]:
    latency = found.latency
    speedup = None if latency is None else replace(latency.measurement(confidence=1 - latency.error), method=WELCH)
    return {
        "verdict": conclusion.verdict.value,
        "reason": conclusion.reason,
        "recipe": to_jsonable(found.recipe),
        "versions": [to_jsonable(gap) for gap in found.gaps],
        "environment_differs_in": list(found.departures),
        "outputs": None if found.outputs is None else [to_jsonable(one) for one in found.outputs],
        "agreement": None if found.agreement is None else found.agreement.value,
        "speedup": None if speedup is None else to_jsonable(speedup),
        "effect": None if latency is None else latency.effect.value,
        "recorded_starts_p50_ms": list(found.recorded_ms),
        "starts_p50_ms": list(found.here_ms),
        "measurements": [to_jsonable(one) for one in measured],
    }


def _versions(gaps: tuple[VersionGap, ...]) -> str:
    if not gaps:
        return "Packages: as required"
    told = ", ".join(f"{gap.package} {gap.found or 'missing'} instead of {gap.wanted}" for gap in gaps)
    return f"Packages: {told}. Install the bundle's requirements.txt to rule this out"


def _environment(found: Replay) -> str:
    if not found.departures:
        return "Environment: as recorded, or not recorded"
    where = "the same hardware" if found.same_hardware else "other hardware: the recorded latency answers another question than this one"
    return f"Environment: {where}; differs in {', '.join(telling(found.departures))}"


def _agreements(found: Replay) -> list[str]:
    if found.outputs is None:
        return ["Outputs: not compared, the model draws random numbers"]
    return [f"Output {one.name}: {one.agreement.value}{_numbers(one)}" for one in found.outputs]


def _numbers(one: OutputAgreement) -> str:
    if one.cosine is None or one.error_of_scale is None:
        return ""
    return f" (cosine {one.cosine:.6f}, largest error {one.error_of_scale:.2g} of the output's scale)"


def _latency(found: Replay, margin: float) -> list[str]:
    if found.latency is None:
        return []
    change = format_change(change_of(P50, found.latency.measurement(confidence=0.95), margin=margin), margin)
    return [f"Median latency against the recorded one: {change}"]
