"""Live progress on the terminal: one moving line where there is one, plain lines where there is none."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from optimizer.score.wording import format_duration
from optimizer.specs import Stage, StageReport, StageStatus, Verdict

STEPS = {"prepare": "Prepare", "baseline": "Baseline", "optimise": "Optimise", "confirm": "Confirm", "score": "Score"}


@dataclass(slots=True, kw_only=True)
class Progress:
    """An Observer that writes to ``console`` (stderr) and keeps every report; a context manager for its moving line."""

    console: Console
    quiet: bool = False
    budget_s: float | None = None
    reports: list[StageReport] = field(default_factory=list)
    _status: Status | None = None
    _phase: str = ""
    _began: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self._status = self.console.status("")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def phase(self, name: str, *, done: int, total: int, detail: str) -> None:
        title = STEPS.get(name, name)
        if self._status is not None:
            clock = format_duration(time.monotonic() - self._began)
            limit = f" of {format_duration(self.budget_s)}" if self.budget_s else ""
            self._status.update(f"[bold]{title}[/] {done}/{total} · {escape(detail)} · {clock}{limit}")
        elif name != self._phase:
            self.say(f"{title}: {detail}")
        self._phase = name

    def report(self, report: StageReport) -> None:
        self.reports.append(report)
        line = _line(report)
        if line:
            self.say(line)

    def log(self, line: str) -> None:
        self.say(line)

    def cancelled(self) -> bool:
        return False

    def say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(escape(line), style="dim", highlight=False)


def _line(report: StageReport) -> str:
    """What is worth a line of its own: failures, refusals, and screening's estimates."""
    name = f"  trial {report.trial} ({report.recipe.label})"
    if report.failure is not None:
        return f"{name} {report.stage.value}: {report.failure.code}: {report.failure.detail}"
    if report.stage is Stage.GATE and report.verdict is Verdict.FAIL:
        return f"{name} refused: {report.detail.get('reason', '')}"
    if report.stage is Stage.SCREEN and report.status is StageStatus.OK and report.measurements:
        value = report.measurements[0].value or 0.0
        return f"{name}: about {value:.2f}× as fast in screening"
    if report.stage is Stage.CONFIRM and report.trial and report.verdict is not None:
        return f"{name} on the sealed inputs: {report.verdict.value}: {report.detail.get('reason', '')}"
    return ""
