"""``/datasets``: labelled or calibration samples."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.api.artifacts import ArtifactSerializer
from parka.api.idempotency import once
from parka.api.links import api_link
from parka.api.references import uploaded_artifact
from parka.api.resource import CountSerializer, Resource, total
from parka.registry import selectors
from parka.registry.models import ArtifactRole, Dataset, Intake
from parka.workflow.intake import submit_dataset


class DatasetSerializer(serializers.Serializer):
    """Samples of the team; ``card`` (arrays, samples, labels) once ready, ``code`` and ``message`` once rejected."""

    id = serializers.CharField(source="public_id")
    slug = serializers.CharField()
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=Intake.choices)
    code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    metric = serializers.CharField(allow_blank=True)
    artifact = ArtifactSerializer()
    card = serializers.JSONField(allow_null=True)
    uploaded_by = serializers.CharField(source="uploaded_by.display_name", default=None, allow_null=True)
    created_at = serializers.DateTimeField()


class NewDatasetSerializer(serializers.Serializer):
    """A complete upload of role dataset (.npz: one array per model input, optionally ``label``)."""

    upload = serializers.CharField(max_length=40)
    name = serializers.CharField(max_length=120, required=False, default="")
    metric = serializers.CharField(max_length=40, required=False, default="", allow_blank=True)


class Datasets(Resource):
    """Datasets of the team."""

    @extend_schema(operation_id="list_datasets", tags=["datasets"], responses=DatasetSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Datasets, newest first."""
        return self.page(selectors.datasets(self.access), lambda row: DatasetSerializer(row).data)

    @extend_schema(operation_id="create_dataset", tags=["datasets"], request=NewDatasetSerializer, responses={201: DatasetSerializer})
    def post(self, request: Request) -> Response:
        """A dataset from an upload; it is being inspected."""
        return once(request, self._create)

    def _create(self) -> Response:
        body = self.read(NewDatasetSerializer)
        artifact = uploaded_artifact(self.access, body["upload"], ArtifactRole.DATASET)
        dataset = submit_dataset(self.access, artifact=artifact, name=body["name"], metric=body["metric"])
        return Response(shown(dataset), status=201, headers={"Location": api_link("datasets", dataset.slug), "Retry-After": "1"})


class DatasetCount(Resource):
    """How many datasets there are."""

    @extend_schema(operation_id="count_datasets", tags=["datasets"], responses=CountSerializer)
    def get(self, request: Request) -> Response:
        """Total of the list."""
        return total(selectors.datasets(self.access))


class DatasetDetail(Resource):
    """One dataset, by slug or id."""

    @extend_schema(operation_id="get_dataset", tags=["datasets"], responses=DatasetSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """A dataset: state, card or refusal."""
        return Response(DatasetSerializer(selectors.dataset(self.access, slug)).data)


def shown(dataset: Dataset) -> dict[str, Any]:
    dataset.refresh_from_db()
    return dict(DatasetSerializer(dataset).data)
