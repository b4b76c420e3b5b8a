"""The ``bench`` and ``compare`` commands: one form as it is, or two side by side, on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from optimizer.cli_progress import Progress
from optimizer.cli_render import render_measurements
from optimizer.cli_workbench import Opened, Workbench
from optimizer.codec import to_jsonable
from optimizer.errors import EngineError, InputError
from optimizer.measure.fidelity import FidelityResult
from optimizer.measure.inputs import InputSet, split
from optimizer.measure.verdict import judge
from optimizer.pipeline import Build, StepFailed, Subject, Verifier, limits_for, portion
from optimizer.pipeline.builds import digest_folder
from optimizer.result_folder import ResultFolder, is_result_folder
from optimizer.sandbox import Level
from optimizer.score.change import change_of
from optimizer.score.wording import format_change, title_of
from optimizer.search.appraise import size_measurement, start_measurements
from optimizer.search.candidates import reference_of
from optimizer.search.driver import CHILD_WALL_S, TIMING_EXAMPLES
from optimizer.search.duel import DuelResult, measure_starts, run_duel
from optimizer.search.race import CLEAR_LEAD
from optimizer.specs import Json, KpiTarget, Measurement, Recipe, SearchSpec, Verdict

COMPARED_EXAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """One or two models or result folders, and how to measure them."""

    paths: tuple[Path, ...]
    spec: SearchSpec
    dataset: Path | None = None
    bindings: tuple[str, ...] = ()
    starts: int = 5
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe
    level: Level | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Something that can be opened and timed, with the inputs it came with."""

    opened: Opened
    build: Build
    recipe: Recipe
    inputs: InputSet | None = None

    @property
    def pair(self) -> tuple[Build, Recipe]:
        return self.build, self.recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command found: for the terminal, for ``--json``, and the exit code."""

    measurements: tuple[Measurement, ...]
    sentences: tuple[str, ...]
    data: dict[str, Json]
    exit_code: int

    def render(self, console: Console) -> None:
        render_measurements(self.measurements, console)
        for sentence in self.sentences:
            console.print(Text(f"  {sentence}"))


def bench(request: CompareRequest, console: Console, *, folder: Path) -> Answer:
    """Measure one form as it is, in fresh starts; exit 1 for a proven Fail of a target, 2 for an open one."""
    progress = Progress(console=console, quiet=request.quiet)
    with Workbench(folder=folder, level=request.level) as workbench, progress:
        form = _form(request.paths[0], request, workbench, name="model")
        subject = _subject(form, request, workbench)
        form = replace(form, recipe=request.recipe(form.recipe))

        def told(done: int, total: int) -> None:
            progress.phase("baseline", done=done, total=total, detail=f"fresh start {done + 1}")

        arms = measure_starts(form.pair, subject=subject, spec=request.spec, sandbox=workbench.sandbox, starts=request.starts, told=told)
    measured = (*start_measurements(arms), size_measurement(form.build.size_bytes))
    judged = [(target, judge(target, _of(target, measured))) for target in request.spec.targets]
    sentences = [f"{form.recipe.label}; inputs: {subject.inputs.source.value}"]
    sentences += [f"{title_of(target.kpi)}: {verdict.verdict.value}. {verdict.reason}" for target, verdict in judged]
    data = {"recipe": to_jsonable(form.recipe), "measurements": [to_jsonable(one) for one in measured]}
    return Answer(measurements=measured, sentences=tuple(sentences), data=data, exit_code=_exit([one.verdict for _, one in judged]))


def compare(request: CompareRequest, console: Console, *, folder: Path) -> Answer:
    """Race the second form against the first and compare their outputs; exit 2 when the race is not decided."""
    progress = Progress(console=console, quiet=request.quiet, budget_s=request.spec.budget.total_s)
    with Workbench(folder=folder, level=request.level) as workbench, progress:
        first, second = (_form(path, request, workbench, name=f"model-{number}") for number, path in enumerate(request.paths))
        subject = _subject(first, request, workbench)
        progress.phase("optimise", done=0, total=1, detail="compare the outputs")
        fidelity = _fidelity(first, second, subject=subject, workbench=workbench, spec=request.spec)

        def told(done: int, total: int) -> None:
            progress.phase("confirm", done=done, total=total, detail=f"race block {done + 1}")

        result = run_duel(first.pair, second.pair, subject=subject, spec=request.spec, sandbox=workbench.sandbox, told=told)
    return _compared(first, second, result, fidelity, request.spec)


def _compared(first: Form, second: Form, result: DuelResult, fidelity: FidelityResult | str, spec: SearchSpec) -> Answer:
    duels = result.appraisal.duels
    sentences = [f"A: {first.recipe.label}", f"B: {second.recipe.label}"]
    for duel in duels:
        change = format_change(change_of(duel.kpi, duel.speedup, margin=spec.margin), spec.margin)
        sentences.append(f"B against A, {title_of(duel.kpi)}: {change}")
    sentences.append(fidelity if isinstance(fidelity, str) else fidelity.reason)
    standoff = result.appraisal.standoff
    decided = standoff is not None and standoff.decided
    if not decided:
        sentences.append(f"Not decided after {len(result.race.blocks)} blocks ({result.race.end}); allow more time or a quieter machine.")
    if result.race.disturbed:
        sentences.append(
            f"The host was never quiet: {result.race.disturbed} of {len(result.race.blocks)} blocks were disturbed, all count, "
            f"and only a lead of over {CLEAR_LEAD - 1:.0%} is taken as decided."
        )
    data = {
        "a": to_jsonable(first.recipe),
        "b": to_jsonable(second.recipe),
        "duels": [to_jsonable(one) for one in duels],
        "blocks": len(result.race.blocks),
        "repeated_blocks": len(result.race.invalid),
        "disturbed_blocks": result.race.disturbed,
        "outputs": fidelity if isinstance(fidelity, str) else {"verdict": fidelity.verdict.value, "reason": fidelity.reason},
    }
    return Answer(measurements=result.appraisal.measurements, sentences=tuple(sentences), data=data, exit_code=0 if decided else 2)


def _fidelity(first: Form, second: Form, *, subject: Subject, workbench: Workbench, spec: SearchSpec) -> FidelityResult | str:
    """How the second form's outputs compare with the first's, or why they cannot be compared."""
    count = min(COMPARED_EXAMPLES, subject.inputs.n)
    examples = portion(subject.inputs, tuple(range(count)), root=subject.workspace / "inputs")
    verifier = Verifier(subject=subject, sandbox=workbench.sandbox, baseline=first.pair, task=spec.task or first.opened.card.task)
    try:
        return verifier.compare(second.build, second.recipe, examples=examples, accuracy_invariant=False)
    except StepFailed as failed:
        raise _unusable(failed) from failed
    except EngineError as error:
        return f"The outputs could not be compared: {error.message}"


def _unusable(failed: StepFailed) -> EngineError:
    return InputError(failed.code, failed.message) if failed.code.split(".")[0] in ("input", "backend", "baseline") else failed


def _form(path: Path, request: CompareRequest, workbench: Workbench, *, name: str) -> Form:
    if is_result_folder(path):
        return _from_result(ResultFolder(root=path))
    opened = workbench.open_model(path, bindings=request.bindings, name=name)
    return Form(opened=opened, build=_build(opened), recipe=reference_of(opened.card, request.spec, workbench.hardware()))


def _from_result(result: ResultFolder) -> Form:
    chosen = result.chosen
    opened = Opened(folder=chosen.folder, entry=chosen.entry, card=chosen.card)
    return Form(opened=opened, build=_build(opened), recipe=chosen.recipe, inputs=result.inputs)


def _build(opened: Opened) -> Build:
    sha256, size_bytes = digest_folder(opened.folder)
    return Build(key=sha256, folder=opened.folder, entry=opened.entry, card=opened.card, sha256=sha256, size_bytes=size_bytes)


def _subject(form: Form, request: CompareRequest, workbench: Workbench) -> Subject:
    spec = replace(request.spec, bindings=dict(form.opened.card.bindings))
    inputs = form.inputs
    if inputs is None or request.dataset is not None:
        inputs = workbench.inputs(form.opened, spec, dataset=request.dataset)
    indices = split(inputs, sealed_at_most=0).search[:TIMING_EXAMPLES] or (0,)
    hardware = workbench.hardware()
    return Subject(
        model_dir=form.opened.folder,
        entry=form.opened.entry,
        card=form.opened.card,
        hardware=hardware,
        inputs=inputs,
        timing=portion(inputs, indices, root=workbench.folder / "inputs"),
        workspace=workbench.folder,
        seed=spec.seed,
        limits=limits_for(hardware, wall_s=CHILD_WALL_S),
    )


def _of(target: KpiTarget, measured: tuple[Measurement, ...]) -> Measurement | None:
    return next((one for one in measured if one.kpi == target.kpi), None)


def _exit(verdicts: list[Verdict]) -> int:
    if Verdict.FAIL in verdicts:
        return 1
    return 2 if Verdict.UNPROVEN in verdicts else 0
