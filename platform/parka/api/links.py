"""Addresses that answers point at: API resources and dashboard pages."""

from __future__ import annotations

from parka.accounts.models import Team

BASE = "/api/v1"


def api_link(*parts: object) -> str:
    """Path of an API resource such as ``/api/v1/runs/run_…``."""
    return "/".join((BASE, *(str(part) for part in parts)))


def page_link(team: Team, *parts: object) -> str:
    """Path of a dashboard page such as ``/t/acme/runs/R-118/``."""
    return "/".join(("/t", team.slug, *(str(part) for part in parts))) + "/"
