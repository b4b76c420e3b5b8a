"""How often do two copies of one artifact look different? ``make bench-trust`` (measurement.md 6, A/A test).

A pair is one comparison of an artifact with itself, decided from its raw 95% signed-rank interval (no margin) over
``--blocks-per-pair`` blocks. A block is one fresh child process of each copy, back to back; the order is drawn for each pair of
blocks and turned over in its second one. Nothing is shared between children: every arm of every block is its own start, in its
own sandbox, because reused processes are exactly the error this test must find. No block is filtered or repeated, so the host's
noise counts against the result. With six blocks the interval excludes 1 in 2/64 = 3.1% of honest pairs, with seven in 4.7%.

Exit code 0: the share's binomial interval reaches down to 5% or less; 1: it lies above; 2: fewer pairs than asked for.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from optimizer.codec import to_jsonable
from optimizer.measure.compare import signed_rank_index, signed_rank_interval
from optimizer.sandbox import ChildJob, Level, Limits, Sandbox
from optimizer.specs import BackendSettings
from tests.samples import conv

ERROR = 0.05
LEAST_BLOCKS = 6
INPUTS = 16

Start = Callable[[int], float]
"""Runs one fresh process with a seed and returns its median latency in ns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """``sd_of_starts`` is the log sd between fresh starts, within a pair."""

    pairs: int
    excluding: int
    low: float
    high: float
    sd_of_starts: float
    median_us: float
    seconds: float

    @property
    def share(self) -> float:
        return self.excluding / self.pairs

    @property
    def trusted(self) -> bool:
        """Consistent with 5% or less."""
        return self.low <= ERROR


def run_pair(start: Start, *, blocks: int, rng: random.Random) -> np.ndarray:
    """Median latency of both copies, [blocks, 2]; AB then BA, or the reverse."""
    medians = np.empty((blocks, 2))
    for block in range(blocks):
        if block % 2 == 0:
            order = [0, 1] if rng.random() < 0.5 else [1, 0]
        seed = rng.randrange(2**31)
        for copy in order if block % 2 == 0 else reversed(order):
            medians[block, copy] = start(seed)
    return medians


def excludes_one(medians: np.ndarray) -> bool:
    """Whether the raw 95% interval of the speed-up excludes 1."""
    _, low, high = signed_rank_interval(np.log(medians[:, 0] / medians[:, 1]), error=ERROR)
    return bool(low > 0 or high < 0)


def run_pairs(start: Start, *, pairs: int, blocks: int, seed: int, until: float) -> Iterator[np.ndarray]:
    """Pairs until their number or the time is reached."""
    rng = random.Random(seed)
    for _ in range(pairs):
        if time.monotonic() >= until:
            return
        yield run_pair(start, blocks=blocks, rng=rng)


def tally(results: list[np.ndarray], *, seconds: float) -> Tally:
    """The share that excludes 1, with its exact (Clopper-Pearson) 95% interval."""
    excluding = sum(excludes_one(one) for one in results)
    interval = stats.binomtest(excluding, len(results)).proportion_ci(0.95, method="exact")
    variances = [np.var(np.log(one), ddof=1) for one in results]
    return Tally(
        pairs=len(results),
        excluding=excluding,
        low=float(interval.low),
        high=float(interval.high),
        sd_of_starts=math.sqrt(float(np.mean(variances))),
        median_us=float(np.median(np.concatenate(results))) / 1e3,
        seconds=seconds,
    )


def sentence(result: Tally) -> str:
    """What the test says, with its certainty."""
    verdict = "consistent with 5% or less" if result.trusted else "above 5%: do not trust comparisons on this machine"
    return (
        f"{result.excluding} of {result.pairs} A/A pairs exclude 1: {result.share:.1%}, "
        f"95% binomial interval [{result.low:.1%}, {result.high:.1%}], {verdict}. "
        f"Median {result.median_us:.0f} µs, log sd between starts {result.sd_of_starts:.1%}, {result.seconds / 60:.0f} min."
    )


def prepare(folder: Path) -> tuple[Path, Path]:
    """A small convolution network and its inputs, as folders that a child may read."""
    model, inputs = folder / "model", folder / "inputs"
    model.mkdir()
    inputs.mkdir()
    conv(model / "model.onnx", size=96, channels=32)
    images = np.random.default_rng(0).normal(size=(INPUTS, 1, 3, 96, 96)).astype(np.float32)
    np.savez(inputs / "inputs.npz", image=images)
    return model, inputs


def starter(sandbox: Sandbox, folder: Path, *, block_s: float) -> Start:
    """Fresh children of the product's own harness."""
    model, inputs = prepare(folder)

    def start(seed: int) -> float:
        params = {
            "entry": "model.onnx",
            "backend": "onnxruntime",
            "settings": to_jsonable(BackendSettings(threads=1)),
            "shapes": {"image": [1, 3, 96, 96]},
            "indices": list(range(INPUTS)),
            "seed": seed,
            "block_s": block_s,
            "min_iterations": 30,
            "max_s": 5.0,
            "warmup_max_s": 3.0,
        }
        job = ChildJob(
            entry="optimizer.measure.child:stream", params=params, binds={"model": model, "inputs": inputs}, limits=Limits(wall_s=60)
        )
        outcome = sandbox.run(job)
        if outcome.result is None:
            raise SystemExit(f"A start failed: {outcome.failure}")
        for written in outcome.out_dir.iterdir():
            written.unlink()
        outcome.out_dir.rmdir()
        return float(outcome.result["p50_ns"])

    return start


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--blocks-per-pair", type=int, default=LEAST_BLOCKS)
    parser.add_argument("--block-s", type=float, default=0.08, help="measured seconds per start")
    parser.add_argument("--max-minutes", type=float, default=60.0, help="stop after this time, with the pairs done so far")
    parser.add_argument("--level", choices=[level.value for level in Level], default=None, help="sandbox level; default: the best")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None, help="write the result here as well")
    options = parser.parse_args(argv)
    if signed_rank_index(options.blocks_per_pair, error=ERROR) is None:
        parser.error(f"a 95% signed-rank interval needs at least {LEAST_BLOCKS} blocks per pair")
    return options


def main(argv: list[str]) -> int:
    """Run the pairs with progress, print the sentence."""
    options = arguments(argv)
    begin, results = time.monotonic(), []
    with (
        tempfile.TemporaryDirectory() as scratch,
        Sandbox(root=Path(scratch) / "jobs", level=options.level and Level(options.level)) as box,
    ):
        start = starter(box, Path(scratch), block_s=options.block_s)
        until = begin + 60 * options.max_minutes
        print(f"{options.pairs} pairs of {options.blocks_per_pair} blocks, sandbox level {box.level}", flush=True)
        for medians in run_pairs(start, pairs=options.pairs, blocks=options.blocks_per_pair, seed=options.seed, until=until):
            results.append(medians)
            report_progress(results, asked=options.pairs, seconds=time.monotonic() - begin)
    if not results:
        print("No pair was finished in time.")
        return 2
    result = tally(results, seconds=time.monotonic() - begin)
    print(sentence(result))
    if options.json:
        options.json.write_text(json.dumps(asdict(result)))
    if result.pairs < options.pairs:
        return 2
    return 0 if result.trusted else 1


def report_progress(results: list[np.ndarray], *, asked: int, seconds: float) -> None:
    done = len(results)
    if done % 10 == 0 or done == asked or done == 1:
        excluding = sum(excludes_one(one) for one in results)
        left = seconds / done * (asked - done) / 60
        print(f"{done}/{asked} pairs, {excluding} exclude 1, about {left:.0f} min left", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
