"""Does the sandbox change results? A model's median inside and outside at every level available, side by side.

    python -m tests.benchmarks.bench_sandbox_parity [--blocks 24] [--bound 0.05] [--model-ms 2]

A block is one fresh process per place (outside, A, B, C) in random order; each ratio inside/outside is taken within its block.
Blocks that the host disturbed are repeated, as in a race (at most as many as asked for). The estimate is Hodges-Lehmann's with its
95% signed-rank interval. Also compares what processor, threads and precision the backends report. Exit code 1 when an interval
lies outside the bound or a fact differs, 2 when an estimate leaves the bound and its interval does not decide.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from optimizer.backends import available_backends
from optimizer.backends.base import Available
from optimizer.measure import child
from optimizer.measure.compare import paired_effect
from optimizer.measure.telemetry import Telemetry
from optimizer.sandbox import ChildJob, Level, Limits, Sandbox, probes
from optimizer.sandbox.levels import is_installed
from optimizer.specs import Effect
from tests.benchmarks.bench_models import ENTRY, INPUT, INPUTS, SHAPE, model_of_about

OUTSIDE = "outside"


class OutsideContext:
    """The same job without any sandbox around it."""

    def __init__(self, params: dict[str, Any], *, folder: Path, out_dir: Path, started_ns: int) -> None:
        self.params = params
        self.out_dir = out_dir
        self.started_ns = started_ns
        self._folder = folder

    def path(self, _: str) -> Path:
        return self._folder


def job_params(name: str, *, threads: int, seconds: float) -> dict[str, Any]:
    return {
        "entry": ENTRY,
        "backend": name,
        "settings": {"threads": threads, "precision": "f32"},
        "shapes": {INPUT: list(SHAPE)},
        "indices": list(range(INPUTS)),
        "seed": 1,
        "block_s": seconds,
        "min_iterations": 30,
        "max_s": 20.0,
    }


def run_outside(params: dict[str, Any], *, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_sandbox_parity", "--outside", str(folder)]
    # A session of its own, as the sandbox gives: the scheduler may share out time by session
    done = subprocess.run(command, input=json.dumps(params), check=True, capture_output=True, text=True, start_new_session=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_inside(sandbox: Sandbox, params: dict[str, Any], *, folder: Path) -> dict[str, Any]:
    binds = {"model": folder, "inputs": folder}
    outcome = sandbox.run(ChildJob(entry="optimizer.measure.child:stream", params=params, binds=binds, limits=Limits(wall_s=120)))
    seen = sandbox.run(ChildJob(entry="optimizer.sandbox.probes:processor"))
    if outcome.result is None or seen.result is None:
        raise SystemExit(f"level {sandbox.level}: {outcome.failure or seen.failure}")
    return {**outcome.result, "processor": seen.result}


def serve_outside(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        context: Any = OutsideContext(json.load(sys.stdin), folder=folder, out_dir=Path(out), started_ns=perf_counter_ns())
        print(json.dumps({**child.stream(context), "processor": probes.processor(context)}))


def blocks_of(name: str, *, sandboxes: list[Sandbox], folder: Path, options: argparse.Namespace) -> list[dict[str, dict[str, Any]]]:
    """Per block: the result of each place."""
    params = job_params(name, threads=options.threads, seconds=options.seconds)
    places = {OUTSIDE: lambda: run_outside(params, folder=folder)}
    for sandbox in sandboxes:
        places[str(sandbox.level)] = lambda sandbox=sandbox: run_inside(sandbox, params, folder=folder)
    order, dice, blocks, telemetry = list(places), random.Random(1), [], Telemetry()
    for _ in range(2 * options.blocks):
        dice.shuffle(order)
        telemetry.start()
        block = {place: places[place]() for place in order}
        if telemetry.stop().valid:
            blocks.append(block)
        if len(blocks) == options.blocks:
            break
    return blocks


def judge(name: str, level: str, *, blocks: list[dict[str, dict[str, Any]]], bound: float) -> int:
    """Print one line; 0 when time and facts agree, 1 when they do not, 2 when the host was too noisy to tell."""
    ratios = [math.log(block[OUTSIDE]["p50_ns"] / block[level]["p50_ns"]) for block in blocks]
    effect = paired_effect(ratios, error=0.05, margin=bound)
    different = sorted({key for block in blocks for key in ("facts", "processor") if block[level][key] != block[OUTSIDE][key]})
    inside = 1 / (1 + bound) <= effect.estimate <= 1 + bound
    is_out = bool(different) or effect.effect in (Effect.FASTER, Effect.SLOWER)
    answer = 1 if is_out else (0 if inside else 2)
    facts = f"different {', '.join(different)}" if different else "same processor, threads and precision"
    print(
        f"{name:>12} level {level}: outside / inside = {effect.estimate:.4f} [{effect.ci_low:.4f}, {effect.ci_high:.4f}]"
        f" over {len(blocks)} quiet blocks, {facts}: {('ok', 'OUT', 'undecided')[answer]}"
    )
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--bound", type=float, default=0.05)
    parser.add_argument("--model-ms", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--outside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.outside:
        serve_outside(options.outside)
        return 0
    names = [name for name, state in available_backends().items() if isinstance(state, Available)]
    with tempfile.TemporaryDirectory() as home:
        model_of_about(options.model_ms * 1e6, folder=Path(home, "model"))
        sandboxes = [Sandbox(root=Path(home, str(level)), level=level) for level in Level if is_installed(level)]
        answers = []
        for name in names:
            blocks = blocks_of(name, sandboxes=sandboxes, folder=Path(home, "model"), options=options)
            answers += [judge(name, str(sandbox.level), blocks=blocks, bound=options.bound) for sandbox in sandboxes]
        for sandbox in sandboxes:
            sandbox.close()
    return 1 if 1 in answers else max(answers)


if __name__ == "__main__":
    sys.exit(main())
