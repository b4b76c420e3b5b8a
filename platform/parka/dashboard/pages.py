"""How a view answers: as a page in the shell, as the fragment of that page, or as an error in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from allauth.core.exceptions import ReauthenticationRequired
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from parka.accounts.access import Access
from parka.accounts.web import signed_in_recently, team_page
from parka.core.errors import FieldError, NotFound, PlatformError
from parka.dashboard.shell import build_shell

Args = ParamSpec("Args")
TeamView = Callable[Concatenate[HttpRequest, Access, Args], HttpResponseBase]
TITLES = {
    403: "Not allowed",
    404: "Nothing here",
    409: "Somebody was faster",
    410: "It is gone",
    413: "Too large",
    429: "Too many requests",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crumb:
    """A step of the path above the heading."""

    label: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage:
    """An error as a person sees it: what happened, what is safe, what to do."""

    status: int
    title: str
    code: str
    message: str
    reference: str = ""
    retry_after_s: int | None = None
    fields: tuple[FieldError, ...] = ()

    @classmethod
    def of(cls, error: PlatformError) -> ErrorPage:
        return cls(
            status=error.status,
            title=TITLES.get(error.status, "This did not work"),
            code=error.code,
            message=error.message,
            retry_after_s=error.retry_after_s,
            fields=error.fields,
        )


def crumb(access: Access, label: str, name: str, *args: object) -> Crumb:
    """A crumb that leads to a named place of the team."""
    return Crumb(label=label, href=reverse(name, args=[access.team.slug, *args]))


def confirm_identity(request: HttpRequest) -> None:
    """Before roles, tokens and agents change: a password typed in the last minutes, else it is asked for and the request resumes."""
    if not signed_in_recently(request):
        raise ReauthenticationRequired


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of the page."""
    return bool(getattr(request, "htmx", False))


def whole_page_again() -> HttpResponse:
    """Tell htmx to load the page anew: what it holds is no longer a part of it (signed out, or another kind of page now)."""
    return HttpResponse(headers={"HX-Refresh": "true"})


def show(
    request: HttpRequest,
    access: Access,
    template: str,
    context: dict[str, Any],
    *,
    fragment: str = "",
    status: int = 200,
) -> HttpResponse:
    """The page, or the fragment it includes when htmx asks; both from the same context."""
    base = {"access": access, "team": access.team, **context}
    if fragment and is_fragment(request):
        return render(request, fragment, base, status=status)
    return render(request, template, {**base, "shell": build_shell(request, access)}, status=status)


def show_error(request: HttpRequest, error: PlatformError, access: Access | None = None) -> HttpResponse:
    """An error as a toast for htmx, in the shell for a member, bare for everybody else."""
    page = ErrorPage.of(error)
    context = {"error": page, "title": page.title}
    if is_fragment(request):
        response = render(request, "errors/_toast.html", context, status=page.status)
    elif access is None:
        response = render(request, "errors/bare.html", context, status=page.status)
    else:
        response = show(request, access, "errors/page.html", context, status=page.status)
    if page.retry_after_s is not None:
        response["Retry-After"] = str(page.retry_after_s)
    return response


def team_view(view: TeamView[Args]) -> Callable[..., HttpResponseBase]:
    """A view of ``(request, access, …)`` as a page under ``/t/<team>/``; refusals become pages with their status and code."""

    @wraps(view)
    def inside(request: HttpRequest, access: Access, *args: Args.args, **kwargs: Args.kwargs) -> HttpResponseBase:
        try:
            return view(request, access, *args, **kwargs)
        except NotFound as error:
            return show_error(request, error)
        except PlatformError as error:
            return show_error(request, error, access)

    entered = team_page(cast("TeamView[Args]", inside))

    @never_cache
    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if is_fragment(request) and not request.user.is_authenticated:
            return whole_page_again()
        try:
            return entered(request, *args, **kwargs)
        except PlatformError as error:
            return show_error(request, error)

    return cast("Callable[..., HttpResponseBase]", page)
