"""Trials and runs side by side (ux.md 8.12)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.errors import InputError
from optimizer.score.comparison import Entry, change_between, comparability_key, compare_entries
from optimizer.specs import Effect
from tests.engine.scored_runs import duel, measured

DUEL = duel(3, "latency_p50_ms", 4.0, low=3.9, high=4.1, effect=Effect.FASTER)
RATE_DUEL = duel(3, "throughput_per_s", 3.5, low=3.4, high=3.6, effect=Effect.FASTER)
CARD = {"kernel": "6.12", "runtimes": {"onnxruntime": "1.32"}, "affinity": [0, 1]}


def entry(run: str, trial: int, p50: float = 10.0, **changes: object) -> Entry:
    facts: dict[str, object] = {
        "key": f"{run}/{trial}",
        "run": run,
        "trial": trial,
        "measurements": (measured("latency_p50_ms", p50), measured("cost_usd_per_million_inferences", p50)),
        "duels": (DUEL, RATE_DUEL),
        "environment": CARD,
    }
    return Entry(**(facts | changes))  # type: ignore[arg-type]


def test_within_a_run_the_paired_duel_speaks() -> None:
    change = change_between(entry("R-1", 0), entry("R-1", 3, 2.5), "latency_p50_ms")
    assert change is not None
    assert change.ratio is DUEL.speedup


def test_seen_from_the_finalist_the_duel_is_turned_over() -> None:
    change = change_between(entry("R-1", 3, 2.5), entry("R-1", 0), "latency_p50_ms")
    assert change is not None
    assert change.effect is Effect.SLOWER
    assert (change.ratio.value, change.ratio.ci_low, change.ratio.ci_high) == pytest.approx((1 / 4, 1 / 4.1, 1 / 3.9))


def test_cost_within_a_run_is_the_throughput_duel() -> None:
    change = change_between(entry("R-1", 0), entry("R-1", 3, 2.5), "cost_usd_per_million_inferences")
    assert change is not None
    assert change.ratio.value == 3.5


def test_a_duel_of_another_run_does_not_speak() -> None:
    change = change_between(entry("R-1", 0), entry("R-2", 3, 2.5), "latency_p50_ms")
    assert change is not None
    assert change.ratio.method == "unpaired_log_quadrature"


def test_different_hosts_compare_their_starts_by_welch() -> None:
    one = entry("R-1", 0, starts={"latency_p50_ms": (10.0, 10.2, 9.9), "throughput_per_s": (100.0, 98.0, 101.0)})
    other = entry("R-2", 0, 5.0, starts={"latency_p50_ms": (5.0, 5.1, 4.9), "throughput_per_s": (200.0, 204.0, 199.0)})
    change = change_between(one, other, "latency_p50_ms")
    rate = change_between(one, replace(other, measurements=(measured("throughput_per_s", 200.0),)), "throughput_per_s")
    assert change is not None
    assert rate is not None
    assert change.effect is Effect.FASTER
    assert (rate.ratio.value or 0) == pytest.approx(2.0, rel=0.02)


def test_what_differs_is_listed_environment_first() -> None:
    other = entry(
        "R-2", 0, environment=CARD | {"kernel": "6.14", "runtimes": {"onnxruntime": "1.32", "openvino": "2026.4"}}, conditions={"batch": 8}
    )
    table = compare_entries([entry("R-1", 0, conditions={"batch": 1}), other], base="R-1/0")
    assert [(one.name, one.values) for one in table.differences] == [
        ("kernel", ("6.12", "6.14")),
        ("runtimes.openvino", ("—", "2026.4")),
        ("batch", ("1", "8")),
    ]
    assert not table.comparable


def test_equal_conditions_have_equal_keys() -> None:
    assert comparability_key(CARD, {"batch": 1}) == comparability_key(dict(reversed(CARD.items())), {"batch": 1})
    assert comparability_key(CARD, {"batch": 1}) != comparability_key(CARD, {"batch": 2})


def test_leaders_are_a_tie_group_where_intervals_overlap() -> None:
    table = compare_entries([entry("R-1", 0, 10.0), entry("R-2", 0, 10.1), entry("R-3", 0, 12.0)], base="R-1/0")
    row = table.rows[0]
    assert [cell.leads for cell in row.cells] == [True, True, False]
    assert row.tied
    assert row.cells[0].change is None


def test_a_missing_value_is_an_empty_cell() -> None:
    table = compare_entries([entry("R-1", 0), entry("R-2", 0, measurements=())], base="R-1/0")
    assert table.rows[0].cells[1].measurement is None
    assert table.rows[0].cells[1].change is None
    assert not any(cell.leads for cell in table.rows[0].cells)


def test_an_unknown_base_is_refused() -> None:
    with pytest.raises(InputError, match=r"comparison\.base"):
        compare_entries([entry("R-1", 0)], base="R-9/0")
