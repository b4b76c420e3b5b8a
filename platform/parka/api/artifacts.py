"""``/artifacts``: what the team has, by content, and its bytes."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from parka.api.downloads import blob_response
from parka.api.resource import Resource
from parka.registry import selectors
from parka.registry.models import Artifact, ArtifactRole


class ArtifactSerializer(serializers.Serializer):
    """A file of the team, named by its content."""

    id = serializers.CharField(source="public_id")
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()
    role = serializers.ChoiceField(choices=ArtifactRole.choices)
    file_name = serializers.CharField()
    missing = serializers.BooleanField(help_text="The bytes are no longer on the server.")
    created_at = serializers.DateTimeField()


class Artifacts(Resource):
    """Files of the team."""

    @extend_schema(
        operation_id="list_artifacts",
        tags=["artifacts"],
        parameters=[OpenApiParameter("sha256", str, description="Only this content: already uploaded by your team?")],
        responses=ArtifactSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Files of the team; with ``sha256`` a check before an upload, which answers for your own team only."""
        sha256 = request.query_params.get("sha256", "").lower()
        return self.page(selectors.artifacts(self.access, sha256=sha256), lambda row: ArtifactSerializer(row).data)


class ArtifactDetail(Resource):
    """One file."""

    @extend_schema(operation_id="get_artifact", tags=["artifacts"], responses=ArtifactSerializer)
    def get(self, request: Request, artifact_id: str) -> Response:
        """Size, content hash and role of a file."""
        return Response(ArtifactSerializer(selectors.artifact(self.access, artifact_id)).data)


class ArtifactContent(Resource):
    """The bytes of one file."""

    @extend_schema(
        operation_id="download_artifact",
        tags=["artifacts"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, artifact_id: str) -> object:
        """The bytes, as an attachment; the ETag is the sha256."""
        artifact = selectors.artifact(self.access, artifact_id)
        return blob_response(request._request, sha256=artifact.sha256, file_name=download_name(artifact))


def download_name(artifact: Artifact) -> str:
    """The uploaded name; without one, a name that says what it is."""
    return artifact.file_name or f"{artifact.role}-{artifact.sha256[:12]}"
