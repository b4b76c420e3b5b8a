"""Timing in children: variants held open for interleaved rounds, and fresh starts for the race."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from optimizer.measure.telemetry import BlockTelemetry
from optimizer.pipeline.builds import Build
from optimizer.pipeline.subject import StepFailed, Subject, binds, failure_of, result_of
from optimizer.sandbox import ChildDied, ChildJob, ChildOutcome, ChildSession, Sandbox
from optimizer.specs import Failure, Recipe

HOLD = "optimizer.measure.child:hold"
STREAM = "optimizer.measure.child:stream"
ROUND_TIMEOUT_S = 60.0
Entrants = Mapping[int, tuple[Build, Recipe]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


class Witness(Protocol):
    """Watches the host around a block; ``optimizer.measure.telemetry.Telemetry`` is the real one."""

    def start(self) -> None: ...

    def stop(self) -> BlockTelemetry: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How starts are measured: seconds of stream, least examples, least calls for percentiles, and the seed of the input order.

    ``by_rate``: rounds tell the time per example of the whole process, instead of the median of a call.
    """

    block_s: float = 1.0
    min_iterations: int = 30
    percentile_calls: int = 0
    max_s: float = 20.0
    by_rate: bool = False

    def params(self, seed: int) -> dict[str, Any]:
        least = {"min_iterations": self.min_iterations, "percentile_calls": self.percentile_calls}
        return {"block_s": self.block_s, **least, "max_s": self.max_s, "seed": seed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One fresh process: its rows (issued, completed) in ns, its cold-start facts and its peak memory.

    A call holds ``items`` examples; ``in_flight`` calls were under way at once. ``buckets`` is the traffic's bucket of each row.
    """

    rows_ns: Rows
    load_ns: int
    first_ns: int
    memory_peak_bytes: int
    warmup: str
    calls_per_sample: int
    items: int = 1
    in_flight: int = 1
    buckets: Rows | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Typical time of each in one interleaved round; ``opened_s`` for those whose process was started in it."""

    medians_ns: dict[int, float] = field(default_factory=dict)
    opened_s: dict[int, float] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Fresh starts back to back, with what the host did meanwhile."""

    starts: dict[int, Start] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    telemetry: BlockTelemetry


class HeldField:
    """One process per variant, stopped unless it is its turn. Processes that left the field are closed at the next round.

    ``life_s`` is how long a process may be held: as long as the search. Getting ready is bounded like any other child.
    """

    def __init__(self, subject: Subject, *, sandbox: Sandbox, entrants: Entrants, pace: Pace, life_s: float) -> None:
        self._subject, self._sandbox, self._entrants, self._pace = subject, sandbox, entrants, pace
        self._limits = replace(subject.limits, wall_s=max(life_s, subject.limits.wall_s))
        self._sessions: dict[int, ChildSession] = {}

    def round(self, order: Sequence[int], *, seconds: float, kept: Collection[int] = ()) -> Round:
        """Visit each trial once; whoever dies is told in the failures and leaves. Neither visited nor ``kept`` means closed."""
        for trial in set(self._sessions) - set(order) - set(kept):
            self._close(trial)
        done = Round()
        for trial in order:
            try:
                session = self._session(trial, done)
                session.resume()
                answer = session.request({"cmd": "round", "s": seconds}, timeout_s=ROUND_TIMEOUT_S + seconds)
                session.pause()
                done.medians_ns[trial] = float(answer["item_ns" if self._pace.by_rate else "median_ns"])
            except ChildDied as died:
                done.failures[trial] = failure_of(died.failure)
                self._close(trial)
            except (KeyError, TypeError, ValueError):
                done.failures[trial] = Failure(code="child.output_invalid", detail="The round's answer was not understood.")
                self._close(trial)
        return done

    def close(self) -> None:
        for trial in list(self._sessions):
            self._close(trial)

    def _session(self, trial: int, done: Round) -> ChildSession:
        if trial not in self._sessions:
            begin = time.perf_counter()
            self._sessions[trial] = self._sandbox.open(self._job(trial), ready_s=self._subject.limits.wall_s)
            done.opened_s[trial] = time.perf_counter() - begin
            done.facts[trial] = dict(self._sessions[trial].ready)
        return self._sessions[trial]

    def _job(self, trial: int) -> ChildJob:
        build, recipe = self._entrants[trial]
        subject = self._subject
        params = {**subject.session_params(build, recipe, subject.timing), **self._pace.params(subject.seed)}
        return ChildJob(entry=HOLD, params=params, binds=binds(build, subject.timing), limits=self._limits)

    def _close(self, trial: int) -> None:
        session = self._sessions.pop(trial, None)
        if session is not None:
            outcome = session.close()
            shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)


def race_block(
    order: Sequence[int], *, index: int, subject: Subject, sandbox: Sandbox, entrants: Entrants, pace: Pace, telemetry: Witness
) -> Block:
    """One fresh process of each, in this order, all with the same inputs in the same sequence. Ends early at a failure."""
    starts: dict[int, Start] = {}
    failures: dict[int, Failure] = {}
    telemetry.start()
    for trial in order:
        build, recipe = entrants[trial]
        try:
            starts[trial] = run_start(build, recipe, subject=subject, sandbox=sandbox, pace=pace, seed=subject.seed * 1000 + index)
        except StepFailed as failed:
            failures[trial] = failed.failure
            break
    return Block(starts=starts, failures=failures, telemetry=telemetry.stop())


def run_start(build: Build, recipe: Recipe, *, subject: Subject, sandbox: Sandbox, pace: Pace, seed: int) -> Start:
    """One fresh process from import to its measured stream. Raises StepFailed."""
    params = {**subject.session_params(build, recipe, subject.timing), **pace.params(seed)}
    job = ChildJob(entry=STREAM, params=params, binds=binds(build, subject.timing), limits=subject.limits)
    outcome = sandbox.run(job, cancelled=subject.cancelled)
    try:
        return _start(result_of(outcome), outcome, recipe=recipe, buckets=len(subject.buckets))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StepFailed(Failure(code="child.output_invalid", detail=f"The start's samples cannot be read: {error}.")) from error
    finally:
        shutil.rmtree(outcome.out_dir.parent, ignore_errors=True)


def _start(result: dict[str, Any], outcome: ChildOutcome, *, recipe: Recipe, buckets: int) -> Start:
    rows = np.load(outcome.out_dir / "samples.npy", allow_pickle=False)
    if rows.dtype != np.int64 or rows.ndim != 2 or rows.shape[1] != 2 or not len(rows) or np.any(rows[:, 1] <= rows[:, 0]):
        raise ValueError("they are no pairs of rising times")
    in_flight = int(result["in_flight"])
    if not 1 <= in_flight <= recipe.settings.streams:
        raise ValueError("more requests were in flight than the recipe says")
    return Start(
        rows_ns=rows,
        load_ns=int(result["load_ns"]),
        first_ns=int(result["first_ns"]),
        memory_peak_bytes=outcome.usage.memory_peak_bytes,
        warmup=str(result["warmup"]),
        calls_per_sample=int(result["calls_per_sample"]),
        items=recipe.settings.batch,
        in_flight=in_flight,
        buckets=_buckets(outcome, rows=len(rows), count=buckets),
        facts=dict(result.get("facts") or {}),
    )


def _buckets(outcome: ChildOutcome, *, rows: int, count: int) -> Rows | None:
    """The bucket of each row; None without traffic."""
    if not count:
        return None
    found: Rows = np.load(outcome.out_dir / "buckets.npy", allow_pickle=False)
    if found.dtype != np.int64 or found.shape != (rows,) or found.min() < 0 or found.max() >= count:
        raise ValueError("their buckets are none of the traffic's")
    return found
