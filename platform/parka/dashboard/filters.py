"""Filters of the lists; every one is a query parameter, unknown values are ignored."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms
from django.db.models import Q, QuerySet

from parka.experiments.models import Experiment, Run, RunState
from parka.fleet.models import Agent
from parka.registry.models import Dataset, Intake, Model


def _search(label: str) -> forms.TextInput:
    return forms.TextInput(attrs={"type": "search", "class": "form-control pk-search", "placeholder": label, "autocomplete": "off"})


def _select() -> forms.Select:
    return forms.Select(attrs={"class": "form-select"})


class ListFilter(django_filters.FilterSet):
    """A filter that knows whether it narrows anything."""

    @property
    def is_active(self) -> bool:
        return any(self.data.get(name) for name in self.filters)


class ModelFilter(ListFilter):
    """Models by name and by the state of their newest version."""

    q = django_filters.CharFilter(label="Filter by name", method="by_name", widget=_search("Filter by name"))

    class Meta:
        model = Model
        fields: tuple[str, ...] = ()

    def by_name(self, rows: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        return rows.filter(Q(name__icontains=value) | Q(slug__icontains=value))


class DatasetFilter(ListFilter):
    """Datasets by name and state."""

    q = django_filters.CharFilter(label="Filter by name", field_name="name", lookup_expr="icontains", widget=_search("Filter by name"))
    state = django_filters.ChoiceFilter(label="State", choices=Intake.choices, empty_label="Any state", widget=_select())

    class Meta:
        model = Dataset
        fields: tuple[str, ...] = ()


class ExperimentFilter(ListFilter):
    """Experiments by title or model."""

    q = django_filters.CharFilter(label="Filter by title or model", method="by_words", widget=_search("Title or model"))

    class Meta:
        model = Experiment
        fields: tuple[str, ...] = ()

    def by_words(self, rows: QuerySet[Experiment], name: str, value: str) -> QuerySet[Experiment]:
        return rows.filter(Q(title__icontains=value) | Q(version__model__slug__icontains=value))


VERDICTS = (("fail", "Failing"), ("unproven", "Unproven"), ("pass", "All pass"))


class RunFilter(ListFilter):
    """Runs by model, state, agent and verdict."""

    q = django_filters.CharFilter(
        label="Filter by model", field_name="experiment__version__model__slug", lookup_expr="icontains", widget=_search("Model")
    )
    state = django_filters.ChoiceFilter(label="State", choices=RunState.choices, empty_label="Any state", widget=_select())
    agent = django_filters.ChoiceFilter(label="Agent", field_name="agent__slug", empty_label="Any agent", widget=_select())
    verdict = django_filters.ChoiceFilter(
        label="Verdict", method="by_verdict", choices=VERDICTS, empty_label="Any verdict", widget=_select()
    )

    class Meta:
        model = Run
        fields: tuple[str, ...] = ()

    def __init__(self, *args: Any, agents: QuerySet[Agent], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.filters["agent"].extra["choices"] = [(agent.slug, agent.name) for agent in agents]

    def by_verdict(self, rows: QuerySet[Run], name: str, value: str) -> QuerySet[Run]:
        conditions = {
            "fail": Q(scorecards__failed__gt=0),
            "unproven": Q(scorecards__unproven__gt=0),
            "pass": Q(scorecards__passed__gt=0, scorecards__failed=0, scorecards__unproven=0),
        }
        return rows.filter(conditions[value]).distinct()
