"""``parka-optimize``: inspect, search, bench, compare, export and replay from a folder, with no database and no server.

Exit codes: 0 decided, 1 a target is missed (a bundle is not reproduced) for certain, 2 inconclusive, 3 infrastructure, 4 usage or bad input.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click
from rich.console import Console

from optimizer import __version__
from optimizer.cli_compare import Answer, CompareRequest, bench, compare
from optimizer.cli_render import output_console, render_card, render_outcome, render_scorecard
from optimizer.cli_replay import ReplayRequest, export, replay
from optimizer.cli_search import EXIT_OF, SearchRequest, search
from optimizer.cli_targets import parse_target
from optimizer.cli_workbench import Workbench
from optimizer.codec import to_jsonable
from optimizer.errors import EngineError, Side
from optimizer.result_folder import ResultFolder
from optimizer.sandbox import Level
from optimizer.specs import Budget, Precision, Recipe, Scenario, SearchSpec, TaskKind
from optimizer.traffic_table import read_traffic

INFRASTRUCTURE, USAGE = 3, 4
F = TypeVar("F", bound=Callable[..., Any])

PRESETS = {
    "quick": Budget(),
    "standard": Budget(preset="standard", total_s=1200.0, looks=(8, 16, 32), finalists=3, accuracy_examples=20_000),
}

sandbox_option = click.option(
    "--sandbox", type=click.Choice([level.value for level in Level]), help="Sandbox level; default: the best this machine offers."
)
bind_option = click.option("--bind", "bindings", multiple=True, metavar="NAME=SIZE", help="Bind an open dimension, such as seq=128.")
inputs_option = click.option(
    "--inputs", "dataset", type=click.Path(path_type=Path), help="Real inputs: an .npz with one array per model input."
)
target_option = click.option(
    "--target", "targets", multiple=True, metavar="KPI<=VALUE", help="A limit, such as 'latency_p50_ms<=0.8x' or 'throughput_per_s>=400'."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead of a table.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress on stderr.")
seed_option = click.option("--seed", default=1, show_default=True, help="Seed of sample order and schedule.")


def progress_console() -> Console:
    """Lines are wrapped only where somebody looks at them."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, soft_wrap=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="parka-optimize")
def cli() -> None:
    """Find a faster form of a neural network on this machine, and prove it."""


@cli.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@bind_option
@json_option
@sandbox_option
def inspect_command(*, model: Path, bindings: tuple[str, ...], as_json: bool, sandbox: str | None) -> int:
    """Show what MODEL is: inputs, outputs, operators, size, work."""
    with tempfile.TemporaryDirectory(prefix="parka-") as folder, Workbench(folder=Path(folder), level=_level(sandbox)) as workbench:
        card = workbench.open_model(model, bindings=bindings).card
    if as_json:
        _print_json(to_jsonable(card))
    else:
        render_card(card, output_console())
    return 0


@cli.command("search")
@click.argument("model", type=click.Path(path_type=Path))
@inputs_option
@target_option
@bind_option
@click.option("--objective", default="latency_p50_ms", show_default=True, help="The KPI to improve.")
@click.option(
    "--traffic",
    type=click.Path(path_type=Path),
    help="A histogram of request shapes: JSON rows of bindings and weight, or CSV with a column per dimension and weight.",
)
@click.option(
    "--scenario",
    type=click.Choice([one.value for one in Scenario]),
    help="The load; default: offline (batches and parallel streams are free) for throughput and cost, else single_stream.",
)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True, help="How much evidence to collect.")
@click.option("--budget", type=float, help="Seconds in all; default: the preset's (quick: 210).")
@click.option("--task", type=click.Choice([kind.value for kind in TaskKind]), help="What the model does, when inspection guesses wrong.")
@click.option("--threads", type=click.IntRange(min=1), help="Use at most this many threads.")
@click.option("--backend", "backends", multiple=True, help="Only these backends (repeatable).")
@click.option("--pass", "passes", multiple=True, help="Only these passes (repeatable).")
@click.option("--out", type=click.Path(path_type=Path), help="Result folder; default: <model>.parka here.")
@seed_option
@json_option
@quiet_option
@sandbox_option
def search_command(
    *,
    model: Path,
    dataset: Path | None,
    targets: tuple[str, ...],
    bindings: tuple[str, ...],
    objective: str,
    scenario: str | None,
    traffic: Path | None,
    preset: str,
    budget: float | None,
    task: str | None,
    threads: int | None,
    backends: tuple[str, ...],
    passes: tuple[str, ...],
    out: Path | None,
    seed: int,
    as_json: bool,
    quiet: bool,
    sandbox: str | None,
) -> int:
    """Search for a faster form of MODEL and race it against the untouched original."""
    chosen = PRESETS[preset]
    spec = SearchSpec(
        targets=tuple(parse_target(text) for text in targets),
        objective=objective,
        scenario=Scenario(scenario) if scenario else None,
        traffic=read_traffic(traffic) if traffic else (),
        budget=chosen if budget is None else replace(chosen, total_s=budget),
        task=TaskKind(task) if task else None,
        seed=seed,
        backends=backends or None,
        passes=passes or None,
        max_threads=threads,
    )
    request = SearchRequest(model=model, spec=spec, dataset=dataset, bindings=bindings, out=out, level=_level(sandbox), quiet=quiet)
    result = search(request, progress_console())
    _show_result(result, as_json=as_json)
    return EXIT_OF[result.outcome.decision]


@cli.command("bench")
@click.argument("model", type=click.Path(path_type=Path))
@inputs_option
@target_option
@bind_option
@click.option("--starts", type=click.IntRange(1, 100), default=10, show_default=True, help="Fresh process starts.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Measured seconds per start.")
@click.option("--backend", help="Run it with this backend instead of its own.")
@click.option("--precision", type=click.Choice([one.value for one in Precision]), help="Precision hint for the backend.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: all that this machine allows.")
@seed_option
@json_option
@quiet_option
@sandbox_option
def bench_command(
    *,
    model: Path,
    dataset: Path | None,
    targets: tuple[str, ...],
    bindings: tuple[str, ...],
    starts: int,
    seconds: float,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    seed: int,
    as_json: bool,
    quiet: bool,
    sandbox: str | None,
) -> int:
    """Measure MODEL (a file or a result folder) as it is, in fresh starts."""

    def adjusted(recipe: Recipe) -> Recipe:
        settings = recipe.settings
        settings = replace(
            settings, threads=threads or settings.threads, precision=Precision(precision) if precision else settings.precision
        )
        return replace(recipe, backend=backend or recipe.backend, settings=settings)

    spec = SearchSpec(targets=tuple(parse_target(text) for text in targets), budget=replace(Budget(), block_s=seconds), seed=seed)
    request = CompareRequest(
        paths=(model,), spec=spec, dataset=dataset, bindings=bindings, starts=starts, recipe=adjusted, level=_level(sandbox), quiet=quiet
    )
    with tempfile.TemporaryDirectory(prefix="parka-") as folder:
        return _answer(bench(request, progress_console(), folder=Path(folder)), as_json=as_json)


@cli.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@inputs_option
@bind_option
@click.option("--objective", default="latency_p50_ms", show_default=True, help="The KPI that decides.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True, help="How many looks.")
@click.option("--budget", type=float, help="Seconds in all; default: the preset's.")
@seed_option
@json_option
@quiet_option
@sandbox_option
def compare_command(
    *,
    first: Path,
    second: Path,
    dataset: Path | None,
    bindings: tuple[str, ...],
    objective: str,
    preset: str,
    budget: float | None,
    seed: int,
    as_json: bool,
    quiet: bool,
    sandbox: str | None,
) -> int:
    """Race SECOND against FIRST on this machine; each is a model file or a result folder."""
    chosen = PRESETS[preset]
    spec = SearchSpec(objective=objective, budget=chosen if budget is None else replace(chosen, total_s=budget), seed=seed)
    request = CompareRequest(paths=(first, second), spec=spec, dataset=dataset, bindings=bindings, level=_level(sandbox), quiet=quiet)
    with tempfile.TemporaryDirectory(prefix="parka-") as folder:
        return _answer(compare(request, progress_console(), folder=Path(folder)), as_json=as_json)


@cli.command("export")
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The zip to write; default: <result>.zip here.")
@json_option
@sandbox_option
def export_command(*, result: Path, out: Path | None, as_json: bool, sandbox: str | None) -> int:
    """Write the chosen model of RESULT (a result folder) as a bundle: with recipe, numbers, samples, lock, servers and configurations."""
    found, target = ResultFolder(root=result), out or Path(f"{result.resolve().name}.zip")
    with tempfile.TemporaryDirectory(prefix="parka-") as folder:
        reference = export(found, target, level=_level(sandbox), folder=Path(folder))
    if as_json:
        _print_json(to_jsonable(reference))
    else:
        output_console().print(f"{target}  {found.chosen.recipe.label}\nsha256 {reference.sha256}", highlight=False, markup=False)
    return 0


@cli.command("replay")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--starts", type=click.IntRange(2, 100), default=10, show_default=True, help="Fresh process starts.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), help="Measured seconds per start; default: as recorded.")
@seed_option
@json_option
@quiet_option
@sandbox_option
def replay_command(*, bundle: Path, starts: int, seconds: float | None, seed: int, as_json: bool, quiet: bool, sandbox: str | None) -> int:
    """Run BUNDLE (a zip or folder of export) here: are its outputs and its median latency reproduced?

    Exit 0 reproduced, 1 not reproduced, 2 undecided.
    """
    request = ReplayRequest(path=bundle, starts=starts, seconds=seconds, seed=seed, level=_level(sandbox), quiet=quiet)
    with tempfile.TemporaryDirectory(prefix="parka-") as folder:
        return _answer(replay(request, progress_console(), folder=Path(folder)), as_json=as_json)


def _show_result(result: ResultFolder, *, as_json: bool) -> None:
    if as_json:
        _print_json(
            {"outcome": to_jsonable(result.outcome), "scorecard": to_jsonable(result.scorecard), "folder": str(result.root.resolve())}
        )
        return
    console = output_console()
    render_scorecard(result.scorecard, console)
    render_outcome(result.outcome, console)
    console.print(f"\n  Result folder: {result.root}", highlight=False, markup=False)


def _answer(answer: Answer, *, as_json: bool) -> int:
    if as_json:
        _print_json(answer.data)
    else:
        answer.render(output_console())
    return answer.exit_code


def _level(name: str | None) -> Level | None:
    return None if name is None else Level(name)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: every end has one of the five exit codes; a refusal is its stable code and a sentence on stderr."""
    raise SystemExit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return int(cli.main(args=arguments, prog_name="parka-optimize", standalone_mode=False) or 0)
    except EngineError as error:
        click.echo(f"{error.code}: {error.message}", err=True)
        return USAGE if error.side is Side.USER and error.code != "run.cancelled" else INFRASTRUCTURE
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("run.cancelled: Cancelled.", err=True)
        return INFRASTRUCTURE
    except Exception as error:  # the edge: whatever broke, a sentence and a code
        click.echo(f"engine.fault: {type(error).__name__}: {error}", err=True)
        return INFRASTRUCTURE


if __name__ == "__main__":
    main()
