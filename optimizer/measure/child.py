"""Child entries that time a model: ``stream`` (one fresh start) and ``hold`` (kept open for interleaved screening)."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optimizer.backends import backend
from optimizer.backends.base import Feeds, Run, Session, lanes_of
from optimizer.errors import InputError
from optimizer.measure.batches import batched_shapes, in_batches
from optimizer.measure.bucketed import BucketedSession
from optimizer.measure.harness import WINDOW_CALLS, Call, StreamPlan, draw_order, measure, run_stream, warm_up
from optimizer.measure.parallel import Crew, run_parallel, window
from optimizer.measure.throughput import start_throughput
from optimizer.measure.traffic import Bucket, groups_of, open_shapes, pools
from optimizer.sandbox.context import ChildContext
from optimizer.specs import BackendSettings, Precision
from optimizer.units import NS_PER_S

ROUND_SAMPLES_SENT = 2000
SETTLE_FRACTION = 0.1
MIXED_WINDOW_CALLS = 20
"""Calls of different shapes in a window of the warm-up gate, so that windows hold the same mix."""

LEAST_BATCHES, LEAST_WINDOW_BATCHES = 5, 2
"""Calls of many examples: as many examples as without a batch, but never fewer calls than these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A loaded session that has served its first request; load time counts from the start of the process.

    ``calls`` may be under way at once, each takes the number of an input; an input holds ``items`` examples. ``groups`` are the inputs
    and the share of each bucket of the traffic.
    """

    session: Session
    calls: tuple[Call, ...]
    inputs: int
    items: int
    groups: tuple[tuple[int, float], ...]
    load_ns: int
    first_ns: int


def stream(context: ChildContext) -> dict[str, Any]:
    """One fresh start. Binds ``model`` (folder), ``inputs`` (folder); params ``entry backend settings shapes indices seed block_s
    min_iterations percentile_calls max_s``. Writes ``samples.npy`` int64 ``[n, 2]`` (issued, completed).
    """
    opened = open_model(context)
    plan = plan_of(context.params, inputs=opened.inputs, items=opened.items, groups=opened.groups)
    order = draw_order(plan)
    result = run_stream(opened.calls[0], plan, order=order) if len(opened.calls) == 1 else run_parallel(opened.calls, plan)
    np.save(context.out_dir / "samples.npy", np.stack([result.issued_ns, result.completed_ns], axis=1))
    if plan.groups:
        numbers = [order[index % len(order)] for index in range(len(result.issued_ns))]
        np.save(context.out_dir / "buckets.npy", groups_of(numbers, plan.groups))
    facts = opened.session.facts()
    opened.session.close()
    return {
        "n": len(result.issued_ns),
        "in_flight": len(opened.calls),
        "load_ns": opened.load_ns,
        "first_ns": opened.first_ns,
        "warmup": result.warmup,
        "warmup_calls": result.warmup_calls,
        "steady": result.warmup != "no_steady_state",
        "time_to_steady_ns": int(result.issued_ns[0]) - context.started_ns,
        "calls_per_sample": result.calls_per_sample,
        "timer_overhead_ns": result.timer_overhead_ns,
        "p50_ns": result.median_ns,
        "facts": facts,
    }


def hold(context: ChildContext) -> dict[str, Any]:
    """Kept open: after the gate it answers ``{"cmd": "round", "s": 0.25}`` with the round's samples, until ``{"cmd": "stop"}``.

    The gate is passed with one request in flight; a round has all of them in flight.
    """
    opened = open_model(context)
    plan = plan_of(context.params, inputs=opened.inputs, items=opened.items, groups=opened.groups)
    order, rounds = draw_order(plan), 0
    gate, _, typical_ns = warm_up(opened.calls[0], plan, order=order, clock=time.perf_counter_ns)
    context.reply(
        {
            "load_ns": opened.load_ns,
            "first_ns": opened.first_ns,
            "typical_ns": typical_ns,
            "steady": gate.steady,
            "warmup": gate.warmup_class,
            "facts": opened.session.facts(),
        }
    )
    gc.collect()
    gc.disable()
    for command in context.commands():
        if command["cmd"] == "stop":
            break
        context.reply(any_round(opened, order, plan, seconds=float(command["s"])))
        rounds += 1
    opened.session.close()
    return {"rounds": rounds}


def any_round(opened: Opened, order: list[int], plan: StreamPlan, *, seconds: float) -> dict[str, Any]:
    """A round with every request of the session in flight."""
    if len(opened.calls) == 1:
        return one_round(opened.calls[0], order, seconds=seconds, items=opened.items)
    return parallel_round(opened, plan, seconds=seconds)


def parallel_round(opened: Opened, plan: StreamPlan, *, seconds: float) -> dict[str, Any]:
    """``one_round`` for several calls at once."""
    measured = replace(plan, measure_s=seconds, min_iterations=3, max_s=max(10.0, 20 * seconds))
    with Crew(opened.calls, measured) as crew:
        window(crew, replace(measured, measure_s=SETTLE_FRACTION * seconds, min_iterations=1), clock=time.perf_counter_ns)
        rows = window(crew, measured, clock=time.perf_counter_ns)
    durations = rows[:, 1] - rows[:, 0]
    per_s = start_throughput(rows, batch=opened.items, in_flight=len(opened.calls))
    return _told(durations, item_ns=NS_PER_S / per_s)


def one_round(call: Call, order: list[int], *, seconds: float, items: int = 1) -> dict[str, Any]:
    """Calls for about ``seconds`` (at least three): their number, median, (thinned) durations and time per example in ns.

    A tenth of the time goes first, unmeasured: a process that was stopped meanwhile finds cold caches.
    """
    plan = StreamPlan(inputs=len(order), seed=0, measure_s=seconds, min_iterations=3, max_s=max(10.0, 20 * seconds))
    settle = replace(plan, measure_s=SETTLE_FRACTION * seconds, min_iterations=1)
    measure(call, order, settle, per_sample=1, clock=time.perf_counter_ns)
    issued, completed = measure(call, order, plan, per_sample=1, clock=time.perf_counter_ns)
    durations = np.array(completed, np.int64) - np.array(issued, np.int64)
    return _told(durations, item_ns=(completed[-1] - issued[0]) / (len(durations) * items))


def _told(durations_ns: np.ndarray[Any, Any], *, item_ns: float) -> dict[str, Any]:
    step = -(-len(durations_ns) // ROUND_SAMPLES_SENT)
    told = {"n": len(durations_ns), "median_ns": float(np.median(durations_ns)), "item_ns": item_ns}
    return {**told, "samples_ns": durations_ns[::step].tolist()}


def open_model(context: ChildContext) -> Opened:
    """Load the model, then the inputs, and serve the first request."""
    params = context.params
    shapes = {name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()}
    settings = settings_of(params["settings"])
    buckets = read_buckets(params)
    session = open_session(context, settings, shapes, buckets)
    runs = lanes_of(session)
    ready = time.perf_counter_ns()
    names = [tensor.name for tensor in session.inputs]
    examples = read_feeds(context, names=names, indices=[int(index) for index in params["indices"]])
    by_bucket = pools(examples, buckets) if buckets else []
    feeds: list[Feeds] = [feed for pool in by_bucket for feed in pool] if buckets else in_batches(examples, settings.batch)
    calls = tuple(caller(run, feeds) for run in runs)
    begin = time.perf_counter_ns()
    calls[0](0)
    first_ns = time.perf_counter_ns() - begin
    return Opened(
        session=session,
        calls=calls,
        inputs=len(feeds),
        items=settings.batch,
        groups=tuple((len(pool), bucket.share) for pool, bucket in zip(by_bucket, buckets, strict=True)),
        load_ns=ready - context.started_ns,
        first_ns=first_ns,
    )


def read_buckets(params: dict[str, Any]) -> list[Bucket]:
    """The traffic's buckets, as our own supervisor sent them."""
    return [
        Bucket(share=float(one["share"]), shapes={name: tuple(shape) for name, shape in one["shapes"].items()})
        for one in params.get("buckets") or ()
    ]


def open_session(
    context: ChildContext, settings: BackendSettings, shapes: Mapping[str, tuple[int, ...]], buckets: Sequence[Bucket]
) -> Session:
    """One session for whole batches of the bound shapes; under traffic one that leaves open what changes, or one per bucket."""
    runtime, entry = backend(context.params["backend"]), context.path("model") / context.params["entry"]
    if not buckets:
        return runtime.open(entry, settings, shapes=batched_shapes(shapes, settings.batch) or None)
    if not settings.bucketed:
        return runtime.open(entry, settings, shapes=open_shapes(buckets))
    return BucketedSession([(runtime.open(entry, settings, shapes=one.shapes), one.shapes) for one in buckets])


def settings_of(data: dict[str, Any]) -> BackendSettings:
    """Settings as our own supervisor sent them; built without pydantic, whose import would count as load time."""
    return BackendSettings(**{**data, "precision": Precision(data.get("precision", Precision.F32))})


def caller(run: Run, feeds: list[Feeds]) -> Call:
    """The call under the clock: an input number in, a synchronised inference behind it."""

    def call(number: int) -> object:
        return run(feeds[number])

    return call


def read_feeds(context: ChildContext, *, names: list[str], indices: list[int]) -> list[Feeds]:
    """The chosen inputs of the model, each array contiguous. Raises InputError ``input.none``, ``input.missing``."""
    if not indices:
        raise InputError("input.none", "There is no input to measure with.")
    with np.load(context.path("inputs") / "inputs.npz", allow_pickle=False) as file:
        missing = sorted(set(names) - set(file.files))
        if missing:
            raise InputError("input.missing", f"The inputs hold no array named {missing[0]!r}; the model needs it.")
        columns = {name: file[name] for name in names}
    return [{name: np.asarray(column[index], order="C") for name, column in columns.items()} for index in indices]


def plan_of(params: dict[str, Any], *, inputs: int, items: int = 1, groups: tuple[tuple[int, float], ...] = ()) -> StreamPlan:
    """The stream's plan; ``min_iterations`` counts examples, of which a call takes ``items``; ``percentile_calls`` counts calls."""
    examples = int(params.get("min_iterations", 30))
    calls = examples if items == 1 else max(LEAST_BATCHES, math.ceil(examples / items))
    least = WINDOW_CALLS if items == 1 else max(LEAST_WINDOW_BATCHES, math.ceil(WINDOW_CALLS / items))
    return StreamPlan(
        inputs=inputs,
        groups=groups,
        seed=int(params["seed"]),
        measure_s=float(params.get("block_s", 1.0)),
        min_iterations=max(calls, int(params.get("percentile_calls", 0))),
        window_calls=max(least, MIXED_WINDOW_CALLS if groups else 0),
        max_s=float(params.get("max_s", 20.0)),
        warmup_max_s=float(params.get("warmup_max_s", 10.0)),
    )
