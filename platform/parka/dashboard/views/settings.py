"""Settings of a team: members and roles, tokens, the team itself, the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from parka.accounts import selectors, services
from parka.accounts.access import ROLE_ORDER, RULES, Access, Capability, role_reaches
from parka.accounts.models import ApiToken, Role, Scope
from parka.audit.models import SecurityEvent
from parka.audit.selectors import events
from parka.core.addresses import client_address
from parka.core.errors import PlatformError, Refused
from parka.dashboard.forms import MemberForm, PlainForm, TeamForm, TokenForm
from parka.dashboard.lists import paged
from parka.dashboard.pages import Crumb, confirm_identity, crumb, show, team_view
from parka.dashboard.tables import AuditTable
from parka.registry.selectors import storage_used_bytes

RIGHTS = (
    (Capability.READ, "Read and export"),
    (Capability.UPLOAD, "Upload models and datasets"),
    (Capability.RUN, "Start experiments, cancel one's own runs"),
    (Capability.CANCEL_ANY, "Cancel any run"),
    (Capability.EDIT_PRICES, "Edit prices"),
    (Capability.MANAGE_AGENTS, "Register, drain and revoke agents"),
    (Capability.MANAGE_MEMBERS, "Add and remove members"),
    (Capability.MANAGE_TOKENS, "Revoke any API token"),
    (Capability.READ_AUDIT, "Read the audit log"),
    (Capability.MANAGE_ROLES, "Change roles"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A page of the settings."""

    key: str
    label: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A capability and which roles carry it, in the order of the roles."""

    label: str
    allowed: tuple[bool, ...]


@require_GET
@team_view
def settings_home(request: HttpRequest, access: Access) -> HttpResponse:
    """The first settings page."""
    return redirect("settings-members", access.team.slug)


@require_GET
@team_view
def members(request: HttpRequest, access: Access) -> HttpResponse:
    """Members, their roles, what each role may do."""
    return _members_page(request, access, MemberForm(access=access))


@require_POST
@team_view
def member_add(request: HttpRequest, access: Access) -> HttpResponse:
    """Give a person a role."""
    access.require(Capability.MANAGE_MEMBERS)
    confirm_identity(request)
    form = MemberForm(request.POST, access=access)
    if not form.is_valid():
        return _members_page(request, access, form)
    try:
        added = services.add_member(access, email=form.cleaned_data["email"], role=Role(form.cleaned_data["role"]))
    except PlatformError as error:
        form.take(error, fields={"/email": "email", "/role": "role"})
        return _members_page(request, access, form)
    messages.success(request, f"{added.user.email} is now {added.get_role_display().lower()}.")
    return redirect("settings-members", access.team.slug)


@require_POST
@team_view
def member_role(request: HttpRequest, access: Access, user_id: str) -> HttpResponse:
    """Set a member's role."""
    access.require(Capability.MANAGE_ROLES)
    member = selectors.member(access, user_id)
    confirm_identity(request)
    if request.POST.get("role") not in Role.values:
        raise Refused("field.choice")
    return _settled(request, access, lambda: services.change_role(access, member=member, role=Role(request.POST["role"])), "Role changed.")


@require_http_methods(["GET", "POST"])
@team_view
def member_remove(request: HttpRequest, access: Access, user_id: str) -> HttpResponse:
    """End a membership, after a question; everyone may leave."""
    member = selectors.member(access, user_id)
    leaving = member.user_id == access.user.pk
    if not leaving:
        access.require(Capability.MANAGE_MEMBERS)
    confirm_identity(request)
    if request.method == "POST":
        done = f"You left {access.team.name}." if leaving else f"{member.user.email} is removed."
        answer = _settled(request, access, lambda: services.remove_member(access, member=member), done)
        return redirect("/") if leaving and answer.status_code == 302 else answer
    context = {
        "title": f"Leave {access.team.name}?" if leaving else f"Remove {member.user.display_name}?",
        "section": "settings",
        "crumbs": [crumb(access, "Members", "settings-members")],
        "button": "Leave" if leaving else "Remove",
        "back": reverse("settings-members", args=[access.team.slug]),
    }
    return show(request, access, "settings/remove.html", context)


@require_http_methods(["GET", "POST"])
@team_view
def tokens(request: HttpRequest, access: Access) -> HttpResponse:
    """API tokens; a new one is shown once."""
    form, fresh = TokenForm(request.POST or None, access=access), ""
    if request.method == "POST":
        confirm_identity(request)
        fresh = _new_token(access, form)
        if fresh:
            form = TokenForm(access=access)
    context = {
        **_frame(access, "settings-tokens", "API tokens"),
        "tokens": list(selectors.tokens(access)),
        "form": form,
        "fresh": fresh,
        "api_root": request.build_absolute_uri("/api/v1"),
    }
    response = show(request, access, "settings/tokens.html", context, status=422 if form.errors else 200)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@team_view
def token_revoke(request: HttpRequest, access: Access, public_id: str) -> HttpResponse:
    """End a token at once."""
    token: ApiToken = selectors.token(access, public_id)
    services.revoke_token(access, token=token)
    messages.success(request, f"The token {token.name} no longer works.")
    return redirect("settings-tokens", access.team.slug)


@require_http_methods(["GET", "POST"])
@team_view
def team(request: HttpRequest, access: Access) -> HttpResponse:
    """Facts of the team; making another one."""
    form = TeamForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            other = services.create_team(access.user, name=form.cleaned_data["name"], address=client_address(request))
            return redirect("home", other.slug)
        except PlatformError as error:
            form.take(error, fields={"/name": "name"})
    context = {
        **_frame(access, "settings-team", "Team"),
        "form": form,
        "used": storage_used_bytes(access.team),
        "margin_percent": f"{access.team.margin * 100:g}",
    }
    return show(request, access, "settings/team.html", context, status=422 if form.errors else 200)


@require_GET
@team_view
def audit(request: HttpRequest, access: Access) -> HttpResponse:
    """Who did what, newest first."""
    access.require(Capability.READ_AUDIT)
    chosen = {name: request.GET.get(name, "")[:200] for name in ("actor", "action", "object")}
    rows = events(access.team.public_id)
    context = {
        **_frame(access, "settings-audit", "Audit log"),
        "table": paged(request, AuditTable(_narrowed(rows, chosen), label="Audit log", team=access.team)),
        "actions": sorted(set(rows.order_by().values_list("action", flat=True).distinct())),
        "chosen": chosen,
        "filtered": any(chosen.values()),
        "empty": "settings/_audit_empty.html",
    }
    return show(request, access, "settings/audit.html", context)


def rights() -> list[Right]:
    """The table of roles, from the one that the code enforces."""
    return [Right(label=label, allowed=tuple(role_reaches(role, RULES[one].role) for role in ROLE_ORDER)) for one, label in RIGHTS]


def _members_page(request: HttpRequest, access: Access, form: PlainForm) -> HttpResponse:
    context = {
        **_frame(access, "settings-members", "Members"),
        "members": list(selectors.members(access)),
        "form": form,
        "roles": [(role.value, role.label) for role in ROLE_ORDER],
        "rights": rights(),
        "may_members": access.may(Capability.MANAGE_MEMBERS),
        "may_roles": access.may(Capability.MANAGE_ROLES),
    }
    return show(request, access, "settings/members.html", context, status=422 if form.errors else 200)


def _settled(request: HttpRequest, access: Access, act: Any, done: str) -> HttpResponse:
    """Carry out a change and go back to the members; a refusal is told there with its way out."""
    try:
        act()
    except Refused as error:
        messages.error(request, error.message)
        return redirect("settings-members", access.team.slug)
    messages.success(request, done)
    return redirect("settings-members", access.team.slug)


def _new_token(access: Access, form: TokenForm) -> str:
    """The plain token, or nothing after showing what is wrong."""
    if not form.is_valid():
        return ""
    data = form.cleaned_data
    try:
        _, plain = services.create_token(access, name=data["name"], scope=Scope(data["scope"]), days=data["days"])
    except PlatformError as error:
        form.take(error, fields={"/name": "name", "/scope": "scope", "/days": "days"})
        return ""
    return plain


def _narrowed(rows: QuerySet[SecurityEvent], chosen: dict[str, str]) -> QuerySet[SecurityEvent]:
    conditions = {"actor__icontains": chosen["actor"], "action": chosen["action"], "target__icontains": chosen["object"]}
    return rows.filter(**{name: value for name, value in conditions.items() if value})


def _frame(access: Access, tab: str, title: str) -> dict[str, Any]:
    pages = [("settings-members", "Members"), ("settings-tokens", "API tokens"), ("settings-team", "Team")]
    if access.may(Capability.READ_AUDIT):
        pages.append(("settings-audit", "Audit log"))
    return {
        "title": title,
        "section": "settings",
        "crumbs": [Crumb(label="Settings", href=reverse("settings", args=[access.team.slug]))],
        "tabs": [Tab(key=key, label=label, href=reverse(key, args=[access.team.slug])) for key, label in pages],
        "tab_now": tab,
    }
