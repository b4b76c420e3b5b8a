"""The lists as django-tables2 tables."""

from __future__ import annotations

from typing import Any

import django_tables2 as tables
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from optimizer.codec import from_jsonable
from optimizer.score.wording import MISSING, format_bytes, format_count, format_duration
from optimizer.specs import Measurement, ModelCard
from parka.accounts.models import Team
from parka.audit.models import SecurityEvent
from parka.dashboard.facts import card_precision
from parka.dashboard.run_cards import RunLine
from parka.dashboard.templatetags import parka as tags
from parka.experiments.models import Experiment, Run
from parka.registry.models import Dataset, Intake, Model, ModelVersion

RIGHT = {"th": {"class": "pk-r"}, "td": {"class": "pk-r"}}
ROW_HEAD = {"td": {"scope": "row"}}
INTAKE_TONES = {Intake.READY: "good", Intake.REJECTED: "bad"}


class MeasurementColumn(tables.Column):
    """Value ± half-width; missing is a dash, never 0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(attrs=RIGHT, orderable=False, empty_values=(), **options)

    def render(self, value: Measurement | None) -> SafeString:
        return tags.num(value)


class ParkaTable(tables.Table):
    """A table in our look; ``label`` names it for screen readers, ``team`` makes its links."""

    def __init__(self, *args: Any, label: str, team: Team, **kwargs: Any) -> None:
        self.label, self.team = label, team
        super().__init__(*args, template_name="components/_table.html", **kwargs)

    def link(self, text: str, name: str, *args: object) -> SafeString:
        """A row's own link."""
        return format_html('<a class="pk-name" href="{}">{}</a>', reverse(name, args=[self.team.slug, *args]), text)


class ModelTable(ParkaTable):
    """Models with the facts of their newest version (``newest``, ``card`` set by the view)."""

    name = tables.Column(attrs=ROW_HEAD)
    state = tables.Column(accessor="newest", orderable=False, empty_values=())
    task = tables.Column(accessor="card", orderable=False, empty_values=())
    format = tables.Column(accessor="card", orderable=False, empty_values=())
    params = tables.Column(accessor="card", verbose_name="Parameters", orderable=False, empty_values=(), attrs=RIGHT)
    flops = tables.Column(accessor="card", verbose_name="FLOPs", orderable=False, empty_values=(), attrs=RIGHT)
    precision = tables.Column(accessor="card", orderable=False, empty_values=())
    version_count = tables.Column(verbose_name="Versions", attrs=RIGHT)
    created_at = tables.Column(verbose_name="Added")

    def render_name(self, record: Model) -> SafeString:
        return self.link(record.name, "model", record.slug)

    def render_state(self, value: ModelVersion | None) -> SafeString | str:
        return MISSING if value is None else intake_chip(value)

    def render_task(self, value: ModelCard | None) -> str:
        return MISSING if value is None else str(value.task)

    def render_format(self, value: ModelCard | None) -> str:
        return MISSING if value is None else f"{value.format.upper()} {value.opset}"

    def render_params(self, value: ModelCard | None) -> str:
        return MISSING if value is None else format_count(value.parameters)

    def render_flops(self, value: ModelCard | None) -> str:
        return MISSING if value is None else format_count(value.flops)

    def render_precision(self, value: ModelCard | None) -> str:
        return MISSING if value is None else card_precision(value)

    def render_created_at(self, record: Model) -> SafeString:
        return tags.ago(record.created_at)


class DatasetTable(ParkaTable):
    """Datasets."""

    name = tables.Column(attrs=ROW_HEAD)
    state = tables.Column(orderable=False)
    samples = tables.Column(accessor="card", orderable=False, empty_values=(), attrs=RIGHT)
    labels = tables.Column(accessor="card", orderable=False, empty_values=())
    metric = tables.Column(default=MISSING)
    size = tables.Column(accessor="artifact__size_bytes", attrs=RIGHT)
    created_at = tables.Column(verbose_name="Added")

    def render_name(self, record: Dataset) -> SafeString:
        return self.link(record.name, "dataset", record.slug)

    def render_state(self, record: Dataset) -> SafeString:
        return intake_chip(record)

    def render_samples(self, value: dict[str, Any] | None) -> str:
        return MISSING if not value else format_count(value.get("samples"))

    def render_labels(self, value: dict[str, Any] | None) -> str:
        return MISSING if not value else "yes" if value.get("labels") else "no"

    def render_size(self, value: int) -> str:
        return format_bytes(value)

    def render_created_at(self, record: Dataset) -> SafeString:
        return tags.ago(record.created_at)


class ExperimentTable(ParkaTable):
    """Experiments with the states of their runs."""

    number = tables.Column(verbose_name="Experiment", attrs=ROW_HEAD)
    title = tables.Column()
    version = tables.Column(orderable=False)
    runs = tables.Column(orderable=False, empty_values=())
    budget_s = tables.Column(verbose_name="Budget", attrs=RIGHT)
    created_by = tables.Column(verbose_name="By", orderable=False, default=MISSING)
    created_at = tables.Column(verbose_name="Asked")

    def render_number(self, record: Experiment) -> SafeString:
        return self.link(record.label, "experiment", record.label)

    def render_version(self, record: Experiment) -> SafeString:
        version = record.version
        return format_html(
            '<a href="{}">{}</a>', reverse("version", args=[self.team.slug, version.model.slug, version.number]), str(version)
        )

    def render_runs(self, record: Experiment) -> SafeString:
        chips = [format_html("{} {}", tags.run_state(run), run.agent.name) for run in record.runs.all()]
        return format_html("{}" + "<br>{}" * (len(chips) - 1), *chips) if chips else SafeString(MISSING)

    def render_budget_s(self, value: float) -> str:
        return format_duration(value)

    def render_created_by(self, value: Any) -> str:
        return str(value.display_name)

    def render_created_at(self, record: Experiment) -> SafeString:
        return tags.ago(record.created_at)


class RunTable(ParkaTable):
    """Runs to tick for a comparison; ``lines`` holds a RunLine per run on the page."""

    tick = tables.Column(accessor="pk", verbose_name="", orderable=False, attrs={"th": {"class": "pk-c"}, "td": {"class": "pk-c"}})
    number = tables.Column(verbose_name="Run", attrs=ROW_HEAD)
    state = tables.Column()
    model = tables.Column(accessor="experiment__version", orderable=False)
    agent = tables.Column(accessor="agent__name", verbose_name="Agent")
    verdicts = tables.Column(accessor="pk", orderable=False)
    p50 = MeasurementColumn(accessor="pk", verbose_name="p50 latency")
    throughput = MeasurementColumn(accessor="pk", verbose_name="Throughput")
    cost = MeasurementColumn(accessor="pk", verbose_name="Cost")
    created_at = tables.Column(verbose_name="Asked")
    took = tables.Column(accessor="pk", orderable=False, attrs=RIGHT)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lines: dict[int, RunLine] = {}

    def render_tick(self, record: Run) -> SafeString:
        return format_html(
            '<input class="form-check-input" type="checkbox" name="runs" value="{}" aria-label="Select {}">', record.label, record.label
        )

    def render_number(self, record: Run) -> SafeString:
        return self.link(record.label, "run", record.label)

    def render_state(self, record: Run) -> SafeString:
        return tags.run_state(record)

    def render_verdicts(self, record: Run) -> SafeString | str:
        card = self.lines[record.pk].card
        return MISSING if card is None else tags.marks(card)

    def render_p50(self, record: Run) -> SafeString:
        return tags.num(self.lines[record.pk].p50)

    def render_throughput(self, record: Run) -> SafeString:
        return tags.num(self.lines[record.pk].throughput)

    def render_cost(self, record: Run) -> SafeString:
        return tags.num(self.lines[record.pk].cost)

    def render_created_at(self, record: Run) -> SafeString:
        return tags.ago(record.created_at)

    def render_took(self, record: Run) -> str:
        return self.lines[record.pk].words or MISSING


class AuditTable(ParkaTable):
    """Security events; a row opens to what was before and after."""

    created_at = tables.Column(verbose_name="Time (UTC)")
    actor = tables.Column(orderable=False)
    action = tables.Column(orderable=False, attrs=ROW_HEAD)
    target = tables.Column(verbose_name="Object", orderable=False, default=MISSING)
    address = tables.Column(verbose_name="From", orderable=False, default=MISSING)
    change = tables.Column(accessor="after", orderable=False, empty_values=())

    def render_created_at(self, record: SecurityEvent) -> SafeString:
        return format_html(
            '<time class="pk-nowrap" datetime="{}">{}</time>', record.created_at.isoformat(), f"{record.created_at:%Y-%m-%d %H:%M:%S}"
        )

    def render_action(self, value: str) -> SafeString:
        return format_html("<code>{}</code>", value)

    def render_change(self, record: SecurityEvent) -> SafeString | str:
        if record.before is None and record.after is None:
            return MISSING
        text = f"before {tags.pretty_json(record.before)}\nafter {tags.pretty_json(record.after)}\n{record.public_id}"
        return format_html('<details class="pk-disclose"><summary>Show</summary><pre class="pk-small pk-break">{}</pre></details>', text)


def intake_chip(row: ModelVersion | Dataset) -> SafeString:
    """How far an upload has come, as dot and word."""
    tone = INTAKE_TONES.get(Intake(row.state), "live")
    return format_html('<span class="pk-state" data-tone="{}">{}</span>', tone, row.get_state_display())


def card_of(version: ModelVersion | None) -> ModelCard | None:
    """What inspection learned, once it has."""
    return None if version is None or version.card is None else from_jsonable(ModelCard, version.card)
