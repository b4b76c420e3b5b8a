"""Addresses of the agent protocol, below ``/api/v1/agent/``."""

from django.urls import path

from parka.api.agent import identity, leases, reports, uploads

ATTEMPT = "runs/<str:run>/attempts/<int:attempt>/"

urlpatterns = [
    path("register", identity.register),
    path("start", identity.start),
    path("token/rotate", identity.rotate),
    path("claim", leases.claim),
    path("heartbeat", leases.beat),
    path(f"{ATTEMPT}log", reports.log),
    path(f"{ATTEMPT}artifacts/<str:key>", reports.build),
    path(f"{ATTEMPT}trials/<int:trial>/<str:name>", reports.stage),
    path(f"{ATTEMPT}result", reports.result),
    path(f"{ATTEMPT}uploads", uploads.create),
    path(f"{ATTEMPT}uploads/<str:upload>", uploads.detail),
]
