"""Reading accounts: teams of a user, members and tokens of a team."""

from __future__ import annotations

from django.db.models import QuerySet

from parka.accounts.access import Access, Capability
from parka.accounts.models import ApiToken, Membership, Team, User
from parka.core.rows import found


def teams(user: User) -> QuerySet[Team]:
    """Teams the user belongs to, by name."""
    return Team.objects.filter(memberships__user=user).order_by("name", "id")


def memberships(user: User) -> QuerySet[Membership]:
    """The user's memberships with their teams, by the team's name."""
    return Membership.objects.filter(user=user).select_related("team").order_by("team__name", "id")


def members(access: Access) -> QuerySet[Membership]:
    """Memberships of the team with their users, oldest first."""
    access.require(Capability.READ)
    return Membership.objects.filter(team=access.team).select_related("user").order_by("id")


def member(access: Access, user_public_id: str) -> Membership:
    """One membership by the user's public id. Raises NotFound."""
    return found(members(access).filter(user__public_id=user_public_id).first())


def tokens(access: Access) -> QuerySet[ApiToken]:
    """Tokens that are not revoked: all of the team for those who manage them, else one's own; newest first."""
    access.require(Capability.READ)
    rows = ApiToken.objects.filter(team=access.team, revoked_at=None).select_related("creator").order_by("-id")
    return rows if access.may(Capability.MANAGE_TOKENS) else rows.filter(creator=access.user)


def token(access: Access, public_id: str) -> ApiToken:
    """One token visible to the asker. Raises NotFound."""
    return found(tokens(access).filter(public_id=public_id).first())
