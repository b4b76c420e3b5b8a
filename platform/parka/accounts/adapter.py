"""Sign-in rules for django-allauth: sign-up is closed unless the operator opens it; every sign-in is audited."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from parka import env
from parka.audit.services import record
from parka.core.addresses import client_address


class AccountAdapter(DefaultAccountAdapter):
    """Parka's answers to allauth's questions."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return env.flag("PARKA_OPEN_SIGNUP")

    def get_client_ip(self, request: HttpRequest) -> str:
        """Address for the login rate limits, by the configured proxy count."""
        return client_address(request)

    def post_login(self, request: HttpRequest, user: Any, **options: Any) -> HttpResponse:
        with transaction.atomic():
            record("login.succeeded", actor=user.email, address=client_address(request))
        response: HttpResponse = super().post_login(request, user, **options)
        return response

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        super().authentication_failed(request, **credentials)
        with transaction.atomic():
            record("login.failed", actor=str(credentials.get("email") or ""), address=client_address(request))
