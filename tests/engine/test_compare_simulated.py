"""Error rates of the race on simulated starts: A/A, true speed-ups, reused processes (measurement.md 16)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from optimizer.measure.compare import LOOK_ERRORS, effect_of, signed_rank_interval
from optimizer.specs import Effect
from tests.engine.simulated_latency import binomial_bounds

START_SD = 0.02
BLOCK_SD = 0.004
LOOKS = (8, 16, 32, 64)
MARGIN = 0.03
RUNS = pytest.mark.parametrize("runs", [400, pytest.param(4_000, marks=pytest.mark.slow)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """How many races ended how; ``excludes_one``: intervals at the stopping look that exclude 1."""

    runs: int
    excludes_one: int
    effects: dict[Effect, int]


def fresh_blocks(rng: np.random.Generator, runs: int, blocks: int, *, speedup: float = 1.0) -> np.ndarray:
    """Log ratios [runs, blocks] of fresh processes: each arm draws a start effect and a block's noise."""
    sd = np.hypot(START_SD, BLOCK_SD)
    return np.log(speedup) + sd * (rng.standard_normal((runs, blocks)) - rng.standard_normal((runs, blocks)))


def reused_blocks(rng: np.random.Generator, runs: int, blocks: int) -> np.ndarray:
    """The same two processes in every block: one lucky layout poses as a speed-up."""
    layout = START_SD * (rng.standard_normal((runs, 1)) - rng.standard_normal((runs, 1)))
    return layout + BLOCK_SD * np.sqrt(2) * rng.standard_normal((runs, blocks))


def race(ratios: np.ndarray, *, finalists: int = 1, looks: tuple[int, ...] = LOOKS) -> Endings:
    """Run the looks on all races at once, with the functions the product uses."""
    running, effects, excluding = ratios, dict.fromkeys(Effect, 0), 0
    for blocks, error in zip(looks, LOOK_ERRORS, strict=False):
        _, low, high = signed_rank_interval(running[:, :blocks], error=error / finalists)
        words = np.array([effect_of(a, b, margin=MARGIN) for a, b in zip(np.exp(low), np.exp(high), strict=True)])
        stops = (words != Effect.INCONCLUSIVE) | (blocks == looks[-1])
        for word in words[stops]:
            effects[Effect(word)] += 1
        excluding += int(np.sum(((low > 0) | (high < 0))[stops]))
        running = running[~stops]
    return Endings(runs=len(ratios), excludes_one=excluding, effects=effects)


@RUNS
@pytest.mark.parametrize("finalists", [1, 2, 3])
def test_two_copies_of_one_artifact_are_told_apart_in_at_most_five_percent(runs: int, finalists: int) -> None:
    ended = race(fresh_blocks(np.random.default_rng(41), runs, LOOKS[-1]), finalists=finalists)
    wrong = ended.effects[Effect.FASTER] + ended.effects[Effect.SLOWER]
    assert wrong <= 0.05 * runs
    assert ended.excludes_one / runs <= max(0.06, binomial_bounds(0.05, runs)[1])


def test_reused_processes_tell_two_copies_apart_in_over_thirty_percent() -> None:
    runs = 400
    blocks = reused_blocks(np.random.default_rng(43), runs, 8)
    _, low, high = signed_rank_interval(blocks, error=0.05)
    assert np.mean((low > 0) | (high < 0)) > 0.30


@RUNS
@pytest.mark.parametrize("speedup", [0.95, 1.0])
def test_what_is_not_faster_wins_in_at_most_five_percent(speedup: float, runs: int) -> None:
    """Two finalists of that truth; a run is wrong when either wins."""
    rng = np.random.default_rng(47)
    first = race_winners(fresh_blocks(rng, runs, LOOKS[-1], speedup=speedup), finalists=2)
    second = race_winners(fresh_blocks(rng, runs, LOOKS[-1], speedup=speedup), finalists=2)
    assert np.mean(first | second) <= 0.05


@RUNS
@pytest.mark.parametrize(("speedup", "least_wins"), [(1.02, 0.0), (1.05, 0.80), (1.10, 0.99)])
def test_true_speed_ups_beyond_the_margin_win_and_the_race_reports_their_size(speedup: float, least_wins: float, runs: int) -> None:
    ratios = fresh_blocks(np.random.default_rng(53), runs, LOOKS[-1], speedup=speedup)
    wins = np.mean(race_winners(ratios, finalists=1))
    assert wins >= least_wins
    estimate, low, high = signed_rank_interval(ratios, error=0.05)
    assert np.exp(np.median(estimate)) == pytest.approx(speedup, rel=0.003)
    assert np.mean((low <= np.log(speedup)) & (np.log(speedup) <= high)) >= binomial_bounds(0.95, runs)[0]
    if speedup < 1 + MARGIN:
        assert wins <= 0.05


def race_winners(ratios: np.ndarray, *, finalists: int) -> np.ndarray:
    """Which races end with ``faster`` at the look where they stop."""
    won, open_ = np.zeros(len(ratios), dtype=bool), np.ones(len(ratios), dtype=bool)
    for blocks, error in zip(LOOKS, LOOK_ERRORS, strict=True):
        _, low, high = signed_rank_interval(ratios[:, :blocks], error=error / finalists)
        words = np.array([effect_of(a, b, margin=MARGIN) for a, b in zip(np.exp(low), np.exp(high), strict=True)])
        won |= open_ & (words == Effect.FASTER)
        open_ &= words == Effect.INCONCLUSIVE
    return won


def test_spending_five_percent_at_every_look_would_break_the_promise() -> None:
    """Negative control: without shared error the stopping interval excludes 1 too often."""
    ratios, runs = fresh_blocks(np.random.default_rng(59), 2_000, LOOKS[-1]), 2_000
    excluded = np.zeros(runs, dtype=bool)
    for blocks in LOOKS:
        _, low, high = signed_rank_interval(ratios[:, :blocks], error=0.05)
        excluded |= (low > 0) | (high < 0)
    assert excluded.mean() > 0.06
