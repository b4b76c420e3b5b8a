"""Addresses of the public API; an API token is bound to one team, so no address names a team."""

from django.urls import path

from parka.api import uploads
from parka.api.agent.blobs import blob

urlpatterns = [
    path("blobs/<str:sha256>", blob, name="api_blob"),
    path("uploads", uploads.uploads_root, name="api_uploads"),
    path("uploads/<str:upload_id>", uploads.upload_detail, name="api_upload"),
]
