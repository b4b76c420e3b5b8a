"""What the arena found, as a table and as JSON: who is how much faster than the untouched original, and who passes the bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from optimizer.measure.compare import PairedEffect, paired_effect
from tests.benchmarks.optimizer_bench.arena import Judgement, Timing
from tests.benchmarks.optimizer_bench.forms import ORIGINAL, OURS, PARKA, PARKA_QUARTER, Absent, Made

MARGIN = 0.03
EAGER = "PyTorch eager f32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One form of one model; a tool that gave nothing has only its reason."""

    maker: str
    label: str
    seconds: float
    reason: str = ""
    holds: bool = False
    by_value: bool = False
    fidelity: dict[str, float] = field(default_factory=dict)
    median_ms: float | None = None
    log_ratios: tuple[float, ...] = ()

    @property
    def speedup(self) -> PairedEffect:
        return paired_effect(self.log_ratios, margin=MARGIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All forms of one model. ``facts``: what Parka's search said of itself."""

    model: str
    threads: int
    lines: tuple[Line, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def parka(self) -> Line:
        return next(one for one in self.lines if one.maker == PARKA)

    @property
    def best_peer(self) -> Line:
        """The fastest form of another tool that passes the bar; the original where none does."""
        able = [one for one in self.lines if one.maker not in OURS and one.log_ratios and (one.holds or one.maker == ORIGINAL)]
        return max(able, key=lambda one: one.speedup.estimate)

    @property
    def quarter(self) -> Line | None:
        """What a quarter of the time gave."""
        return next((one for one in self.lines if one.maker == PARKA_QUARTER), None)

    @property
    def eager(self) -> Line | None:
        """The author's module, run as it is."""
        return next((one for one in self.lines if one.label == EAGER and one.log_ratios), None)

    @property
    def lead(self) -> PairedEffect:
        """Parka's form against the best peer's, opening by opening."""
        return self.over(self.best_peer)

    def over(self, other: Line) -> PairedEffect:
        """How many times as fast Parka's form is, opening by opening."""
        pairs = zip(self.parka.log_ratios, other.log_ratios, strict=False)
        return paired_effect([ours - theirs for ours, theirs in pairs], margin=MARGIN)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def line_of(made: Made, judgement: Judgement | None, timing: Timing | None) -> Line:
    if isinstance(made, Absent):
        return Line(maker=made.maker, label=made.label, seconds=made.seconds, reason=made.reason)
    return Line(
        maker=made.maker,
        label=made.label,
        seconds=made.seconds,
        reason=judgement.reason if judgement else "",
        holds=judgement.holds if judgement else made.maker == ORIGINAL,
        by_value=judgement.by_value if judgement else made.maker == ORIGINAL,
        fidelity={kpi: judgement.values[kpi] for kpi in judgement.limits if kpi in judgement.values} if judgement else {},
        median_ms=median(timing.medians_ns) / 1e6 if timing and timing.medians_ns else None,
        log_ratios=tuple(timing.log_ratios) if timing else (),
    )


def result_from(data: dict[str, Any]) -> Result:
    lines = tuple(Line(**{**one, "log_ratios": tuple(one["log_ratios"])}) for one in data["lines"])
    return Result(model=data["model"], threads=data["threads"], lines=lines, facts=data["facts"])


def print_result(result: Result, console: Console) -> None:
    table = Table("tool", "seconds", "ms", "times the original", "bar", "fidelity", title=f"{result.model} · {result.threads} threads")
    for one in result.lines:
        values = ", ".join(f"{kpi.removeprefix('fidelity_')} {value:.4f}" for kpi, value in one.fidelity.items())
        bar = "passes" if one.holds else ("by value" if one.by_value else "fails")
        table.add_row(
            one.label,
            f"{one.seconds:.0f}",
            f"{one.median_ms:.3g}" if one.median_ms else "-",
            effect_text(one.speedup) if one.log_ratios else "-",
            bar if one.log_ratios or one.fidelity else "-",
            values or one.reason[:80],
        )
    console.print(table)
    console.print(f"Parka against the best other form that passes ({result.best_peer.label}): {effect_text(result.lead)}")


def print_summary(results: Sequence[Result], console: Console) -> None:
    table = Table("model", "Parka", "best other", "Parka / best other", "Parka / eager", "quarter of the time", "")
    for one in results:
        behind = one.lead.ci_high < 1 / (1 + MARGIN)
        table.add_row(
            one.model, effect_text(one.parka.speedup), f"{one.best_peer.label} {one.best_peer.speedup.estimate:.2f}", effect_text(one.lead),
            effect_text(one.over(one.eager)) if one.eager else "-",
            effect_text(one.quarter.speedup) if one.quarter and one.quarter.log_ratios else "-",
            "BEHIND" if behind else "",
        )  # fmt: skip
    console.print(table)
    ours = [math.log(_worth(one.parka)) for one in results]
    theirs = [math.log(one.best_peer.speedup.estimate) for one in results]
    if results:
        mean = [math.exp(sum(logs) / len(logs)) for logs in (ours, theirs)]
        console.print(f"Geometric means: Parka {mean[0]:.2f}, best other tool per model {mean[1]:.2f}, ratio {mean[0] / mean[1]:.2f}")
        quarters = [math.log(_worth(one.quarter)) for one in results if one.quarter]
        if len(quarters) == len(results):
            console.print(f"At a quarter of the time: {math.exp(sum(quarters) / len(quarters)) / mean[0]:.2f} of Parka's geometric mean")
        tools = by_tool(results)
        single = max(value for label, value in tools.items() if label not in OURS)
        console.print(f"Parka against the best single tool: {mean[0] / single:.2f}")
        for label, value in sorted(tools.items(), key=lambda pair: -pair[1]):
            console.print(f"  {label}: {value:.2f} (the original where its form fails the bar)")
    slower = [one.model for one in results if one.parka.speedup.ci_high < 1 / (1 + MARGIN) or not one.parka.holds]
    console.print(f"Slower or broken forms returned by Parka: {len(slower)} of {len(results)} {', '.join(slower)}")


def _worth(line: Line) -> float:
    """Times the original; the original itself where the form fails the bar."""
    return line.speedup.estimate if line.holds and line.log_ratios else 1.0


def by_tool(results: Sequence[Result]) -> dict[str, float]:
    """Geometric mean of each tool over all models; its best form that passes, never below the original."""
    makers = {line.maker for one in results for line in one.lines} - {ORIGINAL}
    means = {}
    for maker in makers:
        logs = []
        for one in results:
            able = [line.speedup.estimate for line in one.lines if line.maker == maker and line.log_ratios and line.holds]
            logs.append(math.log(max([1.0, *able])))
        means[maker] = math.exp(sum(logs) / len(logs))
    return means


def effect_text(effect: PairedEffect) -> str:
    return f"{effect.estimate:.2f} [{effect.ci_low:.2f}, {effect.ci_high:.2f}]"
