"""A deterministic stand-in for the engine's search, and a real agent process that uses it.

``python -m tests.agent.fake_search HOME SCRIPT`` runs the agent; SCRIPT is a JSON file, read at each run:
``trials`` how many, ``pause_s`` before each stage, ``wait_at`` a trial before which it waits until told otherwise,
``crash_at`` ``trial:stage`` after whose report the process kills itself (once), ``lie_at`` a trial that reports nonsense.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optimizer.sandbox import Sandbox
from optimizer.search.problem import Cancelled, Observer, SearchProblem
from optimizer.specs import ArtifactRef, BackendSettings, Decision, Measurement, Recipe, SearchOutcome, Stage, StageReport
from parka_agent.logs import configure
from parka_agent.state import Home
from parka_agent.supervisor import Supervisor

REPORTED = (Stage.BUILD, Stage.GATE, Stage.RACE)


class FakeSearch:
    """Reports every stage of every trial, skipping builds and gates that an earlier attempt has finished."""

    def __init__(self, script: Path) -> None:
        self.script = script

    def __call__(
        self,
        problem: SearchProblem,
        *,
        sandbox: Sandbox,
        observer: Observer,
        finished: Sequence[StageReport] = (),
        budget_left_s: float | None = None,
    ) -> SearchOutcome:
        wanted = json.loads(self.script.read_text())
        known = {(report.trial, report.stage) for report in finished if report.stage is not Stage.RACE}
        observer.log(f"search begins with {len(known)} finished stages")
        for trial in range(wanted.get("trials", 3)):
            observer.phase("optimise", done=trial, total=wanted.get("trials", 3), detail=f"trial {trial}")
            self._wait(wanted, trial, observer)
            for stage in REPORTED:
                if (trial, stage) not in known:
                    observer.report(self._report(wanted, problem, trial, stage))
                    self._crash(wanted, f"{trial}:{stage}")
        return SearchOutcome(decision=Decision.KEEP_ORIGINAL, reason="Nothing was faster.", trials=wanted.get("trials", 3))

    def _wait(self, wanted: dict[str, Any], trial: int, observer: Observer) -> None:
        until = time.monotonic() + 120
        while json.loads(self.script.read_text()).get("wait_at") == trial and time.monotonic() < until:
            if observer.cancelled():
                raise Cancelled
            time.sleep(0.05)
        time.sleep(wanted.get("pause_s", 0.0))

    def _report(self, wanted: dict[str, Any], problem: SearchProblem, trial: int, stage: Stage) -> StageReport:
        recipe = Recipe(backend="fake", settings=BackendSettings(threads=trial + 1))
        if stage is not Stage.RACE:
            return StageReport(trial=trial, stage=stage, recipe=recipe)
        tail = 0.5 if wanted.get("lie_at") == trial else 2.0
        values = (("latency_p50_ms", 1.0), ("latency_p99_ms", tail))
        measurements = tuple(Measurement(kpi=name, value=value, unit="ms", n=700, n_eff=700) for name, value in values)
        return StageReport(trial=trial, stage=stage, recipe=recipe, measurements=measurements, artifacts=(samples(problem, trial),))

    def _crash(self, wanted: dict[str, Any], point: str) -> None:
        crashed = self.script.with_suffix(".crashed")
        if wanted.get("crash_at") == point and not crashed.exists():
            crashed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def samples(problem: SearchProblem, trial: int) -> ArtifactRef:
    """A file of raw samples in the run's workspace."""
    import hashlib

    path = problem.workspace / f"samples-{trial}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = f"samples of trial {trial}".encode() * 100
    path.write_bytes(content)
    return ArtifactRef(role="samples", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), path=str(path))


if __name__ == "__main__":
    configure(as_json=True)
    sys.exit(Supervisor(Home(folder=Path(sys.argv[1])), search=FakeSearch(Path(sys.argv[2]))).run())
