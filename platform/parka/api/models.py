"""``/models`` and their versions."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from optimizer.specs import ModelCard
from parka.accounts.access import Access
from parka.api.artifacts import ArtifactSerializer
from parka.api.fields import SpecField
from parka.api.idempotency import once
from parka.api.links import api_link, page_link
from parka.api.references import uploaded_artifact
from parka.api.resource import CountSerializer, Resource, total
from parka.registry import selectors, services
from parka.registry.models import ArtifactRole, Intake, Model, ModelVersion
from parka.workflow.intake import submit_version


class ModelSerializer(serializers.Serializer):
    """A named network."""

    id = serializers.CharField(source="public_id")
    slug = serializers.CharField()
    name = serializers.CharField()
    version_count = serializers.IntegerField(required=False)
    latest_version = serializers.IntegerField(source="latest_number", allow_null=True, required=False)
    archived_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class VersionSerializer(serializers.Serializer):
    """One uploaded file set of a model; ``card`` once ready, ``code`` and ``message`` once rejected."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField(source="__str__", help_text="Such as resnet50@7.")
    model = serializers.CharField(source="model.slug")
    number = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Intake.choices)
    code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    artifact = ArtifactSerializer()
    card = SpecField(ModelCard, allow_null=True)
    uploaded_by = serializers.CharField(source="uploaded_by.display_name", default=None, allow_null=True)
    created_at = serializers.DateTimeField()


class VersionDetailSerializer(VersionSerializer):
    """A version with its links, and the earlier one with the same bytes if there is one."""

    identical_to = serializers.CharField(allow_null=True, help_text="An earlier version with the same bytes.")
    links = serializers.DictField(child=serializers.CharField())


class NewModelSerializer(serializers.Serializer):
    """A complete upload of role model, and the name of the new model (default: the file's name)."""

    upload = serializers.CharField(max_length=40)
    name = serializers.CharField(max_length=120, required=False, default="")


class NewVersionSerializer(serializers.Serializer):
    """A complete upload of role model."""

    upload = serializers.CharField(max_length=40)


class ModelChangeSerializer(serializers.Serializer):
    """What may change of a model."""

    name = serializers.CharField(max_length=120, required=False)
    archived = serializers.BooleanField(required=False)


FILTERS = [
    OpenApiParameter("q", str, description="Part of the name."),
    OpenApiParameter("archived", bool, description="Only archived models."),
]


class Models(Resource):
    """Models of the team."""

    @extend_schema(operation_id="list_models", tags=["models"], parameters=FILTERS, responses=ModelSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Models, newest first."""
        return self.page(wanted(self.access, request), lambda row: ModelSerializer(row).data)

    @extend_schema(operation_id="create_model", tags=["models"], request=NewModelSerializer, responses={201: VersionDetailSerializer})
    def post(self, request: Request) -> Response:
        """A new model from an upload; answers with its first version, which is being inspected."""
        return once(request, self._create)

    def _create(self) -> Response:
        body = self.read(NewModelSerializer)
        artifact = uploaded_artifact(self.access, body["upload"], ArtifactRole.MODEL)
        return created(submit_version(self.access, artifact=artifact, name=body["name"]))


class ModelCount(Resource):
    """How many models there are."""

    @extend_schema(operation_id="count_models", tags=["models"], parameters=FILTERS, responses=CountSerializer)
    def get(self, request: Request) -> Response:
        """Total of the list."""
        return total(wanted(self.access, request))


class ModelDetail(Resource):
    """One model, by slug or id."""

    @extend_schema(operation_id="get_model", tags=["models"], responses=ModelSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """A model."""
        return Response(ModelSerializer(selectors.model(self.access, slug)).data)

    @extend_schema(operation_id="change_model", tags=["models"], request=ModelChangeSerializer, responses=ModelSerializer)
    def patch(self, request: Request, slug: str) -> Response:
        """Rename, archive or restore a model; its slug stays."""
        model, body = selectors.model(self.access, slug), self.read(ModelChangeSerializer)
        if "name" in body:
            services.rename_model(self.access, model=model, name=body["name"])
        if "archived" in body:
            (services.archive_model if body["archived"] else services.restore_model)(self.access, model=model)
        return Response(ModelSerializer(selectors.model(self.access, slug)).data)


class Versions(Resource):
    """Versions of one model."""

    @extend_schema(operation_id="list_versions", tags=["models"], responses=VersionSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """Versions, newest first."""
        return self.page(
            selectors.versions(selectors.model(self.access, slug)), lambda row: VersionSerializer(row).data, ordering="-number"
        )

    @extend_schema(operation_id="create_version", tags=["models"], request=NewVersionSerializer, responses={201: VersionDetailSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """The next version from an upload; it is being inspected."""
        model = selectors.model(self.access, slug)
        return once(request, lambda: self._create(model))

    def _create(self, model: Model) -> Response:
        artifact = uploaded_artifact(self.access, self.read(NewVersionSerializer)["upload"], ArtifactRole.MODEL)
        return created(submit_version(self.access, artifact=artifact, model=model))


class VersionDetail(Resource):
    """One version."""

    @extend_schema(operation_id="get_version", tags=["models"], responses=VersionDetailSerializer)
    def get(self, request: Request, slug: str, number: int) -> Response:
        """A version: state, card or refusal."""
        return Response(shown(selectors.version(self.access, slug, number)))


class VersionById(Resource):
    """One version by its id or name."""

    @extend_schema(operation_id="get_version_by_id", tags=["models"], responses=VersionDetailSerializer)
    def get(self, request: Request, version_id: str) -> Response:
        """A version by ``ver_…`` or ``resnet50@7``."""
        return Response(shown(selectors.version_by_id(self.access, version_id)))


def wanted(access: Access, request: Request) -> Any:
    rows = selectors.models(access, archived=request.query_params.get("archived", "").lower() in ("1", "true"))
    text = request.query_params.get("q", "")[:120]
    return rows.filter(name__icontains=text) if text else rows


def shown(version: ModelVersion) -> dict[str, Any]:
    """A version with what only its own page needs."""
    same = selectors.identical_version(version)
    path = ("models", version.model.slug, "versions", version.number)
    links = {"self": api_link(*path), "page": page_link(version.model.team, "models", version.model.slug)}
    return {**VersionSerializer(version).data, "identical_to": str(same) if same else None, "links": links}


def created(version: ModelVersion) -> Response:
    fresh = ModelVersion.objects.select_related("model__team", "artifact", "uploaded_by").get(pk=version.pk)
    body = shown(fresh)
    return Response(body, status=201, headers={"Location": body["links"]["self"], "Retry-After": "1"})
