"""A sandbox without processes: it answers the engine's child entries from a table of true speeds, and can be told to fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.codec import to_jsonable
from optimizer.formats import inspect_model
from optimizer.measure.fidelity_outputs import FILE_NAME, OutputWriter
from optimizer.measure.input_files import load_feeds
from optimizer.measure.telemetry import BlockTelemetry
from optimizer.sandbox import ChildDied, ChildFailure, ChildJob, ChildOutcome, ChildUsage, Level

BASELINE_NS = 2_000_000
STRAY = ChildFailure(code="child.killed", detail="The child was killed from outside.", stray=True)
CRASH = ChildFailure(code="child.crash", detail="The child crashed.")


@dataclass(kw_only=True)
class QuietHost:
    """A witness that saw nothing; ``invalid`` blocks by number."""

    invalid: set[int] = field(default_factory=set)
    blocks: int = 0

    def start(self) -> None:
        """Nothing to read."""

    def stop(self) -> BlockTelemetry:
        self.blocks += 1
        disturbed = self.blocks - 1 in self.invalid
        return BlockTelemetry(valid=not disturbed, reasons=("steal_fraction 0.05 of CPU time",) if disturbed else ())


Failing = Callable[[ChildJob], ChildFailure | None]


@dataclass(kw_only=True)
class FakeSandbox:
    """``speedups`` by backend and precision, such as ``openvino f32``; ``noise`` is added to the outputs of that form; ``says`` is the progress of builds."""

    root: Path
    speedups: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    fail: Failing = lambda _job: None
    level: Level = Level.C
    jobs: list[ChildJob] = field(default_factory=list)
    ready_s: set[float | None] = field(default_factory=set)
    open_sessions: int = 0
    says: str = ""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def run(
        self, job: ChildJob, *, cancelled: Callable[[], bool] | None = None, heard: Callable[[dict[str, Any]], None] | None = None
    ) -> ChildOutcome:
        self.jobs.append(job)
        out = self.root / f"job-{len(self.jobs)}" / "out"
        out.mkdir(parents=True)
        failure = self.fail(job)
        if failure is not None:
            return ChildOutcome(out_dir=out, level=self.level, failure=failure)
        if heard and self.says:
            heard({"progress": self.says})
        work = {"apply_recipe": self._apply, "outputs": self._outputs, "stream": self._stream}[job.entry.partition(":")[2]]
        return ChildOutcome(out_dir=out, level=self.level, result=work(job, out), usage=ChildUsage(memory_peak_bytes=50_000_000))

    def open(self, job: ChildJob, *, ready_s: float | None = None) -> FakeSession:
        self.jobs.append(job)
        self.ready_s.add(ready_s)
        failure = self.fail(job)
        if failure is not None:
            raise ChildDied(failure)
        self.open_sessions += 1
        return FakeSession(sandbox=self, job=job)

    def close(self) -> None:
        """Nothing runs."""

    def entries(self, name: str) -> list[ChildJob]:
        return [job for job in self.jobs if job.entry.endswith(f":{name}")]

    def median_ns(self, job: ChildJob) -> float:
        return BASELINE_NS / self.speedups.get(form(job), 1.0) * float(np.exp(self.rng.normal(0, 0.004)))

    def _apply(self, job: ChildJob, out: Path) -> dict[str, Any]:
        shutil.copytree(job.binds["model"], out / "model")
        (out / "model" / "passes.txt").write_text(repr(job.params["passes"]))
        card = inspect_model(out / "model" / job.params["entry"])
        return {"entry": job.params["entry"], "facts": [{"pass": "fake"}], "card": to_jsonable(card)}

    def _outputs(self, job: ChildJob, out: Path) -> dict[str, Any]:
        noise = self.noise.get(form(job), 0.0)
        with OutputWriter(out / FILE_NAME) as writer:
            for index in job.params["indices"]:
                feed = load_feeds(job.binds["inputs"] / "inputs.npz", index)
                values = np.asarray(next(iter(feed.values())), np.float32)[..., :4]
                writer.add([values + np.float32(noise) * self.rng.normal(size=values.shape).astype(np.float32)])
        return {"n": writer.examples, "names": ["y"], "finite": writer.finite, "sha256": writer.sha256, "facts": {}}

    def _stream(self, job: ChildJob, out: Path) -> dict[str, Any]:
        durations = (self.median_ns(job) * np.exp(self.rng.normal(0, 0.02, job.params["min_iterations"]))).astype(np.int64)
        issued = np.concatenate([[0], np.cumsum(durations)[:-1]])
        np.save(out / "samples.npy", np.stack([issued, issued + durations], axis=1))
        return {
            "n": len(durations), "load_ns": 10**8, "first_ns": 10**6, "warmup": "flat", "warmup_calls": 5, "steady": True,
            "calls_per_sample": 1, "in_flight": 1, "timer_overhead_ns": 50, "p50_ns": float(np.median(durations)), "facts": {},
        }  # fmt: skip


@dataclass(kw_only=True)
class FakeSession:
    """A held-open child."""

    sandbox: FakeSandbox
    job: ChildJob
    ready: dict[str, Any] = field(default_factory=lambda: {"steady": True})

    def request(self, command: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        return {"n": 10, "median_ns": self.sandbox.median_ns(self.job), "samples_ns": []}

    def pause(self) -> None:
        """Costs nothing anyway."""

    def resume(self) -> None:
        """Costs nothing anyway."""

    def close(self) -> ChildOutcome:
        self.sandbox.open_sessions -= 1
        out = self.sandbox.root / f"session-{len(self.sandbox.jobs)}-{id(self)}" / "out"
        out.mkdir(parents=True)
        return ChildOutcome(out_dir=out, level=self.sandbox.level, result={})


def form(job: ChildJob) -> str:
    """``openvino bf16``, and for a build that only a pass made possible the same."""
    return f"{job.params['backend']} {job.params['settings']['precision']}"
