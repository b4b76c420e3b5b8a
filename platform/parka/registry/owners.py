"""On whose behalf bytes arrive: a person in a team, or an agent that holds the fence of a run."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from parka.accounts.access import Access, Capability
from parka.accounts.models import Team, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """An agent's right to upload for one attempt of a run; the caller has checked the lease.

    ``key`` tells attempts apart, such as ``run_…:2:<claim id>``: another attempt does not see this one's uploads.
    """

    team: Team
    key: str


Owner = Access | Fence


def check_may_upload(owner: Owner) -> None:
    """Raises Forbidden for a person whose role or token does not allow uploads."""
    if isinstance(owner, Access):
        owner.require(Capability.UPLOAD)


def owned_by(owner: Owner) -> Q:
    """Which uploads are the owner's."""
    if isinstance(owner, Access):
        return Q(team=owner.team, user=owner.user)
    return Q(team=owner.team, user=None, run_key=owner.key)


def user_of(owner: Owner) -> User | None:
    return owner.user if isinstance(owner, Access) else None


def run_key_of(owner: Owner) -> str:
    return "" if isinstance(owner, Access) else owner.key
