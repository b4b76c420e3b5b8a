"""The form of a new experiment: from fields to a SearchSpec and back."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms

from optimizer.codec import from_jsonable
from optimizer.errors import InputError
from optimizer.kpis import KPIS, Direction, kpi
from optimizer.measure.traffic import buckets_of
from optimizer.score.wording import format_duration, title_of
from optimizer.specs import Budget, KpiTarget, ModelCard, SearchSpec, TrafficShare
from optimizer.traffic_table import parse_traffic, resolved, traffic_text
from optimizer.units import MIB
from parka.core.errors import PlatformError
from parka.dashboard.forms import PlainForm
from parka.experiments.models import Experiment
from parka.experiments.selectors import spec as spec_of
from parka.fleet.models import Agent
from parka.registry.models import Dataset, ModelVersion

OFFERED = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "throughput_per_s",
    "cost_usd_per_million_inferences",
    "accuracy_delta_pp",
    "memory_peak_host_bytes",
    "model_size_bytes",
)
RELATIVE_TOO = ("latency_p50_ms", "latency_p90_ms", "throughput_per_s")
OBJECTIVES = ("latency_p50_ms", "latency_p90_ms", "throughput_per_s", "cost_usd_per_million_inferences", "model_size_bytes")
DROP = "accuracy_delta_pp"
EXAMPLE_SIZE = 128
HINTS = {
    DROP: "Needs a dataset with labels.",
    "latency_p99_ms": "The quick budget shows p99 without judging it.",
    "cost_usd_per_million_inferences": "Provable with your own prices only.",
}
CUSTOM, QUICK = "custom", "quick"
LEAST_MINUTES, MOST_MINUTES = 0.5, 1440.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetField:
    """A target's number with its sign, and how it is counted."""

    title: str
    sign: str
    unit: str
    hint: str
    value: forms.BoundField
    basis: forms.BoundField | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChoice:
    """An agent to tick."""

    slug: str
    name: str
    words: str
    checked: bool
    disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetChoice:
    """A budget to choose."""

    name: str
    title: str
    words: str
    checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the team can choose from. ``waiting`` counts queued and running runs per agent id."""

    versions: Sequence[ModelVersion]
    datasets: Sequence[Dataset]
    agents: Sequence[Agent]
    waiting: Mapping[int, int]
    online: frozenset[int]


class ExperimentForm(PlainForm):
    """Version, inputs, agents, targets, budget. Targets are ``target_<kpi>`` with ``basis_<kpi>``, sizes ``bind_<place>``."""

    version = forms.ChoiceField(label="Model version")
    dataset = forms.ChoiceField(label="Inputs", required=False, help_text="Real inputs decide what may win.")
    agents = forms.MultipleChoiceField(label="Agents", error_messages={"required": "Choose at least one agent."})
    preset = forms.ChoiceField(label="Budget", choices=[(QUICK, "Quick"), (CUSTOM, "Custom")], initial=QUICK)
    minutes = forms.FloatField(
        label="Custom time (minutes per agent)",
        required=False,
        min_value=LEAST_MINUTES,
        max_value=MOST_MINUTES,
        help_text="Used with Custom only.",
    )
    objective = forms.ChoiceField(label="Improve", choices=[(name, title_of(name)) for name in OBJECTIVES], initial="latency_p50_ms")
    traffic = forms.CharField(
        label="Traffic",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"class": "form-control", "rows": 3}),
        help_text="Requests of several shapes: a table with a column per dimension and weight, or JSON. Empty: the sizes above alone.",
    )
    title = forms.CharField(label="Title", required=False, max_length=160, help_text="Empty: model and agents.")
    key = forms.CharField(widget=forms.HiddenInput, required=False, max_length=80)

    def __init__(self, *args: Any, offer: Offer, version: ModelVersion | None, **kwargs: Any) -> None:
        self.choice = offer
        self.card = _card_of(version)
        super().__init__(*args, **kwargs)
        self._add_targets()
        self._add_bindings()
        self.offer("version", [(str(one), f"{one.model.name} @{one.number}") for one in offer.versions])
        self.offer("dataset", [("", "Shipped text or images, else synthetic"), *((one.slug, one.name) for one in offer.datasets)])
        self.offer("agents", [(one.slug, one.name) for one in offer.agents])
        self.fields["key"].initial = secrets.token_hex(16)

    @property
    def has_models(self) -> bool:
        return bool(self.choice.versions)

    @property
    def has_agents(self) -> bool:
        return bool(self.choice.agents)

    @property
    def binding_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name.startswith("bind_")]

    @property
    def target_fields(self) -> list[TargetField]:
        return [self._target_field(name) for name in OFFERED]

    @property
    def agent_choices(self) -> list[AgentChoice]:
        chosen = set(self["agents"].value() or ())
        return [self._agent_choice(agent, chosen=agent.slug in chosen) for agent in self.choice.agents]

    @property
    def preset_choices(self) -> list[PresetChoice]:
        chosen = self["preset"].value() or QUICK
        quick = f"{format_duration(Budget().total_s)} at most; judges p50, p90 and throughput"
        return [
            PresetChoice(name=QUICK, title="Quick", words=quick, checked=chosen == QUICK),
            PresetChoice(name=CUSTOM, title="Custom", words="as long as you say", checked=chosen == CUSTOM),
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("preset") == CUSTOM and data.get("minutes") is None and "minutes" not in self.errors:
            self.add_error("minutes", "Say how many minutes each agent may use.")
        return data

    def search_spec(self, *, margin: float) -> SearchSpec | None:
        """The question, or None after showing what is wrong beside its field."""
        data = self.cleaned_data
        try:
            budget = self._budget()
        except InputError as error:
            self.add_error("minutes", error.message)
            return None
        traffic = self._traffic()
        targets = [target for name in OFFERED if (target := self._target(name)) is not None]
        if self.errors:
            return None
        return SearchSpec(
            targets=tuple(targets),
            objective=data["objective"],
            budget=budget,
            bindings=self._bindings(),
            traffic=traffic,
            margin=margin,
        )

    def _traffic(self) -> tuple[TrafficShare, ...]:
        """The histogram with the model's own names; what is wrong with it is shown beside the field."""
        text = self.cleaned_data.get("traffic", "").strip()
        if not text:
            return ()
        try:
            rows = resolved(parse_traffic(text, source="The text"), self.card.symbols if self.card else ())
            if self.card:
                buckets_of(self.card, SearchSpec(bindings=self._bindings(), traffic=rows))
        except InputError as error:
            self.add_error("traffic", error.message)
            return ()
        return rows

    def take_refusal(self, error: PlatformError) -> None:
        """Show a refusal of the server beside the fields it names."""
        named = [name for name in OFFERED if self.cleaned_data.get(f"target_{name}") is not None]
        fields = {"/version": "version", "/dataset": "dataset", "/agents": "agents", "/budget_s": "minutes"}
        fields |= {f"/targets/{place}": f"target_{name}" for place, name in enumerate(named)}
        fields |= {"/bindings": self.binding_fields[0].name} if self.binding_fields else {}
        self.take(error, fields=fields)

    def _add_targets(self) -> None:
        for name in OFFERED:
            metric = kpi(name)
            self.fields[f"target_{name}"] = forms.FloatField(
                label=metric.title,
                required=False,
                min_value=0 if name == DROP else None,
                widget=forms.NumberInput(attrs={"class": "form-control", "step": "any", "inputmode": "decimal"}),
            )
            if name in RELATIVE_TOO:
                attrs = {"class": "form-select", "aria-label": f"Unit of the target for {metric.title}"}
                choices = [("absolute", metric.unit), ("relative", "% of baseline")]
                self.fields[f"basis_{name}"] = forms.ChoiceField(choices=choices, required=False, widget=forms.Select(attrs=attrs))

    def _add_bindings(self) -> None:
        for place, symbol in enumerate(self.card.symbols if self.card else ()):
            self.fields[f"bind_{place}"] = forms.IntegerField(
                label=symbol,
                required=False,
                min_value=1,
                max_value=2**31,
                initial=self.card.bindings.get(symbol) if self.card else None,
                help_text="Empty: a sensible size.",
                widget=forms.NumberInput(attrs={"class": "form-control"}),
            )
        self.fields["traffic"].widget.attrs["placeholder"] = traffic_text(_example_traffic(self.card)) if self.card else ""

    def _target_field(self, name: str) -> TargetField:
        metric = kpi(name)
        at_most = metric.direction is Direction.LOWER or name == DROP
        return TargetField(
            title="Accuracy drop" if name == DROP else metric.title,
            sign="≤" if at_most else "≥",
            unit="MiB" if metric.unit == "bytes" else metric.unit,
            hint=HINTS.get(name, ""),
            value=self[f"target_{name}"],
            basis=self[f"basis_{name}"] if f"basis_{name}" in self.fields else None,
        )

    def _agent_choice(self, agent: Agent, *, chosen: bool) -> AgentChoice:
        ahead = self.choice.waiting.get(agent.pk, 0)
        known = agent.profile is not None
        state = "not registered yet" if not known else "online" if agent.pk in self.choice.online else "offline: the run waits"
        words = ", ".join(
            filter(None, (agent.get_state_display().lower() if agent.state == "draining" else state, f"{ahead} ahead" if ahead else ""))
        )
        return AgentChoice(slug=agent.slug, name=agent.name, words=words, checked=chosen and known, disabled=not known)

    def _budget(self) -> Budget:
        if self.cleaned_data["preset"] == QUICK:
            return Budget()
        return Budget(preset=CUSTOM, total_s=float(self.cleaned_data["minutes"] or 0) * 60)

    def _target(self, name: str) -> KpiTarget | None:
        value = self.cleaned_data.get(f"target_{name}")
        if value is None:
            return None
        relative = self.cleaned_data.get(f"basis_{name}") == "relative"
        try:
            return KpiTarget(kpi=name, value=stored_value(name, value, relative=relative), relative=relative)
        except InputError as error:
            self.add_error(f"target_{name}", error.message)
            return None

    def _bindings(self) -> dict[str, int]:
        symbols = self.card.symbols if self.card else ()
        given = {symbol: self.cleaned_data.get(f"bind_{place}") for place, symbol in enumerate(symbols)}
        return {symbol: int(size) for symbol, size in given.items() if size}


def stored_value(name: str, value: float, *, relative: bool) -> float:
    """What a person typed as the engine counts it: percent as a share, MiB as bytes, a drop as a negative change."""
    if relative:
        return value / 100
    if name == DROP:
        return -value
    return value * MIB if KPIS[name].unit == "bytes" else value


def typed_value(target: KpiTarget) -> float:
    """The inverse of ``stored_value``."""
    if target.relative:
        return round(target.value * 100, 6)
    if target.kpi == DROP:
        return -target.value
    return round(target.value / MIB, 6) if kpi(target.kpi).unit == "bytes" else target.value


def initial_of(experiment: Experiment) -> dict[str, Any]:
    """The fields as that experiment had them."""
    spec = spec_of(experiment)
    quick = spec.budget.preset == QUICK
    return {
        "version": str(experiment.version),
        "dataset": experiment.dataset.slug if experiment.dataset else "",
        "agents": [run.agent.slug for run in experiment.runs.all()],
        "preset": QUICK if quick else CUSTOM,
        "minutes": None if quick else round(spec.budget.total_s / 60, 2),
        "objective": spec.objective,
        "traffic": traffic_text(spec.traffic),
        **target_initials(spec.targets),
    }


def target_initials(targets: Iterable[KpiTarget]) -> dict[str, Any]:
    """Target fields of a spec."""
    fields: dict[str, Any] = {}
    for target in targets:
        if target.kpi in OFFERED:
            fields[f"target_{target.kpi}"] = f"{typed_value(target):g}"
            fields[f"basis_{target.kpi}"] = "relative" if target.relative else "absolute"
    return fields


FIRST_TARGETS = (KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True),)


def _card_of(version: ModelVersion | None) -> ModelCard | None:
    return None if version is None or version.card is None else from_jsonable(ModelCard, version.card)


def _example_traffic(card: ModelCard) -> tuple[TrafficShare, ...]:
    """Two shapes in the model's own words: the last open dimension at half its size, and whole; none where that could not be measured."""
    whole = {symbol: card.bindings.get(symbol) or EXAMPLE_SIZE for symbol in card.symbols}
    if not whole:
        return ()
    last = card.symbols[-1]
    rows = (TrafficShare(bindings={**whole, last: max(1, whole[last] // 2)}, weight=3), TrafficShare(bindings=whole))
    try:
        buckets_of(card, SearchSpec(traffic=rows))
    except InputError:
        return ()
    return rows
