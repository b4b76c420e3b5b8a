"""What the terminal shows, with the same words as the pages."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from optimizer.cli_render import render_estimate, render_outcome, render_scorecard
from optimizer.score.catalog import price_for
from optimizer.score.change import change_of
from optimizer.score.rows import ScoreRow, Standing
from optimizer.score.scorecard import Scorecard
from optimizer.search.plan import Estimate
from optimizer.specs import Decision, Duel, Effect, InputSource, KpiTarget, Measurement, NotTried, SearchOutcome, ShapeDuel, Verdict
from tests.engine.search.test_planner import HOST

RATIO = Measurement(kpi="speedup_ratio", value=2.5, unit="×", ci_low=2.4, ci_high=2.6, n=8, starts=8)
FAST = Measurement(kpi="latency_p50_ms", value=8.0, unit="ms", ci_low=7.9, ci_high=8.1, n=500, starts=8)
SLOW = Measurement(kpi="latency_p50_ms", value=20.0, unit="ms", ci_low=19.5, ci_high=20.5, n=500, starts=8)
ROW = ScoreRow(
    kpi="latency_p50_ms",
    measurement=FAST,
    baseline=SLOW,
    target=KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True),
    change=change_of("latency_p50_ms", RATIO, margin=0.03),
    verdict=Verdict.PASS,
    standing=Standing.PASS,
)
CARD = Scorecard(
    decision=Decision.WINNER,
    finding="Trial 3 has 60% lower p50 latency [58, 62] than the baseline.",
    reason="It won.",
    trial=3,
    label="simplify · openvino bf16",
    baseline_label="as uploaded · onnxruntime",
    rows=(ROW,),
    duel=Duel(trial=3, kpi="latency_p50_ms", speedup=RATIO, effect=Effect.FASTER, blocks=8, looks=1),
    input_source=InputSource.PROXY,
    sealed_examples=500,
    price=price_for(HOST),
    picks={"fastest": 3, "cheapest": 0},
    warnings=("Measured with the quick budget [see docs].",),
    sandbox_level="A",
)


def shown(card: Scorecard, *, columns: int = 160) -> str:
    console = Console(file=io.StringIO(), width=columns)
    render_scorecard(card, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_winner_stands_beside_the_original_with_change_target_and_verdict() -> None:
    text = shown(CARD)
    assert "✓ A faster form won the race" in text
    assert "Trial 3 has 60% lower p50 latency [58, 62] than the baseline." in text
    line = next(one for one in text.splitlines() if one.lstrip().startswith("p50 latency"))
    for cell in ("8.00 ±0.10 ms", "20.0 ±0.5 ms", "60% lower", "≤80% of the baseline", "✓ Pass"):
        assert cell in line
    assert "fastest → trial 3, cheapest → the original" in text
    assert "Sandbox level A; inputs: proxy" in text


def test_a_narrow_terminal_folds_values_and_cuts_none() -> None:
    text = shown(CARD, columns=80)
    assert "✓ Pass" in text
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_texts_in_brackets_are_shown_and_not_taken_as_markup() -> None:
    assert "quick budget [see docs]" in shown(CARD)
    assert "[bold]x[/bold]" in shown(replace(CARD, label="[bold]x[/bold]"))


def test_keeping_the_original_is_shown_as_a_result_with_its_nearest_miss() -> None:
    text = shown(replace(CARD, decision=Decision.KEEP_ORIGINAL, trial=0, nearest=4, nearest_label="simplify · onnxruntime", rows=()))
    assert "= Keep the original" in text
    assert "Nearest miss, trial 4: simplify · onnxruntime" in text


def test_what_was_not_tried_is_grouped_by_its_reason() -> None:
    console = Console(file=io.StringIO(), width=200)
    outcome = SearchOutcome(
        decision=Decision.KEEP_ORIGINAL,
        reason="",
        trials=7,
        elapsed_s=130,
        not_tried=tuple(NotTried(label=f"c{number}", reason="No time.") for number in range(6)),
    )
    render_outcome(outcome, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "7 trials in 2 min." in text
    assert "found first" not in text
    assert "Not tried: c0, c1, c2, c3 and 2 more. No time." in text


def test_every_shape_of_the_traffic_has_its_line() -> None:
    console = Console(file=io.StringIO(), width=200)
    shape = ShapeDuel(trial=1, bindings={"sequence": 64}, share=0.3, speedup=RATIO, effect=Effect.FASTER)
    render_outcome(SearchOutcome(decision=Decision.WINNER, reason="", winner=1, shapes=(shape,)), console)
    assert "sequence=64, 30% of the calls: p50 latency 60% lower" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_estimate_is_told_as_the_sum_of_its_parts() -> None:
    console = Console(file=io.StringIO(), width=200)
    parts = {"baseline": 5.0, "search": 60.0, "accuracy_check": 15.0, "race": 70.0}
    render_estimate(Estimate(low_s=80, high_s=150, parts=parts, trials=13, sealed_needed=381), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "up to 12 candidates" in text
    assert "race 70 s" in text
    assert "381 sealed examples" in text
