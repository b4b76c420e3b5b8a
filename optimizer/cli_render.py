"""What the terminal shows: the scorecard, the model card, measurements. The same numbers, in the same words, as the pages."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from optimizer import tools
from optimizer.extensions import package_versions
from optimizer.kpis import kpi
from optimizer.score.change import Change
from optimizer.score.rows import ScoreRow, Standing
from optimizer.score.scorecard import Scorecard
from optimizer.score.wording import (
    MISSING,
    format_bytes,
    format_change,
    format_cost,
    format_count,
    format_duration,
    format_measurement,
    format_search,
    format_target,
    latency_unit,
    title_of,
)
from optimizer.search.plan import Estimate
from optimizer.specs import Decision, HardwareProfile, Measurement, ModelCard, NotTried, SearchOutcome, ShapeDuel

MARKS = {
    Standing.PASS: ("✓ Pass", "green"),
    Standing.FAIL: ("✕ Fail", "red"),
    Standing.UNPROVEN: ("? Unproven", "yellow"),
    Standing.ESTIMATED: ("~ Estimated", "dim"),
    Standing.NOT_MEASURED: ("— Not measured", "dim"),
    Standing.UNJUDGED: ("", ""),
}
TITLES = {
    Decision.WINNER: ("✓ A faster form won the race", "bold green"),
    Decision.KEEP_ORIGINAL: ("= Keep the original", "bold cyan"),
    Decision.INCONCLUSIVE: ("? Inconclusive", "bold yellow"),
}


FILE_COLUMNS = 160


def output_console() -> Console:
    """Tables keep their columns when piped into a file."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_COLUMNS)


def render_scorecard(scorecard: Scorecard, console: Console) -> None:
    """Decision, finding, one row per KPI, picks, price and warnings."""
    title, style = TITLES[scorecard.decision]
    console.print()
    console.print(Text(title, style=style), Text(f"   {scorecard.summary}", style="bold"), sep="")
    console.print(Padding(escape(scorecard.finding), (0, 2)))
    console.print()
    console.print(_table(scorecard))
    for line in _footer(scorecard):
        console.print(Padding(Text(line, style="dim"), (0, 2)))
    for warning in scorecard.warnings:
        console.print(Padding(Text(f"! {warning}", style="yellow"), (0, 2)))


def _table(scorecard: Scorecard) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold", pad_edge=True)
    is_original = scorecard.trial == 0
    table.add_column("KPI", no_wrap=True)
    table.add_column("Original" if is_original else f"Trial {scorecard.trial}")
    if not is_original:
        table.add_column("Original", style="dim")
        table.add_column("Change")
    table.add_column("Target")
    table.add_column("Verdict", no_wrap=True)
    unit = _shared_unit(scorecard.rows)
    for row in scorecard.rows:
        table.add_row(*_cells(row, scorecard, unit=unit, is_original=is_original))
    return table


def _cells(row: ScoreRow, scorecard: Scorecard, *, unit: str | None, is_original: bool) -> list[Text]:
    shared = unit if kpi(row.kpi).unit == "ms" and row.kpi.startswith("latency_") else None
    mark, style = MARKS[row.standing]
    default = " (default)" if row.default_target else ""
    cells = [Text(title_of(row.kpi)), Text(format_measurement(row.measurement, shared))]
    if not is_original:
        cells += [Text(format_measurement(row.baseline, shared) if row.baseline else ""), Text(_change(row, scorecard))]
    return [*cells, Text(f"{format_target(row.target, shared)}{default}" if row.target else ""), Text(mark, style=style)]


def _change(row: ScoreRow, scorecard: Scorecard) -> str:
    return "" if row.change is None else format_change(row.change, scorecard.margin)


def _shared_unit(rows: Sequence[ScoreRow]) -> str | None:
    values = [
        one.value
        for row in rows
        if row.kpi.startswith("latency_")
        for one in (row.measurement, row.baseline)
        if one and one.value is not None
    ]
    return latency_unit(values) if values else None


def _footer(scorecard: Scorecard) -> list[str]:
    lines = []
    if scorecard.trial:
        lines.append(f"Trial {scorecard.trial}: {scorecard.label}")
    elif scorecard.nearest is not None:
        lines.append(f"Nearest miss, trial {scorecard.nearest}: {scorecard.nearest_label or 'not raced'}")
    lines.append(f"Original: {scorecard.baseline_label}")
    if scorecard.duel is not None:
        lines.append(f"Race: {scorecard.duel.blocks} blocks of fresh starts, each with the original beside it; intervals are 95%")
    price = scorecard.price
    dated = f", {price.dated}" if price.dated else ""
    lines.append(
        f"Price: {format_cost(price.usd_per_hour, '/h')} ({price.source or price.key}{dated}), paid for at {price.utilization:.0%} utilization"
    )
    if scorecard.picks:
        lines.append("Picks: " + ", ".join(f"{name} → {_trial(trial)}" for name, trial in scorecard.picks.items()))
    lines.append(f"Sandbox level {scorecard.sandbox_level or 'unknown'}; inputs: {scorecard.input_source.value}")
    return lines


def _trial(trial: int) -> str:
    return f"trial {trial}" if trial else "the original"


def render_outcome(outcome: SearchOutcome, console: Console) -> None:
    """Each shape of the traffic, what was tried and what was not, below the scorecard."""
    for shape in outcome.shapes:
        console.print(Padding(Text(_shape_words(shape)), (0, 2)))
    tried = format_search(outcome.trials, outcome.elapsed_s, outcome.first_proven)
    console.print(Padding(Text(tried, style="dim"), (0, 2)))
    for reason, labels in _by_reason(outcome.not_tried).items():
        shown = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")
        console.print(Padding(Text(f"Not tried: {shown}. {reason}", style="dim"), (0, 2)))


def _shape_words(shape: ShapeDuel) -> str:
    """Such as ``sequence=64, 30% of the calls: p50 latency 41% lower [38, 44]``."""
    change = format_change(Change(kpi="latency_p50_ms", ratio=shape.speedup, effect=shape.effect))
    return f"{shape.words}, {shape.share:.0%} of the calls: p50 latency {change}"


def _by_reason(not_tried: Sequence[NotTried]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for one in not_tried:
        grouped.setdefault(one.reason, []).append(one.label)
    return grouped


def render_estimate(estimate: Estimate, console: Console) -> None:
    """The plan's time, before the start: the sum of its parts."""
    parts = ", ".join(f"{name.replace('_', ' ')} {format_duration(seconds)}" for name, seconds in estimate.parts.items())
    console.print(
        f"About {format_duration(estimate.low_s)} to {format_duration(estimate.high_s)} for up to {estimate.trials - 1} candidates "
        f"({parts}); the accuracy check needs {estimate.sealed_needed} sealed examples.",
        style="dim",
    )


def render_card(card: ModelCard, console: Console) -> None:
    """What inspection learned of a model."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in _card_rows(card):
        table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)
    for warning in card.warnings:
        console.print(Padding(Text(f"! {warning}", style="yellow"), (0, 2)))


def _card_rows(card: ModelCard) -> list[tuple[str, str]]:
    operators = sorted(card.operators.items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{name} ×{count}" for name, count in operators[:8])
    return [
        ("Format", card.format + (f", opset {card.opset}" if card.opset else "") + (f", made by {card.producer}" if card.producer else "")),
        ("Task", card.task.value),
        *(("Input", _tensor(one.name, one.dtype, one.shape)) for one in card.inputs),
        *(("Output", _tensor(one.name, one.dtype, one.shape)) for one in card.outputs[:8]),
        ("Bound", ", ".join(f"{name} = {size}" for name, size in card.bindings.items()) or "nothing to bind"),
        ("Parameters", f"{format_count(card.parameters)} ({format_bytes(card.weight_bytes)})"),
        ("Work", f"{format_count(card.flops)} FLOP per inference" if card.flops else f"{MISSING} unknown"),
        ("Operators", f"{card.node_count} nodes: {shown}" + (" …" if len(operators) > 8 else "")),
        ("Precision", ", ".join(sorted(card.precisions)) or MISSING),
        ("Size", format_bytes(card.size_bytes)),
        ("sha256", card.sha256),
    ]


def _tensor(name: str, dtype: str, shape: Sequence[int | str | None]) -> str:
    dims = ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"{name}  {dtype} [{dims}]"


def render_host(hardware: HardwareProfile, console: Console) -> None:
    """The machine in one line."""
    told = ("onnxruntime", "openvino", *package_versions(), *tools.versions())
    runtimes = ", ".join(f"{tools.readable(name)} {hardware.runtimes[name]}" for name in told if name in hardware.runtimes)
    console.print(f"{hardware.cpu_model}, {hardware.cores} cores, {format_bytes(hardware.memory_bytes)}; {runtimes}", style="dim")


def render_measurements(measurements: Sequence[Measurement], console: Console) -> None:
    """One line per KPI."""
    table = Table(box=None, header_style="bold", padding=(0, 2))
    for column in ("KPI", "Value", "Samples", "Starts"):
        table.add_column(column, no_wrap=True)
    for one in measurements:
        count = str(one.n) if one.n else ""
        table.add_row(Text(title_of(one.kpi)), Text(format_measurement(one)), Text(count), Text(str(one.starts or "")))
    console.print(table)
