"""Does the harness cost anything? Its median against that of a bare timing loop, interleaved in the same processes.

    python -m tests.benchmarks.bench_overhead [--processes 6] [--rounds 40] [--bound 0.03]

Each process opens the model once and times it in turns, bare and through the harness's own path: one session, because two
sessions of one model already differ by a few percent. The ratio is the median over processes; exit code 1 outside the bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from optimizer.backends.onnxruntime import OnnxRuntimeSession
from optimizer.measure.child import caller
from optimizer.measure.harness import StreamPlan, draw_order, measure
from optimizer.ort import load_onnxruntime
from tests.benchmarks.bench_models import INPUTS, feeds, model_of_about

TARGETS_NS = {"0.1 ms": 100_000, "10 ms": 10_000_000}


def bare_session(path: Path):
    """ONNX Runtime as its documentation opens it, on one thread."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def bare_median_ns(session, inputs, order, *, seconds: float) -> float:
    """The plain loop: nothing but ONNX Runtime's call between two readings of the clock."""
    run, names, durations = session.run, [output.name for output in session.get_outputs()], []
    until = perf_counter_ns() + seconds * 1e9
    position = 0
    while perf_counter_ns() < until:
        feed = inputs[order[position % len(order)]]
        begin = perf_counter_ns()
        run(names, feed)
        end = perf_counter_ns()
        durations.append(end - begin)
        position += 1
    return median(durations)


def harness_median_ns(call, order, *, seconds: float) -> float:
    plan = StreamPlan(inputs=INPUTS, seed=1, measure_s=seconds, min_iterations=3)
    issued, completed = measure(call, order, plan, per_sample=1, clock=perf_counter_ns)
    return median(end - begin for begin, end in zip(issued, completed, strict=True))


def worker(path: Path, *, rounds: int, seconds: float, bare_first: bool) -> list[float]:
    """Ratios harness/bare of one process, one per round."""
    inputs, order = feeds(), draw_order(StreamPlan(inputs=INPUTS, seed=1))
    bare = bare_session(path)
    call = caller(OnnxRuntimeSession(bare, facts={}), inputs)
    ratios = []
    for turn in range(rounds + 1):
        if (turn % 2 == 0) == bare_first:
            plain = bare_median_ns(bare, inputs, order, seconds=seconds)
            ours = harness_median_ns(call, order, seconds=seconds)
        else:
            ours = harness_median_ns(call, order, seconds=seconds)
            plain = bare_median_ns(bare, inputs, order, seconds=seconds)
        ratios.append(ours / plain)
    return ratios[1:]


def run_worker(path: Path, *, rounds: int, seconds: float, bare_first: bool) -> list[float]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_overhead", "--worker", str(path)]
    command += ["--rounds", str(rounds), "--seconds", str(seconds), *(["--bare-first"] if bare_first else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(name: str, target_ns: float, *, folder: Path, options: argparse.Namespace) -> bool:
    """Print one line; True when the ratio lies within the bound."""
    path = model_of_about(target_ns, folder=folder)
    processes = [
        run_worker(path, rounds=options.rounds, seconds=options.seconds, bare_first=number % 2 == 0) for number in range(options.processes)
    ]
    each = sorted(median(ratios) for ratios in processes)
    ratio = median(each)
    within = abs(ratio - 1) <= options.bound
    spread = f"[{each[0]:.4f}-{each[-1]:.4f}] over {len(each)} processes x {options.rounds} rounds"
    print(f"{name:>7} model: harness / bare loop = {ratio:.4f} {spread}, bound ±{options.bound:.0%}: {'ok' if within else 'OUT'}")
    return within


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.04)
    parser.add_argument("--bound", type=float, default=0.03)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare-first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker, rounds=options.rounds, seconds=options.seconds, bare_first=options.bare_first)))
        return 0
    with tempfile.TemporaryDirectory() as home:
        results = [compare(name, target, folder=Path(home, str(target)), options=options) for name, target in TARGETS_NS.items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
