"""Routes of the platform."""

from django.urls import include, path

from parka import health
from parka.accounts.web import use_login_link
from parka.api import documents

urlpatterns = [
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("accounts/link/<str:token>/", use_login_link, name="login_link"),
    path("accounts/", include("allauth.urls")),
    path("api/docs/", documents.docs, name="api_docs"),
    path("problems/<str:code>/", documents.problem_page, name="problem_page"),
    path("api/v1/agent/", include("parka.api.agent.urls")),
    path("api/v1/", include("parka.api.urls")),
    path("", include("parka.dashboard.urls")),
]

handler403 = "parka.dashboard.views.errors.forbidden"
handler404 = "parka.dashboard.views.errors.not_found"
handler500 = "parka.dashboard.views.errors.server_failed"
