"""Routes of the platform."""

from django.urls import include, path

from parka import health

urlpatterns = [
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("accounts/", include("allauth.urls")),
    path("api/v1/agent/", include("parka.api.agent.urls")),
    path("api/v1/", include("parka.api.urls")),
    path("", include("parka.dashboard.urls")),
]
