"""The pure parts of the dashboard: charts, words, trial lines, the live view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from django.template import Context, Template

from optimizer.score.change import Change
from optimizer.score.rows import Standing
from optimizer.specs import BackendSettings, Effect, Failure, KpiTarget, Measurement, Provenance, Recipe, Stage, StageStatus, Validity
from parka.dashboard import charts, words
from parka.dashboard.cells import safe_cell
from parka.dashboard.experiment_form import DROP, stored_value, typed_value
from parka.dashboard.facts import flattened, idle_words, recipe_facts, shape_words, start_words
from parka.dashboard.scores import exact_words, room
from parka.dashboard.svg import UnsafeChart, checked, compile_chart
from parka.dashboard.trials import best_of, trial_lines
from parka.dashboard.views.stream import frame
from tests.platform import factories

NOW = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)
POINTS = [
    charts.ParetoPoint(trial=0, label="base", group="baseline", x=5.0, y=0.30, x_low=4.8, x_high=5.2, y_low=0.29, y_high=0.31),
    charts.ParetoPoint(trial=3, label="a", group="openvino", x=3.0, y=0.20, x_low=2.9, x_high=3.1, on_front=True, pick="fastest"),
    charts.ParetoPoint(trial=4, label="b", group="openvino", x=4.0, y=0.15, on_front=True, proven=False),
]
AXES = {
    "x": charts.Axis(title="p50 latency (ms)", lower_is_better=True, target=4.5),
    "y": charts.Axis(title="Cost ($/1M)", lower_is_better=True),
}
DRAWN = {
    "pareto": charts.pareto(POINTS, **AXES, width=560),
    "headroom": charts.headroom(
        [
            charts.HeadroomRow(label="p50 latency", value=21, low=19, high=23, proven=True),
            charts.HeadroomRow(label="Throughput", value=-4, low=-9, high=2, proven=False),
            charts.HeadroomRow(label="Size", value=900, low=900, high=900, proven=True),
        ],
        width=560,
    ),
    "race": charts.interval_strip(
        [charts.RaceRow(label="4 <b>bf16</b>", estimate=1.5, low=1.4, high=1.6, ratios=(1.4, 1.5, 1.6))], margin=0.03, width=560
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_is_an_image_without_style_script_or_outside_address(name: str) -> None:
    svg = compile_chart(DRAWN[name].to_dict(), label='A "chart" of <things>')
    assert svg is not None
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'A "chart" of <things>'
    names = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
    assert names.isdisjoint({"style", "script", "image", "a", "foreignObject"})
    assert "style=" not in svg
    assert "var(--pk-" in svg
    assert "http" not in svg.replace("http://www.w3.org/", "")
    sizes = [float(element.get("font-size", "11px").removesuffix("px")) for element in root.iter() if element.tag.endswith("}text")]
    assert min(sizes) >= 11


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<style>*{}</style>",
        '<rect style="fill:red"/>',
        '<rect onload="x()"/>',
        '<a href="https://example.org"><text>x</text></a>',
        '<image href="https://example.org/x.png"/>',
        '<rect fill="url(https://example.org/x)"/>',
    ],
)
def test_an_unsafe_chart_is_refused(inside: str) -> None:
    with pytest.raises(UnsafeChart):
        checked(f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>')


def test_a_chart_that_cannot_be_compiled_is_none_and_not_an_error() -> None:
    assert compile_chart({"mark": "nonsense", "encoding": 5}, label="x") is None


def test_a_chart_is_drawn_while_the_cache_is_away(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    assert compile_chart(DRAWN["race"].to_dict(), label="race without a cache") is not None


def test_the_frontier_steps_through_the_worse_of_both_neighbours() -> None:
    steps = charts._front_steps(POINTS, **AXES)
    assert [(step["x"], step["y"]) for step in steps] == [(3.0, 0.20), (4.0, 0.20), (4.0, 0.15)]


def test_a_bullet_starts_at_zero_unless_the_value_is_a_share() -> None:
    bar = charts.bullet(value=4.0, low=3.9, high=4.1, target=8.0, from_zero=True, proven=True)
    assert bar.target is not None
    assert bar.x == pytest.approx(bar.target / 2, abs=0.1)
    dot = charts.bullet(value=0.9996, low=0.9994, high=0.9998, target=0.99, from_zero=False, proven=True)
    assert dot.target is not None
    assert dot.low is not None
    assert dot.x - dot.target > charts.BULLET_WIDTH / 3
    assert 0 <= dot.low <= dot.x <= charts.BULLET_WIDTH


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=2), "now"),
        (timedelta(seconds=40), "40 s ago"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=30), "1 d ago"),
        (timedelta(days=8), "7 Jan 2026"),
        (-timedelta(days=12), "in 12 d"),
    ],
)
def test_times_are_relative_within_a_week(age: timedelta, text: str) -> None:
    assert words.ago(NOW - age, now=NOW) == text


@pytest.mark.parametrize(("share", "text"), [("0.400", "40"), ("0.125", "12.5"), ("1.000", "100"), ("0.050", "5")])
def test_shares_are_plain_percent(share: str, text: str) -> None:
    assert words.percent(Decimal(share)) == text


def rendered(source: str, **context: object) -> str:
    return Template("{% load parka %}" + source).render(Context(context))


def test_num_prints_value_interval_unit_and_marks_estimates() -> None:
    one = factories.measured("latency_p50_ms", 7.83, "ms", spread=0.008)
    assert rendered("{% num one %}", one=one) == '<span class="pk-num"><i></i><b>7.83</b><i> ±0.06 ms</i></span>'
    cost = replace(factories.measured("cost_usd_per_million_inferences", 0.31, "$/1M"), provenance=Provenance.CATALOG_DEFAULT)
    assert "data-estimated" in rendered("{% num cost %}", cost=cost)
    few = replace(one, validity=Validity.INSUFFICIENT_SAMPLES, n=71)
    assert rendered("{% num few %}", few=few).startswith('<span class="pk-num"><i>slowest of 71: </i><b>7.83</b>')
    assert "—" in rendered("{% num nothing %}", nothing=None)
    assert "not measured" in rendered("{% num bad %}", bad=replace(one, validity=Validity.INVALID))


def test_delta_is_coloured_only_beyond_the_margin() -> None:
    ratio = Measurement(kpi="speedup_ratio", value=1.4, unit="×", ci_low=1.38, ci_high=1.42)
    faster = Change(kpi="latency_p50_ms", ratio=ratio, effect=Effect.FASTER)
    assert 'data-effect="better"' in rendered("{% delta change 0.03 %}", change=faster)
    assert "% faster" not in rendered("{% delta change 0.03 %}", change=faster)
    same = replace(faster, effect=Effect.EQUIVALENT)
    assert 'data-effect=""' in rendered("{% delta change 0.03 %}", change=same)
    assert rendered("{% delta change %}", change=None) == ""


def test_a_verdict_is_never_colour_alone() -> None:
    for value, word in (
        (Standing.PASS, "Pass"),
        (Standing.FAIL, "Fail"),
        (Standing.UNPROVEN, "Unproven"),
        (Standing.ESTIMATED, "Estimated"),
    ):
        chip = rendered("{% standing value %}", value=value)
        assert word in chip
        assert "<svg" in chip
    assert rendered("{% standing value %}", value=Standing.UNJUDGED) == ""


def test_trial_lines_say_how_far_each_came_and_why_it_stopped() -> None:
    reports = [report for trial in range(5) for report in factories.reports_of(trial)]
    lines = trial_lines(reports, outcome=factories.search_outcome())
    assert [line.role for line in lines] == ["baseline", "", "", "", "winner"]
    assert lines[2].stage_words == "failed in gate"
    assert lines[2].failure is not None
    assert lines[2].outputs is Standing.FAIL
    assert lines[1].provisional
    assert not lines[4].provisional
    assert lines[0].outputs is None


def test_the_best_so_far_is_raced_before_screened_and_never_failed() -> None:
    reports = [report for trial in (0, 1, 3) for report in factories.reports_of(trial)]
    best = best_of(trial_lines(reports))
    assert best is not None
    assert (best.trial, best.provisional) == (3, True)
    failed = replace(reports[-1], stage=Stage.RACE, status=StageStatus.FAILED, failure=Failure(code="child.oom", detail="Too much."))
    assert best_of(trial_lines([*reports, failed])).trial == 1  # type: ignore[union-attr]
    assert best_of(trial_lines(factories.reports_of(0))) is None


@pytest.mark.parametrize(
    ("name", "typed", "relative", "stored"),
    [
        ("latency_p50_ms", 80.0, True, 0.8),
        ("latency_p50_ms", 8.0, False, 8.0),
        (DROP, 0.5, False, -0.5),
        ("model_size_bytes", 64.0, False, 64.0 * 2**20),
    ],
)
def test_targets_survive_the_way_through_the_form(name: str, typed: float, relative: bool, stored: float) -> None:
    assert stored_value(name, typed, relative=relative) == stored
    assert typed_value(KpiTarget(kpi=name, value=stored, relative=relative)) == pytest.approx(typed)


def test_room_is_positive_on_the_good_side() -> None:
    assert room(KpiTarget(kpi="latency_p50_ms", value=8.0), 6.0) == 25.0
    assert room(KpiTarget(kpi="throughput_per_s", value=400.0), 300.0) == -25.0


def test_exact_words_name_an_open_end() -> None:
    assert exact_words(replace(factories.measured("latency_p99_ms", 8.0, "ms"), ci_high=None)) == "8 [7.84, open] ms"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@cmd", "\tx", "\rx"])
def test_a_cell_that_begins_like_a_formula_is_quoted(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert safe_cell(-4.5) == -4.5


def test_nested_facts_become_flat_lines() -> None:
    assert flattened({"cpu_model": "x", "os": {"kernel": 6, "flags": ["a", "b"]}}) == {"cpu model": "x", "os kernel": 6, "os flags": "a, b"}


def test_no_text_can_end_a_server_sent_event_early() -> None:
    sent = frame("log", "one\n\nevent: done\rdata: x\u2028", "5-0")
    assert sent.startswith("id: 5-0\nevent: log\n")
    body = sent.split("\n", 2)[2]
    assert all(line.startswith("data:") for line in body.splitlines() if line)
    assert sent.endswith("\n\n")


@pytest.mark.parametrize("words_of", [start_words, shape_words, idle_words])
def test_recipes_that_differ_in_one_setting_read_differently(words_of: Callable[[BackendSettings], str]) -> None:
    plain, changed = BackendSettings(), BackendSettings(cached=True, bucketed=True, spinning=False)
    assert words_of(plain) != words_of(changed)
    texts = [{one.value for one in recipe_facts(Recipe(backend="openvino", settings=one))} for one in (plain, changed)]
    assert words_of(changed) in texts[1] - texts[0]
