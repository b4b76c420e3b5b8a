"""Who calls: a ``pk_`` bearer token bound to one team, or a signed-in browser that names its team."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication
from rest_framework.request import Request

from parka.accounts.access import Access, access_for
from parka.accounts.models import User
from parka.accounts.selectors import memberships
from parka.accounts.tokens import token_access
from parka.accounts.web import signed_in_recently
from parka.api.throttles import count_guess
from parka.core.addresses import client_address
from parka.core.errors import Forbidden, Refused, Unauthorized

TEAM_HEADER = "Parka-Team"


class TokenAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer pk_…``; ``request.auth`` is the Access."""

    def authenticate(self, request: Request) -> tuple[User, Access] | None:
        scheme, _, plain = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            access = token_access(plain.strip(), address=client_address(request._request))
        except Unauthorized:
            count_guess(client_address(request._request))
            raise
        return access.user, access

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="parka"'


class SessionAuthentication(authentication.SessionAuthentication):
    """The dashboard's session with its CSRF token; the team is named in ``Parka-Team``."""


def access_of(request: Request) -> Access:
    """The caller's access to the team of the request.

    A session of a person in several teams must name one. Raises Unauthorized, NotFound, Refused ``team.required``.
    """
    if isinstance(request.auth, Access):
        return request.auth
    if not request.user.is_authenticated:
        raise Unauthorized("unauthenticated")
    slug = request.headers.get(TEAM_HEADER, "") or _only_team(request.user)
    return access_for(request.user, slug, address=client_address(request._request))


def plain_access(request: HttpRequest) -> Access:
    """``access_of`` for a plain Django view; a session also needs its CSRF token."""
    return access_of(Request(request, authenticators=[TokenAuthentication(), SessionAuthentication()]))


def check_recent_sign_in(request: Request) -> None:
    """Sensitive changes by a browser need a password typed in the last minutes. Raises Forbidden ``auth.reauthenticate``."""
    if request.auth is None and not signed_in_recently(request._request):
        raise Forbidden("auth.reauthenticate")


def _only_team(user: User) -> str:
    slugs = [membership.team.slug for membership in memberships(user)[:2]]
    if len(slugs) != 1:
        raise Refused("team.required")
    return slugs[0]


class TokenScheme(OpenApiAuthenticationExtension):
    """How the bearer token looks in the OpenAPI document."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API token `pk_…`; scopes read, run, admin."}


class SessionScheme(OpenApiAuthenticationExtension):
    """How the browser's session looks in the OpenAPI document."""

    target_class = SessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "parka", "description": "The dashboard's session, with X-CSRFToken."}
