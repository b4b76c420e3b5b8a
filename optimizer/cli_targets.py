"""Reads what a person types: KPI targets and bound dimensions."""

from __future__ import annotations

import re

from optimizer.errors import InputError
from optimizer.formats.bindings import matching_symbol
from optimizer.kpis import KPIS, Kpi, kpi
from optimizer.specs import KpiTarget, Operator

TARGET = re.compile(r"^\s*(?P<kpi>[a-z0-9_]+)\s*(?P<op><=|>=|≤|≥)\s*(?P<value>[-+0-9.eE]+|nan|inf)\s*(?P<unit>[A-Za-z%µ$/×]*)\s*$")
BINDING = re.compile(r"^\s*(?P<symbol>[^=]+?)\s*=\s*(?P<size>\d+)\s*$")
OPERATORS = {"<=": Operator.AT_MOST, "≤": Operator.AT_MOST, ">=": Operator.AT_LEAST, "≥": Operator.AT_LEAST}
RELATIVE = ("x", "X", "×")
FACTORS: dict[str, dict[str, float]] = {
    "ms": {"ms": 1.0, "s": 1000.0, "us": 0.001, "µs": 0.001},
    "bytes": {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "fraction": {"%": 0.01},
    "s": {"s": 1.0, "ms": 0.001},
}


def parse_target(text: str) -> KpiTarget:
    """``latency_p50_ms<=0.8x`` (a share of the baseline), ``throughput_per_s>=400``, ``latency_p99<=8ms``, ``model_size<=20MiB``.

    Raises InputError ``target.syntax``, ``kpi.unknown`` and those of KpiTarget.
    """
    found = TARGET.match(text)
    if found is None:
        raise InputError("target.syntax", f"{text!r} is no target; write KPI<=VALUE or KPI>=VALUE, such as latency_p50_ms<=0.8x.")
    metric = _metric(found["kpi"])
    value = _number(found["value"], text)
    if found["unit"] in RELATIVE:
        return KpiTarget(kpi=metric.name, value=value, relative=True, op=OPERATORS[found["op"]])
    return KpiTarget(kpi=metric.name, value=value * _factor(metric, found["unit"], text), op=OPERATORS[found["op"]])


def parse_binding(text: str, symbols: tuple[str, ...]) -> tuple[str, int]:
    """``seq=128`` binds the model's symbolic dim of that name, or the only one whose name contains it.

    Raises InputError ``binding.syntax``, ``input.refused``.
    """
    found = BINDING.match(text)
    if found is None:
        raise InputError("binding.syntax", f"{text!r} is no binding; write NAME=SIZE, such as sequence_length=128.")
    return matching_symbol(found["symbol"], symbols), int(found["size"])


def _metric(name: str) -> Kpi:
    """The KPI of that name, also without its unit when that is unambiguous."""
    if name not in KPIS:
        longer = [one for one in KPIS if one.startswith(f"{name}_")]
        if len(longer) == 1:
            return kpi(longer[0])
    return kpi(name)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError("target.syntax", f"{text!r} in {whole!r} is no number.") from None


def _factor(metric: Kpi, unit: str, whole: str) -> float:
    if not unit or unit == metric.unit:
        return 1.0
    known = FACTORS.get(metric.unit, {})
    if unit not in known:
        offered = ", ".join(known) or metric.unit
        raise InputError(
            "target.unit", f"{metric.title} is not given in {unit!r} ({whole!r}); use {offered}, or x for a share of the baseline."
        )
    return known[unit]
