"""Does the sandbox change results? A model's median inside and outside at every level available, side by side.

    python -m tests.benchmarks.bench_sandbox_parity [--openings 12] [--rounds 12] [--bound 0.05] [--model-ms 2]

An opening is one fresh process per place (outside, A, B, C), all held open; in its short rounds each place has its turn, in random
order, so that what the host does meanwhile meets all of them. A place's ratio in an opening is the median of its rounds' ratios
outside/inside; the estimate over openings is Hodges-Lehmann's with its 95% signed-rank interval. Also compares what processor,
threads and precision the backends report. Exit code 0 when every interval lies within the bound and the facts agree, 1 when an
interval lies outside it or a fact differs, 2 when an interval does not decide.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, Protocol

from optimizer.backends import available_backends
from optimizer.backends.base import Available
from optimizer.measure import child
from optimizer.measure.compare import paired_effect
from optimizer.sandbox import ChildJob, Level, Limits, Sandbox, probes
from optimizer.sandbox.levels import is_installed
from optimizer.specs import Effect
from tests.benchmarks.bench_models import ENTRY, INPUT, INPUTS, SHAPE, model_of_about

OUTSIDE = "outside"
HOLD = "optimizer.measure.child:hold"
ROUND_TIMEOUT_S = 60.0


class Held(Protocol):
    """A model held open somewhere; ``ready`` is its first answer."""

    ready: dict[str, Any]

    def request(self, command: dict[str, Any], *, timeout_s: float) -> dict[str, Any]: ...


class OutsideContext:
    """The same job without any sandbox around it: commands on standard input, answers on standard output."""

    def __init__(self, params: dict[str, Any], *, folder: Path, started_ns: int) -> None:
        self.params = params
        self.started_ns = started_ns
        self._folder = folder

    def path(self, _: str) -> Path:
        return self._folder

    def commands(self) -> Iterator[dict[str, Any]]:
        for line in sys.stdin:
            yield json.loads(line)

    def reply(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), flush=True)


class HeldOutside:
    """A process of ``serve_outside``."""

    def __init__(self, params: dict[str, Any], *, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.bench_sandbox_parity", "--outside", str(folder), json.dumps(params)]
        # A session of its own, as the sandbox gives: the scheduler may share out time by session
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, start_new_session=True, **pipes)
        self.processor = self._answer()
        self.ready = self._answer()

    def request(self, command: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate(timeout=ROUND_TIMEOUT_S)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve_outside(folder: Path, params: dict[str, Any]) -> None:
    context: Any = OutsideContext(params, folder=folder, started_ns=perf_counter_ns())
    context.reply(probes.processor(context))
    child.hold(context)


def job_params(name: str, *, threads: int) -> dict[str, Any]:
    return {
        "entry": ENTRY,
        "backend": name,
        "settings": {"threads": threads, "precision": "f32"},
        "shapes": {INPUT: list(SHAPE)},
        "indices": list(range(INPUTS)),
        "seed": 1,
        "block_s": 0.3,
        "min_iterations": 30,
        "max_s": 20.0,
    }


@contextmanager
def held_inside(sandbox: Sandbox, params: dict[str, Any], *, folder: Path) -> Iterator[Held]:
    job = ChildJob(entry=HOLD, params=params, binds={"model": folder, "inputs": folder}, limits=Limits(wall_s=600))
    session = sandbox.open(job)
    yield session
    session.close()


@contextmanager
def held_outside(params: dict[str, Any], *, folder: Path) -> Iterator[HeldOutside]:
    held = HeldOutside(params, folder=folder)
    yield held
    held.close()


class Bench:
    """All places of one backend; ``ratios`` per level gains one log ratio outside/inside per opening."""

    def __init__(self, name: str, *, sandboxes: list[Sandbox], folder: Path, options: argparse.Namespace) -> None:
        self.name = name
        self.ratios: dict[str, list[float]] = {str(sandbox.level): [] for sandbox in sandboxes}
        self.different: dict[str, set[str]] = {str(sandbox.level): set() for sandbox in sandboxes}
        self._params = job_params(name, threads=options.threads)
        self._sandboxes, self._folder, self._options = sandboxes, folder, options
        self._dice = random.Random(1)

    def open_once(self) -> None:
        """One opening: start every place in random order, then rounds."""
        with ExitStack() as stack:
            held: dict[str, Held] = {}
            starters = {OUTSIDE: lambda: held_outside(self._params, folder=self._folder)}
            for sandbox in self._sandboxes:
                starters[str(sandbox.level)] = lambda sandbox=sandbox: held_inside(sandbox, self._params, folder=self._folder)
            for place in self._dice.sample(list(starters), len(starters)):
                held[place] = stack.enter_context(starters[place]())
            self._compare_facts(held)
            rounds = [self._round(held) for _ in range(self._options.rounds)]
        for level, ratios in self.ratios.items():
            ratios.append(median(math.log(one[OUTSIDE] / one[level]) for one in rounds))

    def _round(self, held: dict[str, Held]) -> dict[str, float]:
        order = self._dice.sample(list(held), len(held))
        command = {"cmd": "round", "s": self._options.seconds}
        return {place: held[place].request(command, timeout_s=ROUND_TIMEOUT_S)["median_ns"] for place in order}

    def _compare_facts(self, held: dict[str, Held]) -> None:
        outside: Any = held[OUTSIDE]
        for sandbox in self._sandboxes:
            level = str(sandbox.level)
            seen = sandbox.run(ChildJob(entry="optimizer.sandbox.probes:processor"))
            if seen.result != outside.processor:
                self.different[level].add("processor")
            if held[level].ready["facts"] != outside.ready["facts"]:
                self.different[level].add("facts")


def judge(bench: Bench, level: str, *, bound: float) -> int:
    """Print one line; 0 when time and facts agree, 1 when they do not, 2 when the interval does not decide."""
    effect = paired_effect(bench.ratios[level], error=0.05, margin=bound)
    different = sorted(bench.different[level])
    is_out = bool(different) or effect.effect in (Effect.FASTER, Effect.SLOWER)
    answer = 1 if is_out else (0 if effect.effect is Effect.EQUIVALENT else 2)
    facts = f"different {', '.join(different)}" if different else "same processor, threads and precision"
    print(
        f"{bench.name:>12} level {level}: outside / inside = {effect.estimate:.4f} [{effect.ci_low:.4f}, {effect.ci_high:.4f}]"
        f" over {effect.blocks} openings, {facts}: {('ok', 'OUT', 'undecided')[answer]}",
        flush=True,
    )
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openings", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--bound", type=float, default=0.05)
    parser.add_argument("--model-ms", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--outside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.outside:
        serve_outside(Path(options.outside[0]), json.loads(options.outside[1]))
        return 0
    names = [name for name, state in available_backends().items() if isinstance(state, Available)]
    with tempfile.TemporaryDirectory() as home:
        model_of_about(options.model_ms * 1e6, folder=Path(home, "model"))
        sandboxes = [Sandbox(root=Path(home, str(level)), level=level) for level in Level if is_installed(level)]
        answers = []
        for name in names:
            bench = Bench(name, sandboxes=sandboxes, folder=Path(home, "model"), options=options)
            for _ in range(options.openings):
                bench.open_once()
            answers += [judge(bench, level, bound=options.bound) for level in bench.ratios]
        for sandbox in sandboxes:
            sandbox.close()
    return 1 if 1 in answers else max(answers)


if __name__ == "__main__":
    sys.exit(main())
