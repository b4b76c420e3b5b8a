"""The one sentence to copy: subject, size, certainty."""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.kpis import kpi
from optimizer.score.cost import COST
from optimizer.score.evidence import TrialEvidence
from optimizer.score.rows import ScoreRow, change_against
from optimizer.score.wording import format_change
from optimizer.specs import Decision, Effect, InputSource, SearchOutcome, SearchSpec, Verdict

DECISIVE = (Effect.FASTER, Effect.SLOWER)


def write_finding(
    judged: TrialEvidence,
    baseline: TrialEvidence,
    *,
    rows: Sequence[ScoreRow],
    outcome: SearchOutcome,
    spec: SearchSpec,
    nearest: TrialEvidence | None,
) -> str:
    """The finding of a scorecard for its decision."""
    if outcome.decision is Decision.WINNER and judged.trial != 0:
        return _join([_gain(judged, baseline, rows, spec), _fidelity(judged, outcome), _open_targets(rows)])
    close = _nearest(nearest, baseline, outcome=outcome, spec=spec)
    if outcome.decision is Decision.INCONCLUSIVE:
        return _join([f"Undecided, keep the original for now: {_lowered(outcome.reason)}", close, _open_targets(rows)])
    return _join([f"Keep the original: {_lowered(outcome.reason)}", close, _open_targets(rows)])


def _gain(judged: TrialEvidence, baseline: TrialEvidence, rows: Sequence[ScoreRow], spec: SearchSpec) -> str:
    changes = {row.kpi: row.change for row in rows if row.change is not None}
    subject = f"Trial {judged.trial} ({judged.label})"
    against = f"than the baseline ({baseline.label})"
    main = changes.get(spec.objective)
    if main is None:
        return f"{subject} beats the baseline ({baseline.label}) on {_noun(spec.objective)}"
    size = _sized(format_change(main, spec.margin), spec.objective)
    cost = changes.get(COST)
    tail = ""
    if cost is not None and spec.objective != COST and cost.effect in DECISIVE:
        tail = f" and costs {_more_or_less(format_change(cost, spec.margin))} per inference"
    return f"{subject} has {size} {against}{tail}"


def _fidelity(judged: TrialEvidence, outcome: SearchOutcome) -> str:
    """What is known of its outputs; "accuracy preserved" is never said."""
    where = {InputSource.REAL: "real", InputSource.PROXY: "proxy", InputSource.SYNTHETIC: "synthetic"}[outcome.input_source]
    if judged.fidelity is not Verdict.PASS:
        return "That its outputs match the original is not proven"
    matched = (
        "Its outputs agree with the original to rounding"
        if outcome.input_source is InputSource.SYNTHETIC
        else "Its outputs match the original"
    )
    count = f" on {outcome.sealed_examples:,} sealed {where} inputs" if outcome.sealed_examples else ""
    streams = f" in streams of {judged.stream_steps} with the state fed back" if judged.stream_steps > 1 else ""
    return f"{matched}{count}{streams}"


def _open_targets(rows: Sequence[ScoreRow]) -> str:
    mine = [row for row in rows if row.target is not None and not row.default_target]
    missed = [kpi(row.kpi).title for row in mine if row.verdict is Verdict.FAIL]
    unproven = [kpi(row.kpi).title for row in mine if row.verdict is Verdict.UNPROVEN]
    parts = []
    if missed:
        parts.append(f"{_listed(missed)} {_verb(missed, 'misses its target', 'miss their targets')}")
    if unproven:
        parts.append(f"{_listed(unproven)} {_verb(unproven, 'is', 'are')} not proven")
    return "; ".join(parts)


def _nearest(nearest: TrialEvidence | None, baseline: TrialEvidence, *, outcome: SearchOutcome, spec: SearchSpec) -> str:
    if outcome.nearest is None or f"Trial {outcome.nearest}" in outcome.reason:
        return ""
    if nearest is None:
        return f"The closest candidate was Trial {outcome.nearest}"
    subject = f"The closest candidate, Trial {nearest.trial} ({nearest.label})"
    change = change_against(nearest, baseline, spec.objective, outcome=outcome, margin=spec.margin)
    if change is None or change.ratio.value is None:
        return f"{subject}, was not measured on {_noun(spec.objective)}"
    text = format_change(change, spec.margin)
    if change.effect in DECISIVE:
        return f"{subject}, has {_sized(text, spec.objective)}"
    return f"{subject}, is {text.removeprefix('≈ ').removeprefix('? ')} on {_noun(spec.objective)}"


def _sized(change: str, name: str) -> str:
    """``29% lower [28, 30]`` + KPI -> ``29% lower p99 latency [28, 30]``; ``×3.4 [3.3, 3.5]`` -> ``×3.4 the throughput [3.3, 3.5]``."""
    size, bracket, interval = change.partition(" [")
    noun = f"the {_noun(name)}" if size.startswith("×") else _noun(name)
    return f"{size} {noun}{bracket}{interval}"


def _more_or_less(change: str) -> str:
    return change.partition(" [")[0].replace("lower", "less").replace("higher", "more")


def _noun(name: str) -> str:
    title = kpi(name).title
    return title if title[:1] == "p" or title.isupper() else title[:1].lower() + title[1:]


def _lowered(sentence: str) -> str:
    """The reason as the tail of a sentence, without a second "Keep the original"."""
    for start in ("Keep the original: ", "Keep the original. ", "Keep the original "):
        sentence = sentence.removeprefix(start)
    keeps_capital = sentence[1:2].isupper() or sentence.startswith("Trial ")
    return (sentence if keeps_capital else sentence[:1].lower() + sentence[1:]).rstrip(". ") or "nothing was proven better"


def _listed(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _verb(titles: Sequence[str], one: str, many: str) -> str:
    return one if len(titles) == 1 else many


def _join(parts: Sequence[str]) -> str:
    return " ".join(f"{part.rstrip('. ')}." for part in parts if part)
