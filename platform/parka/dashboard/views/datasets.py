"""Datasets: list, upload, one of them."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from parka.accounts.access import Access, Capability
from parka.core.errors import PlatformError
from parka.dashboard.filters import DatasetFilter
from parka.dashboard.forms import DatasetForm
from parka.dashboard.lists import paged, show_list
from parka.dashboard.pages import crumb, show, team_view
from parka.dashboard.tables import DatasetTable
from parka.dashboard.uploads import DATASET_UPLOAD, received_artifact, upload_zone
from parka.dashboard.views.models import WAITING
from parka.registry import selectors
from parka.registry.models import ArtifactRole
from parka.workflow.intake import submit_dataset


@require_GET
@team_view
def dataset_list(request: HttpRequest, access: Access) -> HttpResponse:
    """All datasets of the team."""
    filters = DatasetFilter(request.GET, queryset=selectors.datasets(access))
    table = paged(request, DatasetTable(filters.qs, label="Datasets", team=access.team))
    context = {
        "title": "Datasets",
        "section": "datasets",
        "subtitle": "Inputs that decide what may win",
        "empty": "datasets/_empty.html",
        "may_upload": access.may(Capability.UPLOAD),
    }
    return show_list(request, access, "datasets/list.html", table=table, filters=filters, context=context)


@require_http_methods(["GET", "POST"])
@team_view
def dataset_new(request: HttpRequest, access: Access) -> HttpResponse:
    """Upload a dataset by tus or as a plain form."""
    access.require(Capability.UPLOAD)
    form = DatasetForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            artifact = received_artifact(request, access, role=ArtifactRole.DATASET)
            dataset = submit_dataset(access, artifact=artifact, **form.cleaned_data)
            return redirect("dataset", access.team.slug, dataset.slug)
        except PlatformError as error:
            if error.status in (403, 404):
                raise
            form.take(error, fields={"/name": "name", "/metric": "metric"})
    context = {
        "title": "Upload dataset",
        "section": "datasets",
        "crumbs": [crumb(access, "Datasets", "datasets")],
        "form": form,
        "upload": upload_zone(access, DATASET_UPLOAD, back=reverse("datasets", args=[access.team.slug])),
    }
    return show(request, access, "datasets/new.html", context, status=422 if form.errors else 200)


@require_GET
@team_view
def dataset_detail(request: HttpRequest, access: Access, slug: str) -> HttpResponse:
    """One dataset."""
    dataset = selectors.dataset(access, slug)
    context = {
        "title": dataset.name,
        "section": "datasets",
        "crumbs": [crumb(access, "Datasets", "datasets")],
        "dataset": dataset,
        "waiting": dataset.state in WAITING,
    }
    return show(request, access, "datasets/detail.html", context, fragment="datasets/_detail.html")
