"""Models: list, upload, one version."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from optimizer.specs import ModelCard
from parka.accounts.access import Access, Capability
from parka.core.errors import PlatformError
from parka.dashboard.facts import card_precision, card_traits
from parka.dashboard.filters import ModelFilter
from parka.dashboard.forms import ModelForm
from parka.dashboard.lists import paged, show_list
from parka.dashboard.pages import crumb, show, team_view
from parka.dashboard.tables import ModelTable, card_of
from parka.dashboard.uploads import MODEL_UPLOAD, received_artifact, upload_zone
from parka.experiments.selectors import experiments
from parka.registry import selectors
from parka.registry.models import ArtifactRole, Intake, Model, ModelVersion
from parka.workflow.intake import submit_version

WAITING = (Intake.UPLOADED, Intake.INSPECTING)
BAR_WIDTH = 120


@require_GET
@team_view
def model_list(request: HttpRequest, access: Access) -> HttpResponse:
    """All models of the team."""
    filters = ModelFilter(request.GET, queryset=selectors.models(access))
    table = paged(request, ModelTable(filters.qs, label="Models", team=access.team))
    _add_newest(access, [row.record for row in table.paginated_rows])
    context = {
        "title": "Models",
        "section": "models",
        "subtitle": "Named networks and their versions",
        "empty": "models/_empty.html",
        "may_upload": access.may(Capability.UPLOAD),
    }
    return show_list(request, access, "models/list.html", table=table, filters=filters, context=context)


@require_http_methods(["GET", "POST"])
@team_view
def model_new(request: HttpRequest, access: Access) -> HttpResponse:
    """Upload a model by tus or as a plain form, then save it as a version."""
    access.require(Capability.UPLOAD)
    names = [(model.slug, model.name) for model in selectors.models(access)]
    form = ModelForm(request.POST or None, models=names, initial={"target": request.GET.get("model", "")})
    if request.method == "POST" and form.is_valid():
        try:
            artifact = received_artifact(request, access, role=ArtifactRole.MODEL)
            target = form.cleaned_data.get("target")
            model = selectors.model(access, target) if target else None
            version = submit_version(access, artifact=artifact, model=model, name=form.cleaned_data["name"])
            return redirect("version", access.team.slug, version.model.slug, version.number)
        except PlatformError as error:
            if error.status in (403, 404):
                raise
            form.take(error, fields={"/name": "name"})
    context = {
        "title": "Upload model",
        "section": "models",
        "crumbs": [crumb(access, "Models", "models")],
        "form": form,
        "upload": upload_zone(access, MODEL_UPLOAD, back=reverse("models", args=[access.team.slug])),
        "api_root": request.build_absolute_uri("/api/v1"),
    }
    return show(request, access, "models/new.html", context, status=422 if form.errors else 200)


@require_GET
@team_view
def model_detail(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """A model by its newest version."""
    model = selectors.model(access, slug)
    newest = selectors.versions(model).first()
    return _show_version(request, access, model, selectors.version(access, slug, newest.number if newest else 0))


@require_GET
@team_view
def version_detail(request: HttpRequest, access: Access, slug: str, number: int) -> HttpResponse:
    """One version of a model."""
    return _show_version(request, access, selectors.model(access, slug), selectors.version(access, slug, number))


def _show_version(request: HttpRequest, access: Access, model: Model, version: ModelVersion) -> HttpResponse:
    card = card_of(version)
    context: dict[str, Any] = {
        "title": f"{model.name} @{version.number}",
        "section": "models",
        "crumbs": [crumb(access, "Models", "models")],
        "model": model,
        "version": version,
        "versions": list(selectors.versions(model)),
        "waiting": version.state in WAITING,
        "may_upload": access.may(Capability.UPLOAD),
        "may_run": access.may(Capability.RUN),
        **(_card_context(access, version, card) if card else {}),
    }
    return show(request, access, "models/detail.html", context, fragment="models/_detail.html")


def _card_context(access: Access, version: ModelVersion, card: ModelCard) -> dict[str, Any]:
    twin = selectors.identical_version(version)
    return {
        "card": card,
        "precision": card_precision(card),
        "traits": card_traits(card),
        "operators": operator_lines(card),
        "twins": [twin] if twin else [],
        "experiments": list(experiments(access).filter(version=version)[:10]),
    }


def operator_lines(card: ModelCard) -> list[dict[str, Any]]:
    """Operators by count with the width of their bar."""
    ordered = sorted(card.operators.items(), key=lambda item: (-item[1], item[0]))
    most = max(card.operators.values(), default=1)
    return [{"name": name, "count": count, "width": round(BAR_WIDTH * count / most, 1)} for name, count in ordered]


def _add_newest(access: Access, models: list[Model]) -> None:
    """Put the newest version and its card on each model, in one query."""
    newest: dict[int, ModelVersion] = {}
    for version in selectors.all_versions(access).filter(model__in=[model.pk for model in models]).order_by("number"):
        newest[version.model_id] = version
    for model in models:
        vars(model).update(newest=newest.get(model.pk), card=card_of(newest.get(model.pk)))
