"""Numbers for people, one formatter for terminal and pages (ux.md 10).

Names: ``format_measurement``, ``format_value``, ``format_change``, ``format_target``, ``format_cost``, ``format_bytes``,
``format_count``, ``format_duration``, ``format_duration_range``, ``format_needed``, ``latency_unit``, ``title_of``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from optimizer.kpis import Direction, Evidence, kpi
from optimizer.measure.verdict import Needed
from optimizer.score.change import Change
from optimizer.specs import Effect, FirstProven, KpiTarget, Measurement, Operator, Validity

MISSING = "—"
MINUS = "−"
LATENCY_FACTORS = {"µs": 1e3, "ms": 1.0, "s": 1e-3}
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How one KPI is printed: raw value × factor, then the unit."""

    factor: float
    unit: str
    prefix: str = ""


def latency_unit(values_ms: Iterable[float | None]) -> str:
    """One unit for a whole column of latencies: µs if all are below 1 ms, s if all are from 1 s, else ms."""
    known = [value for value in values_ms if value is not None]
    if known and max(known) < 1:
        return "µs"
    return "s" if known and min(known) >= 1000 else "ms"


def format_measurement(measurement: Measurement | None, unit: str | None = None) -> str:
    """``7.83 ±0.06 ms``, ``0.21 pp [0.08, 0.35]``, ``7.83 ms, n=1``, ``slowest of 71: 9.3 ms``, ``~$0.31 /1M est.`` or ``— not measured``.

    ``unit`` fixes the unit of a column of latencies or bytes; without it the value chooses its own.
    """
    if measurement is None or measurement.value is None or measurement.validity is Validity.INVALID:
        return f"{MISSING} not measured"
    scale = _scale(measurement.kpi, measurement.value, unit)
    if measurement.validity is Validity.INSUFFICIENT_SAMPLES and kpi(measurement.kpi).percentile is not None:
        return f"slowest of {measurement.n:,}: {_with_unit(_three_digits(measurement.value * scale.factor), scale)}"
    text = _measured_text(measurement, scale)
    return f"~{text} est." if measurement.provenance.is_estimate else text


def format_value(name: str, value: float | None, unit: str | None = None) -> str:
    """A bare value of a KPI in its unit, three digits: a target line, an axis label."""
    if value is None:
        return MISSING
    scale = _scale(name, value, unit)
    text = _cost_digits(value) if scale.prefix == "$" else _three_digits(value * scale.factor)
    return _with_unit(text, scale)


def format_target(target: KpiTarget, unit: str | None = None) -> str:
    """``≤8 ms``, or ``≤80% of the baseline``."""
    sign = "≤" if target.op is Operator.AT_MOST else "≥"
    if target.relative:
        return f"{sign}{_trimmed(target.value * 100)}% of the baseline"
    scale = _scale(target.kpi, target.value, unit)
    return f"{sign}{_with_unit(_trimmed(target.value * scale.factor), scale)}"


def format_change(change: Change | None, margin: float = 0.03) -> str:
    """``29% lower [28, 30]``, ``×3.4 [3.3, 3.5]``, ``≈ equivalent within 3%`` or ``? inconclusive (−1.2 to +4.0%)``."""
    if change is None or change.ratio.value is None:
        return MISSING
    if change.effect is Effect.EQUIVALENT:
        return f"≈ equivalent within {_trimmed(margin * 100)}%"
    low, value, high = _baseline_multiples(change)
    if change.effect is Effect.INCONCLUSIVE and low is None and high is None:
        return "? inconclusive, interval open"
    if change.effect is Effect.INCONCLUSIVE:
        return f"? inconclusive ({_signed_range(low, high)})"
    return change_size(low, value, high)


def change_size(low: float | None, value: float, high: float | None) -> str:
    """The size of a change from multiples of the baseline value: ``29% lower [28, 30]``; ``×3.4`` above +100%."""
    if value > 2:
        return _multiple(low, value, high)
    word = "lower" if value < 1 else "higher"
    percents = sorted((abs(one - 1) * 100 if (one < 1) == (value < 1) else -abs(one - 1) * 100) for one in (low, high) if one is not None)
    decimals = _percent_decimals(percents)
    inside = f" [{', '.join(_fixed(one, decimals) for one in percents)}]" if len(percents) == 2 else ""
    return f"{_fixed(abs(value - 1) * 100, decimals)}% {word}{inside}"


def format_cost(usd: Decimal | float | None, per: str = "/1M") -> str:
    """``$12.40 /1M``; two decimals from $1, else two digits."""
    return MISSING if usd is None else f"${_cost_digits(float(usd))} {per}".strip()


def format_bytes(size: float | None, unit: str | None = None) -> str:
    """``97.8 MiB``; ``unit`` fixes the unit of a column."""
    if size is None:
        return MISSING
    chosen = unit or _byte_unit(size)
    return f"{_three_digits(size / 1024 ** BYTE_UNITS.index(chosen))} {chosen}"


def format_count(count: float | None) -> str:
    """``25.6 M``; plain digits below 10,000."""
    if count is None:
        return MISSING
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "K")):
        if abs(count) >= size:
            return f"{_three_digits(count / (1e3 if letter == 'K' else size))} {letter}"
    return _fixed(count, 0) if float(count).is_integer() else _three_digits(count)


def format_duration(seconds: float | None) -> str:
    """``45 s``, ``8 min``, ``1 h 5 min``."""
    if seconds is None:
        return MISSING
    if seconds < 90:
        return f"{max(0, math.ceil(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def format_search(trials: int, elapsed_s: float, first: FirstProven | None) -> str:
    """``13 trials in 4 min. Trial 3 meets all targets and was found first, after 5 forms and 41 s.``"""
    tried = f"{trials} trial{'s' if trials != 1 else ''} in {format_duration(elapsed_s)}."
    if first is None:
        return tried
    forms = f"{first.forms} form{'s' if first.forms != 1 else ''}"
    return f"{tried} Trial {first.trial} meets all targets and was found first, after {forms} and {format_duration(first.seconds)}."


def format_duration_range(low_s: float, high_s: float) -> str:
    """``3–5 min``: an ETA is a range."""
    high = format_duration(high_s)
    low = f"{max(1, round(low_s / 60))} min" if high.endswith("min") and low_s < 3600 else format_duration(low_s)
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number}–{high}" if unit == high.partition(" ")[2] else f"{low}–{high}"


def format_needed(needed: Needed | None, name: str = "") -> str:
    """``1,522 examples, about 90 s more``; empty when nothing is known to help."""
    if needed is None:
        return ""
    word = "examples" if name and kpi(name).evidence is Evidence.EXAMPLES else "samples"
    time = f", about {format_duration(needed.seconds)} more" if needed.seconds > 0 else ""
    return f"{needed.samples:,} {word}{time}"


def title_of(name: str) -> str:
    """The KPI's name for people."""
    return kpi(name).title


def _scale(name: str, value: float, unit: str | None) -> Scale:
    metric = kpi(name)
    if metric.unit == "ms":
        chosen = unit or latency_unit([value])
        return Scale(factor=LATENCY_FACTORS[chosen], unit=chosen)
    if metric.unit == "bytes":
        chosen = unit or _byte_unit(value)
        return Scale(factor=1 / 1024 ** BYTE_UNITS.index(chosen), unit=chosen)
    if metric.unit == "fraction":
        return Scale(factor=100.0, unit="%")
    if metric.unit.startswith("$"):
        return Scale(factor=1.0, unit=metric.unit[1:], prefix="$")
    return Scale(factor=1.0, unit="" if metric.unit in ("ratio", "abs") else metric.unit)


def _byte_unit(size: float) -> str:
    power = 0 if abs(size) < 1 else int(math.log(abs(size), 1024) + 1e-12)
    return BYTE_UNITS[min(power, len(BYTE_UNITS) - 1)]


def _with_unit(text: str, scale: Scale) -> str:
    glue = "" if scale.unit in ("%", "×", "") else " "
    return f"{scale.prefix}{text}{glue}{scale.unit}"


def _measured_text(measurement: Measurement, scale: Scale) -> str:
    value = (measurement.value or 0.0) * scale.factor
    low = None if measurement.ci_low is None else measurement.ci_low * scale.factor
    high = None if measurement.ci_high is None else measurement.ci_high * scale.factor
    if scale.prefix == "$":
        return _cost_text(value, low, high, scale)
    if low is None and high is None:
        return f"{_with_unit(_three_digits(value), scale)}, n={measurement.n:,}"
    if low == high:
        return _with_unit(_three_digits(value), scale)
    decimals = _decimals_that_show(value, decimals_of(_half_width(value, low, high)))
    if low is None or high is None:
        decimals = max(decimals, _decimals_of_three_digits(value))
    if low is not None and high is not None and (half := _rounded_half(value, low, high, decimals)) is not None:
        glue = "" if scale.unit in ("%", "×", "") else " "
        return f"{_fixed(value, decimals)} ±{half}{glue}{scale.unit}"
    return f"{_with_unit(_fixed(value, decimals), scale)} [{_end(low, decimals)}, {_end(high, decimals)}]"


def _half_width(value: float, low: float | None, high: float | None) -> float:
    ends = [abs(end - value) for end in (low, high) if end is not None]
    return max(ends) if len(ends) < 2 else (ends[0] + ends[1]) / 2


def _decimals_that_show(value: float, decimals: int) -> int:
    """An interval far wider than the value would round it to zero: then the value keeps two digits."""
    if value == 0 or not math.isfinite(value):
        return decimals
    exponent = math.floor(math.log10(abs(value)))
    return decimals if decimals >= -exponent else 1 - exponent


def _rounded_half(value: float, low: float, high: float, decimals: int) -> str | None:
    """The common half-width, or None when the two sides differ as printed."""
    below, above = _fixed(value - low, decimals), _fixed(high - value, decimals)
    return below if below == above and float(Decimal(below.replace(",", "").replace(MINUS, "-"))) > 0 else None


def _cost_text(value: float, low: float | None, high: float | None, scale: Scale) -> str:
    decimals = _cost_decimals(value)
    text = f"{scale.prefix}{_fixed(value, decimals)} {scale.unit}"
    if (low is None and high is None) or low == high:
        return text
    return f"{text} [{_end(low, decimals)}, {_end(high, decimals)}]"


def _cost_digits(usd: float) -> str:
    return _fixed(usd, _cost_decimals(usd))


def _cost_decimals(usd: float) -> int:
    return 2 if abs(usd) >= 1 or usd == 0 else 1 - math.floor(math.log10(abs(usd)))


def _end(value: float | None, decimals: int) -> str:
    return "open" if value is None else _fixed(value, decimals)


def decimals_of(half_width: float) -> int:
    """Decimals at which a half-width shows one digit, or two if it begins with 1; negative rounds to tens."""
    if half_width <= 0 or not math.isfinite(half_width):
        return 2
    exponent = math.floor(math.log10(half_width))
    leading = int(half_width / 10.0**exponent + 1e-9)
    return -exponent + (1 if leading == 1 else 0)


def _fixed(value: float, decimals: int) -> str:
    """Rounded half up, thousands separated, a true minus sign."""
    if not math.isfinite(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    text = f"{rounded:,.{max(0, decimals)}f}"
    return text.replace("-", MINUS) if rounded else text.lstrip("-")


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return _fixed(value, 0)
    return _fixed(value, _decimals_of_three_digits(value))


def _decimals_of_three_digits(value: float) -> int:
    return 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def _trimmed(value: float) -> str:
    """As the user wrote it: no trailing zeros."""
    return f"{Decimal(repr(round(value, 10))).normalize():,f}".replace("-", MINUS)


def _baseline_multiples(change: Change) -> tuple[float | None, float, float | None]:
    """(low, value, high) of candidate / baseline from a speed-up, in which above 1 is better."""
    ratio = change.ratio
    value = ratio.value or 1.0
    if kpi(change.kpi).direction is Direction.HIGHER:
        return ratio.ci_low, value, ratio.ci_high
    return _inverse(ratio.ci_high), 1 / value, _inverse(ratio.ci_low)


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _percent_decimals(percents: list[float]) -> int:
    half = (percents[1] - percents[0]) / 2 if len(percents) == 2 else 1.0
    return 0 if half >= 0.5 or half == 0 else (1 if half >= 0.05 else 2)


def _multiple(low: float | None, value: float, high: float | None) -> str:
    decimals = max(0, 1 - math.floor(math.log10(value)))
    inside = "" if low is None or high is None else f" [{_fixed(low, decimals)}, {_fixed(high, decimals)}]"
    return f"×{_fixed(value, decimals)}{inside}"


def _signed_range(low: float | None, high: float | None) -> str:
    ends = ["open" if end is None else _signed((end - 1) * 100) for end in (low, high)]
    return f"{ends[0]} to {ends[1]}%"


def _signed(percent: float) -> str:
    text = _fixed(percent, 1)
    return text if text.startswith(MINUS) or float(text.replace(",", "")) == 0 else f"+{text}"
