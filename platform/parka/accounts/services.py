"""Writing accounts: teams and their members. Tokens and links are in ``accounts.tokens``."""

from __future__ import annotations

import secrets
from functools import partial

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models.functions import Now

from parka.accounts.access import Access, Capability, access_for, role_reaches
from parka.accounts.models import ApiToken, Membership, Role, Team, User
from parka.accounts.tokens import create_token, login_link, redeem_login_link, revoke_token, token_access
from parka.audit.services import record
from parka.core.errors import Conflict, FieldError, Forbidden, Refused
from parka.core.text import clean_line, free_slug

__all__ = [
    "add_member",
    "change_role",
    "create_team",
    "create_token",
    "ensure_demo_team",
    "login_link",
    "redeem_login_link",
    "remove_member",
    "revoke_token",
    "token_access",
]


@transaction.atomic
def create_team(user: User, *, name: str, address: str = "", via: str = "browser") -> Team:
    """A new team whose first owner is the user."""
    title = clean_line(name, limit=120)
    if not title:
        raise Refused("request.invalid", fields=(FieldError(pointer="/name", code="field.blank", detail="Give the team a name."),))
    team = Team.objects.create(name=title, slug=free_slug(Team.objects.all(), text=title, fallback="team"))
    Membership.objects.create(team=team, user=user, role=Role.OWNER)
    record("team.created", team=team.public_id, actor=f"{user.email} ({via})", address=address, target=team.slug)
    return team


@transaction.atomic
def add_member(access: Access, *, email: str, role: Role) -> Membership:
    """Give a person a role in the team; a person without account gets one and sets a password by the usual reset mail.

    The answer is the same for people with and without an account. Raises Forbidden ``member.role`` for a role above one's
    own, Conflict ``member.exists``.
    """
    access.require(Capability.MANAGE_MEMBERS)
    _check_grant(access, role)
    user = User.objects.filter(email=email.lower()).first() or User.objects.create_user(email)
    if Membership.objects.filter(team=access.team, user=user).exists():
        raise Conflict("member.exists")
    membership = Membership.objects.create(team=access.team, user=user, role=role)
    record("member.added", **access.trail, target=user.email, after={"role": role})
    transaction.on_commit(partial(_tell_new_member, user=user, team=access.team, inviter=access.user))
    return membership


@transaction.atomic
def change_role(access: Access, *, member: Membership, role: Role) -> Membership:
    """Set a member's role; owners only. Raises Refused ``member.last_owner``."""
    access.require(Capability.MANAGE_ROLES)
    current = _locked(access, member)
    if current.role == Role.OWNER and role != Role.OWNER:
        _check_other_owner(current)
    before, current.role = current.role, role
    current.save(update_fields=["role"])
    record("role.changed", **access.trail, target=current.user.email, before={"role": before}, after={"role": role})
    return current


@transaction.atomic
def remove_member(access: Access, *, member: Membership) -> None:
    """End a membership and revoke the person's tokens at once; everyone may leave. Raises Refused ``member.last_owner``."""
    if member.user_id != access.user.pk:
        access.require(Capability.MANAGE_MEMBERS)
    current = _locked(access, member)
    if member.user_id != access.user.pk:
        _check_grant(access, Role(current.role))
    if current.role == Role.OWNER:
        _check_other_owner(current)
    ApiToken.objects.filter(team=access.team, creator_id=current.user_id, revoked_at=None).update(revoked_at=Now())
    record("member.removed", **access.trail, target=current.user.email, before={"role": current.role})
    current.delete()


@transaction.atomic
def ensure_demo_team(email: str, team_name: str) -> tuple[User, Team, str | None]:
    """The demo's owner and team; the password is returned only when the account was just made."""
    password = None
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        password = secrets.token_urlsafe(12)
        user = User.objects.create_user(email, password)
    membership = Membership.objects.filter(user=user, team__name=team_name).select_related("team").first()
    team = membership.team if membership else create_team(user, name=team_name, via="command line")
    return user, team, password


def owner_access(user: User, team: Team) -> Access:
    """Access of a command on the server acting for that member."""
    return access_for(user, team.slug, via="command line")


def _check_grant(access: Access, role: Role) -> None:
    if not role_reaches(access.role, role):
        raise Forbidden("member.role")


def _locked(access: Access, member: Membership) -> Membership:
    """The membership as it is now; the team's row is locked, so that two owners cannot demote each other at once."""
    Team.objects.select_for_update().get(pk=access.team.pk)
    return Membership.objects.select_related("user").get(pk=member.pk, team=access.team)


def _check_other_owner(member: Membership) -> None:
    if not Membership.objects.filter(team_id=member.team_id, role=Role.OWNER).exclude(pk=member.pk).exists():
        raise Refused("member.last_owner")


def _tell_new_member(*, user: User, team: Team, inviter: User) -> None:
    send_mail(
        subject=f"You are now a member of {team.name} on Parka",
        message=(
            f"{inviter.email} added you to the team {team.name}.\n\nSign in: {settings.PUBLIC_URL}/accounts/login/\n"
            f"No password yet? Set one: {settings.PUBLIC_URL}/accounts/password/reset/\n"
        ),
        from_email=None,
        recipient_list=[user.email],
        fail_silently=True,
    )
