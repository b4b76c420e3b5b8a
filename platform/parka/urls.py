"""Routes of the platform."""

from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("api/v1/agent/", include("parka.api.agent.urls")),
    path("api/v1/", include("parka.api.urls")),
    path("", include("parka.dashboard.urls")),
]
