"""Reads a histogram of request shapes: JSON rows of bindings and weight, or a CSV table with a column per dimension and ``weight``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optimizer.codec import from_jsonable
from optimizer.errors import InputError
from optimizer.formats.bindings import matching_symbol
from optimizer.specs import TrafficShare, check_traffic
from optimizer.units import MIB

WEIGHT = "weight"


def read_traffic(path: Path) -> tuple[TrafficShare, ...]:
    """The rows of the file. Raises InputError ``traffic.unreadable``, ``traffic.syntax`` and those of ``check_traffic``."""
    try:
        if path.stat().st_size > MIB:
            raise InputError("traffic.unreadable", f"{str(path)!r} is larger than 1 MiB; a histogram has a few rows.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("traffic.unreadable", f"{str(path)!r} cannot be read as text: {error}.") from None
    return parse_traffic(text, source=repr(str(path)))


def parse_traffic(text: str, *, source: str) -> tuple[TrafficShare, ...]:
    """The rows of a text; ``source`` names it in messages. Raises InputError ``traffic.syntax`` and those of ``check_traffic``."""
    rows = _from_json(text, source) if text.lstrip().startswith(("[", "{")) else _from_csv(text, source)
    if not rows:
        raise InputError("traffic.syntax", f"{source} holds no row; each gives sizes of open dimensions and a weight.")
    check_traffic(rows)
    return rows


def traffic_text(traffic: Sequence[TrafficShare]) -> str:
    """The CSV table of these rows, as ``parse_traffic`` reads it; empty without any."""
    if not traffic:
        return ""
    names = list(traffic[0].bindings)
    rows = [[*(one.bindings[name] for name in names), f"{one.weight:g}"] for one in traffic]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[*names, WEIGHT], *rows])
    return buffer.getvalue()


def resolved(traffic: Sequence[TrafficShare], symbols: tuple[str, ...]) -> tuple[TrafficShare, ...]:
    """With the model's own names of its open dimensions. Raises InputError ``input.refused``."""
    return tuple(replace(one, bindings={matching_symbol(name, symbols): size for name, size in one.bindings.items()}) for one in traffic)


def _from_json(text: str, source: str) -> tuple[TrafficShare, ...]:
    try:
        return tuple(from_jsonable(TrafficShare, row) for row in json.loads(text))
    except (ValueError, TypeError, RecursionError, InputError) as error:
        raise _syntax(source, error) from None


def _from_csv(text: str, source: str) -> tuple[TrafficShare, ...]:
    try:
        return tuple(_share(row) for row in csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True))
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise _syntax(source, error) from None


def _share(row: dict[str, Any]) -> TrafficShare:
    sizes = {name.strip(): int(value) for name, value in row.items() if name.strip().lower() != WEIGHT}
    weights = [float(value) for name, value in row.items() if name.strip().lower() == WEIGHT]
    return TrafficShare(bindings=sizes, weight=weights[0] if weights else 1.0)


def _syntax(source: str, error: Exception) -> InputError:
    return InputError(
        "traffic.syntax",
        f'{source} is no histogram: write JSON such as [{{"bindings": {{"sequence": 64}}, "weight": 3}}], or a CSV table with the header '
        f"sequence,weight. ({' '.join(str(error).split())[:200]})",
    )
