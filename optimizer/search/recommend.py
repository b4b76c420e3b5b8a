"""From evidence to an answer: winner, keep the original, or inconclusive, each with its reason and the nearest miss (measurement.md 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from optimizer.kpis import kpi
from optimizer.score.change import change_of
from optimizer.score.wording import format_change, format_measurement, format_target, title_of
from optimizer.search.actions import Conclusion
from optimizer.search.appraise import Appraisal, is_binding
from optimizer.search.arms import COLD_START
from optimizer.search.field import Field, Standing, Trial
from optimizer.search.per_bucket import shape_duels
from optimizer.search.race import CLEAR_LEAD, Race, RaceEnd
from optimizer.search.screen import CERTAIN, ScreenLedger
from optimizer.specs import Decision, Effect, Failure, NotTried, Precision, Recipe, SearchSpec, ShapeDuel, Verdict

PROMISING = 0.5
REAL_INPUTS = "add 500 real inputs to prove it"
OUT_OF_TIME = "The time budget ended before its turn."


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All a finished search knows."""

    spec: SearchSpec
    field: Field
    ledger: ScreenLedger
    race: Race | None
    appraisals: tuple[Appraisal, ...]
    not_tried: tuple[NotTried, ...]
    synthetic: bool
    eligible: frozenset[int]
    fault: Failure | None = None


def conclude(evidence: Evidence) -> Conclusion:
    """The decision. A winner needs every condition of the never-slower guard; noise is never a win."""
    if evidence.fault:
        return Conclusion(decision=Decision.INCONCLUSIVE, reason=evidence.fault.detail, fault=evidence.fault, not_tried=evidence.not_tried)
    winners = [one for one in evidence.appraisals if one.wins] if _race_holds(evidence.race) else []
    if winners:
        best = choose(winners, evidence)
        return _conclusion(evidence, Decision.WINNER, _winning_reason(best, evidence), winner=best.trial)
    open_question = _open_question(evidence)
    if open_question:
        return _conclusion(evidence, Decision.INCONCLUSIVE, open_question)
    return _conclusion(evidence, Decision.KEEP_ORIGINAL, _keeping_reason(evidence))


def choose(winners: Sequence[Appraisal], evidence: Evidence) -> Appraisal:
    """Best on the objective; ties within the margin go to lower accuracy loss, then to fewer changes."""

    def gain(one: Appraisal) -> float:
        return one.standoff.effect.estimate if one.standoff else 0.0

    best = max(gain(one) for one in winners)
    tied = [one for one in winners if gain(one) * (1 + evidence.spec.margin) >= best]
    return min(tied, key=lambda one: (not _is_invariant(one), changes(evidence.field.trials[one.trial].recipe), -gain(one)))


def changes(recipe: Recipe) -> int:
    """How far a recipe is from the upload: passes, a lower precision, and other settings off their default."""
    settings = recipe.settings
    off_default = (
        settings.precision is not Precision.F32,
        settings.spinning is not None,
        settings.streams > 1,
        settings.batch > 1,
        settings.cached,
        settings.bucketed,
    )
    return len(recipe.passes) + sum(off_default) + len(settings.extra)


def _is_invariant(one: Appraisal) -> bool:
    return one.sealed is not None and one.sealed.invariant


def _conclusion(evidence: Evidence, decision: Decision, reason: str, *, winner: int | None = None) -> Conclusion:
    nearest = None if winner is not None else nearest_miss(evidence)
    judged = nearest if winner is None else winner
    shapes = shape_duels(judged, race=evidence.race, spec=evidence.spec) if _race_holds(evidence.race) else ()
    return Conclusion(
        decision=decision,
        reason=reason,
        winner=winner,
        nearest=nearest,
        shapes=shapes,
        duels=tuple(duel for one in evidence.appraisals for duel in one.duels) if _race_holds(evidence.race) else (),
        not_tried=evidence.not_tried,
        warnings=_warnings(evidence)
        + _latency_price(evidence, winner)
        + _start_cache_note(evidence, winner)
        + (_slower_shapes(shapes) if winner is not None else ()),
    )


def _race_holds(race: Race | None) -> bool:
    return race is not None and race.end not in (None, RaceEnd.BASELINE_LOST)


def nearest_miss(evidence: Evidence) -> int | None:
    """The candidate that came closest: best in the race, else fastest in screening, else the first that a gate refused."""
    raced = [one for one in evidence.appraisals if one.standoff]
    if raced:
        return max(raced, key=lambda one: one.standoff.effect.estimate if one.standoff else 0.0).trial
    ranked = evidence.ledger.ranking(evidence.field.screened)
    if ranked:
        return ranked[0]
    return min(evidence.field.at(Standing.REFUSED, Standing.FAILED), default=None)


# winner


def _winning_reason(best: Appraisal, evidence: Evidence) -> str:
    size = _size(best, evidence)
    return f"Trial {best.trial} beats the original in the race: {size} over {best.duels[0].blocks} blocks of fresh starts."


def _size(one: Appraisal, evidence: Evidence) -> str:
    duel = one.duels[0]
    change = format_change(change_of(duel.kpi, duel.speedup, margin=evidence.spec.margin), evidence.spec.margin)
    return f"{_noun(duel.kpi)} {change}"


# inconclusive


def _open_question(evidence: Evidence) -> str:
    """What stands open, as a sentence; empty when everything is decided."""
    race = evidence.race
    if race is not None and race.end is RaceEnd.BASELINE_LOST:
        return f"The original could not be raced: {race.lost[0].detail}"
    for one in evidence.appraisals:
        question = _open_about(one, race, evidence)
        if question:
            return question
    return _unproven_promise(evidence)


def _signals(race: Race) -> str:
    """Which signals disturbed its blocks, in brackets."""
    signals = sorted({reason.split(" ")[0].replace("_", " ") for block in (*race.blocks, *race.invalid) for reason in block.reasons})
    return f" ({', '.join(signals)})" if signals else ""


def _open_about(one: Appraisal, race: Race | None, evidence: Evidence) -> str:
    if race is None or one.trial in race.lost:
        return ""
    name = f"Trial {one.trial}"
    if one.standoff is None:
        held = f"The time budget ended after {len(race.blocks)} race blocks, before the first look at {race.looks[0]}"
        if race.invalid:
            return f"{held}; {len(race.invalid)} more were disturbed{_signals(race)}: run again on a quiet machine or allow more time."
        return f"{held}; allow more time."
    if not one.standoff.decided:
        later = "" if race.end is RaceEnd.LOOKS_USED else " when the time ended; allow more time"
        if race.disturbed:
            later = f", {race.disturbed} of them disturbed{_signals(race)}; run again on a quiet machine or allow more time"
        return f"{name} is not decided against the original after {one.standoff.blocks} blocks{later}: {_size(one, evidence)}."
    open_targets = one.with_verdict(Verdict.UNPROVEN)
    if one.beats_baseline and open_targets and not one.with_verdict(Verdict.FAIL):
        target = open_targets[0]
        return f"{name} is faster, but {_noun(target.target.kpi)} {format_target(target.target)} is not proven: {target.judgement.reason}"
    return ""


def _unproven_promise(evidence: Evidence) -> str:
    """A candidate that screened as faster but whose outputs, or whose race, the data or the time could not prove."""
    for trial, speed in _promises(evidence):
        entrant = evidence.field.trials[trial]
        if _is_settled(entrant, evidence):
            continue
        if evidence.synthetic and trial not in evidence.eligible:
            return f"{speed}, but random inputs cannot show that its outputs still match: {REAL_INPUTS}."
        if entrant.sealed and entrant.sealed.verdict is Verdict.UNPROVEN:
            return f"{speed}, but its outputs are not proven to match the original's: {entrant.sealed.reason}"
        return f"{speed}, but the time budget did not hold its accuracy check and one look of the race; allow more time."
    if not evidence.field.screened and any(one.reason == OUT_OF_TIME for one in evidence.not_tried):
        return "The time budget ended before any candidate was timed; allow more time."
    return ""


def _promises(evidence: Evidence) -> Iterator[tuple[int, str]]:
    """Candidates that may win, as screening saw them: best first, each with the words for it."""
    ledger, screened = evidence.ledger, evidence.field.screened
    if evidence.spec.objective == COLD_START:
        starts = {trial: ledger.start_ratio(trial) for trial in screened if ledger.slower_than_baseline(trial) < CERTAIN}
        for trial in sorted(starts, key=lambda one: -starts[one]):
            if starts[trial] > math.log1p(evidence.spec.margin):
                yield trial, f"Trial {trial} looked {math.exp(starts[trial]):.2g}× as quick to start in screening"
        return
    for trial in ledger.ranking(screened):
        if ledger.may_win(trial) < PROMISING:
            return
        pace = ledger.pace(trial)
        yield trial, f"Trial {trial} looked {pace.speedup:.2g}× as fast in screening" if pace else ""


def _is_settled(entrant: Trial, evidence: Evidence) -> bool:
    """Nothing is open about it: raced, refused on the sealed examples, failed, or beaten by one that was raced."""
    raced = {one.trial for one in evidence.appraisals}
    if entrant.index in raced or entrant.failure is not None:
        return True
    if entrant.sealed is not None and entrant.sealed.verdict is Verdict.FAIL:
        return True
    return any(evidence.ledger.beaten_by(rival, entrant.index) > PROMISING for rival in raced)


# keep the original


def _keeping_reason(evidence: Evidence) -> str:
    for one in evidence.appraisals:
        failed = one.with_verdict(Verdict.FAIL)
        if one.beats_baseline and failed:
            target = failed[0].target
            return f"Trial {one.trial} is faster ({_size(one, evidence)}) but misses {_noun(target.kpi)} {format_target(target)}."
    if evidence.appraisals and evidence.race is not None:
        return _lost_race(evidence.appraisals, evidence)
    screened = evidence.field.screened
    if screened and evidence.spec.objective == COLD_START:
        return f"None of {_counted(len(screened))} looked quicker to start than the original in screening without being slower."
    if screened:
        return f"None of {_counted(len(screened))} was faster than the original by more than {evidence.spec.margin:.0%} in screening."
    return _nothing_stood(evidence)


def _lost_race(appraisals: Sequence[Appraisal], evidence: Evidence) -> str:
    lost = evidence.race.lost if evidence.race else {}
    stood = [one for one in appraisals if one.trial not in lost and one.standoff]
    if not stood:
        return f"The finalist could not be raced: {next(iter(lost.values())).detail}" if lost else "No finalist finished the race."
    best = max(stood, key=lambda one: one.standoff.effect.estimate if one.standoff else 0.0)
    word = "no faster than" if best.standoff and best.standoff.effect.effect is Effect.EQUIVALENT else "slower than"
    return f"The best candidate, Trial {best.trial}, is {word} the original in the race: {_size(best, evidence)}."


def _nothing_stood(evidence: Evidence) -> str:
    refused, failed = evidence.field.at(Standing.REFUSED), evidence.field.at(Standing.FAILED)
    if refused:
        return f"{_counted(len(refused)).capitalize()} changed the outputs beyond the limits, and nothing else could be tried."
    if failed:
        first = evidence.field.trials[min(failed)]
        why = first.failure.detail if first.failure else "no reason given"
        return f"{_counted(len(failed)).capitalize()} could not be built or run; the first because: {why}"
    return "Nothing that could help applies to this model on this machine."


def _warnings(evidence: Evidence) -> tuple[str, ...]:
    found = []
    race = evidence.race
    if race is not None and race.invalid and _race_holds(race):
        found.append(f"{len(race.invalid)} disturbed race blocks were repeated; the signals that tell are blind to results.")
    if race is not None and race.disturbed:
        found.append(
            f"The host was never quiet: {race.disturbed} of {len(race.blocks)} race blocks were disturbed{_signals(race)} and all count; "
            f"intervals are wider, and only a lead of over {CLEAR_LEAD - 1:.0%} was accepted."
        )
    unbound = [target for target in evidence.spec.targets if not is_binding(target)]
    if unbound:
        found.append(f"{_noun(unbound[0].kpi)} is estimated on this machine: its target is shown and did not decide.")
    return tuple(found)


def _latency_price(evidence: Evidence, winner: int | None) -> tuple[str, ...]:
    """Offline guards no latency, for nobody waits for one answer; where a request takes longer, that is said."""
    duels = [duel for one in evidence.appraisals if one.trial == winner and evidence.spec.is_offline for duel in one.duels]
    told = [one for name in ("latency_p50_ms", "latency_mean_ms") for one in duels if one.kpi == name]
    duel = told[0] if told else None
    if duel is None or duel.effect is not Effect.SLOWER or not duel.speedup.value:
        return ()
    longer = f"{1 / duel.speedup.value:.2g}"
    return (
        f"One request takes {longer} times as long as in the original ({title_of(duel.kpi)}): batches and parallel streams trade latency for throughput.",
    )


def _start_cache_note(evidence: Evidence, winner: int | None) -> tuple[str, ...]:
    """What a winner's start cache holds for, and the start without it where the race measured that too."""
    if winner is None or not evidence.field.trials[winner].recipe.settings.cached:
        return ()
    recipe = evidence.field.trials[winner].recipe
    plain = replace(recipe, settings=replace(recipe.settings, cached=False))
    raced = {evidence.field.trials[one.trial].recipe.key: one for one in evidence.appraisals}
    cold = {key: _cold_start(raced[key]) for key in (recipe.key, plain.key) if key in raced}
    both = f" Cold start with it {cold[recipe.key]}, without it {cold[plain.key]}." if len(cold) == 2 else ""
    return (f"The start cache is part of the model's files and works on this kind of processor and runtime version alone.{both}",)


def _slower_shapes(shapes: Sequence[ShapeDuel]) -> tuple[str, ...]:
    """The mix decides; a shape of it that loses by over the margin is named."""
    slower = [one for one in shapes if one.effect is Effect.SLOWER and one.speedup.value]
    told = [f"{one.words} ({one.share:.0%} of the calls, {1 / (one.speedup.value or 1):.2f} times as long)" for one in slower]
    return (f"Over the whole traffic it wins, but it is slower at {'; '.join(told)}.",) if told else ()


def _cold_start(one: Appraisal) -> str:
    return next((format_measurement(found) for found in one.measurements if found.kpi == COLD_START), "not measured")


def _counted(count: int) -> str:
    return "one candidate" if count == 1 else f"{count} candidates"


def _noun(name: str) -> str:
    title = kpi(name).title
    return title if title.startswith("p") else title[:1].lower() + title[1:]
