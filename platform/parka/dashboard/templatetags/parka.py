"""The tags of the pages. ``num`` is the only way to print a measurement."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from optimizer.codec import to_jsonable
from optimizer.score.change import Change
from optimizer.score.rows import Standing
from optimizer.score.wording import MISSING, format_bytes, format_change, format_count, format_duration, format_measurement
from optimizer.specs import Decision, Effect, Measurement, TensorSpec
from parka.dashboard import words
from parka.experiments.models import Run, RunState
from parka.scorecards.models import Scorecard

register = template.Library()
register.filter("amount", format_count)
register.filter("filesize", format_bytes)
register.filter("duration", format_duration)

LEADING = re.compile(r"^(?:slowest of [\d,]+: )?(?P<number>[~×≈]?[$]?−?[\d.,]*\d)")
STANDINGS: dict[Standing, tuple[str, str, str]] = {
    Standing.PASS: ("pass", "check", "Pass"),
    Standing.FAIL: ("fail", "x", "Fail"),
    Standing.UNPROVEN: ("unproven", "question-mark", "Unproven"),
    Standing.ESTIMATED: ("none", "circle-dashed", "Estimated"),
    Standing.NOT_MEASURED: ("none", "minus", "Not measured"),
}
DECISIONS: dict[Decision, tuple[str, str, str]] = {
    Decision.WINNER: ("pass", "trophy", "Winner"),
    Decision.KEEP_ORIGINAL: ("none", "equal", "Keep the original"),
    Decision.INCONCLUSIVE: ("unproven", "question-mark", "Inconclusive"),
}
EFFECTS = {Effect.FASTER: "better", Effect.SLOWER: "worse"}
TONES: dict[str, str] = {
    RunState.QUEUED: "",
    RunState.RUNNING: "live",
    RunState.CANCELLING: "attention",
    RunState.FINISHED: "good",
    RunState.FAILED: "bad",
    RunState.CANCELLED: "attention",
    RunState.LOST: "bad",
}


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """An icon of our sprite; decorative unless it has a label."""
    target = f"{static('vendor/icons.svg')}#{name}"
    if label:
        return format_html('<svg class="pk-i" role="img" aria-label="{}"><use href="{}"/></svg>', label, target)
    return format_html('<svg class="pk-i" aria-hidden="true" focusable="false"><use href="{}"/></svg>', target)


@register.simple_tag
def ago(moment: datetime | None, empty: str = "never") -> SafeString:
    """A time, relative when recent, exact on hover."""
    if moment is None:
        return format_html('<span class="pk-muted">{}</span>', empty)
    exact = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time class="pk-nowrap" datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, words.ago(moment))


@register.simple_tag
def num(measurement: Measurement | None, unit: str | None = None) -> SafeString:
    """A measurement with its interval and unit, its value in bold."""
    text = format_measurement(measurement, unit)
    if measurement is None or text.startswith(MISSING):
        return format_html('<span class="pk-muted">{}</span>', MISSING if measurement is None else text)
    found = LEADING.match(text)
    start, end = found.span("number") if found else (0, len(text))
    estimated = SafeString(" data-estimated") if measurement.provenance.is_estimate else ""
    return format_html('<span class="pk-num"{}><i>{}</i><b>{}</b><i>{}</i></span>', estimated, text[:start], text[start:end], text[end:])


@register.simple_tag
def delta(change: Change | None, margin: float = 0.03) -> SafeString | str:
    """A change against the baseline; coloured only when the interval lies wholly beyond the margin."""
    if change is None:
        return ""
    head, bracket, tail = format_change(change, margin).partition(" [")
    effect = EFFECTS.get(change.effect, "")
    return format_html('<span class="pk-delta" data-effect="{}"><b>{}</b>{}{}</span>', effect, head, bracket, tail)


@register.simple_tag
def standing(value: Standing | None) -> SafeString | str:
    """The chip of a verdict, or of what is no verdict: sign and word, never colour alone."""
    if value is None or value not in STANDINGS:
        return ""
    return _chip(*STANDINGS[value])


@register.simple_tag
def decision(value: Decision | str) -> SafeString:
    """The chip of how a search ended."""
    return _chip(*DECISIONS[Decision(value)])


@register.simple_tag
def marks(card: Scorecard) -> SafeString:
    """The verdicts of a scorecard as a row of signs with one spoken sentence."""
    counted = (("pass", "check", card.passed), ("fail", "x", card.failed), ("unproven", "question-mark", card.unproven))
    signs = [(kind, icon(sign)) for kind, sign, count in counted for _ in range(count)]
    spoken = ", ".join(f"{count} {kind}" for kind, _, count in counted if count) or "no targets"
    if not signs:
        return format_html('<span class="pk-muted">{}</span>', spoken)
    drawn = format_html_join("", '<span data-verdict="{}">{}</span>', signs)
    return format_html('<span class="pk-marks" role="img" aria-label="{}" title="{}">{}</span>', spoken, spoken, drawn)


@register.simple_tag
def run_state(run: Run) -> SafeString:
    """A run's state as dot and word."""
    return format_html('<span class="pk-state" data-tone="{}">{}</span>', TONES[run.state], run.get_state_display())


@register.inclusion_tag("components/_provenance.html")
def provenance(row: Any) -> dict[str, Any]:
    """A number that opens its origin; plain when there is none."""
    return {"row": row}


@register.simple_tag
def shape(tensor: TensorSpec) -> str:
    """``[batch, 3, 224, 224]``; a dim without size or name is ``?``."""
    if not tensor.ranked:
        return "any rank"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in tensor.shape) + "]"


@register.simple_tag
def account_field(field: BoundField) -> SafeString:
    """A field of a form that is not ours, with our classes, label and errors."""
    checkbox = field.widget_type == "checkbox"
    control = field.as_widget(attrs={"class": "form-check-input" if checkbox else "form-control"})
    if checkbox:
        return format_html('<label class="form-check" for="{}">{}<span>{}</span></label>', field.id_for_label, control, field.label)
    errors = (
        format_html('<div class="pk-error" id="{}_error">{}</div>', field.auto_id, " ".join(str(error) for error in field.errors))
        if field.errors
        else ""
    )
    return format_html('<div class="pk-field"><label for="{}">{}</label>{}{}</div>', field.id_for_label, field.label, control, errors)


@register.filter
def pretty_json(value: object) -> str:
    """Indented JSON of a spec or plain value, for reading; it is escaped like any text."""
    plain = value if isinstance(value, dict | list | str | int | float | None) else to_jsonable(value)
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _chip(kind: str, sign: str, word: str) -> SafeString:
    return format_html('<span class="pk-verdict" data-verdict="{}">{}{}</span>', kind, icon(sign), word)
