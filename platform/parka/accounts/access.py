"""Who may do what: one table from capability to the lowest role and the narrowest token scope that allow it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from parka.accounts.models import Membership, Role, Scope, Team, User
from parka.core.errors import Forbidden, NotFound


class Capability(StrEnum):
    """What a person can do in a team."""

    READ = "read"
    UPLOAD = "upload"
    RUN = "run"
    CANCEL_ANY = "cancel_any"
    SAVE_VIEWS = "save_views"
    OWN_TOKENS = "own_tokens"
    EDIT_PRICES = "edit_prices"
    MANAGE_AGENTS = "manage_agents"
    MANAGE_MEMBERS = "manage_members"
    MANAGE_TOKENS = "manage_tokens"
    READ_AUDIT = "read_audit"
    MANAGE_ROLES = "manage_roles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The lowest role and the narrowest scope of a token that carry a capability."""

    role: Role
    scope: Scope


RULES: dict[Capability, Rule] = {
    Capability.READ: Rule(role=Role.VIEWER, scope=Scope.READ),
    Capability.OWN_TOKENS: Rule(role=Role.VIEWER, scope=Scope.ADMIN),
    Capability.UPLOAD: Rule(role=Role.MEMBER, scope=Scope.RUN),
    Capability.RUN: Rule(role=Role.MEMBER, scope=Scope.RUN),
    Capability.SAVE_VIEWS: Rule(role=Role.MEMBER, scope=Scope.RUN),
    Capability.CANCEL_ANY: Rule(role=Role.ADMIN, scope=Scope.RUN),
    Capability.EDIT_PRICES: Rule(role=Role.ADMIN, scope=Scope.ADMIN),
    Capability.MANAGE_AGENTS: Rule(role=Role.ADMIN, scope=Scope.ADMIN),
    Capability.MANAGE_MEMBERS: Rule(role=Role.ADMIN, scope=Scope.ADMIN),
    Capability.MANAGE_TOKENS: Rule(role=Role.ADMIN, scope=Scope.ADMIN),
    Capability.READ_AUDIT: Rule(role=Role.ADMIN, scope=Scope.ADMIN),
    Capability.MANAGE_ROLES: Rule(role=Role.OWNER, scope=Scope.ADMIN),
}

ROLE_ORDER: tuple[Role, ...] = (Role.VIEWER, Role.MEMBER, Role.ADMIN, Role.OWNER)
SCOPE_ORDER: tuple[Scope, ...] = (Scope.READ, Scope.RUN, Scope.ADMIN)
WIDEST_SCOPE: dict[Role, Scope] = {Role.VIEWER: Scope.READ, Role.MEMBER: Scope.RUN, Role.ADMIN: Scope.ADMIN, Role.OWNER: Scope.ADMIN}


def role_reaches(role: Role, needed: Role) -> bool:
    """Whether ``role`` is at least ``needed``."""
    return ROLE_ORDER.index(role) >= ROLE_ORDER.index(needed)


def scope_reaches(scope: Scope, needed: Scope) -> bool:
    """Whether ``scope`` is at least as wide as ``needed``."""
    return SCOPE_ORDER.index(scope) >= SCOPE_ORDER.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A user inside one team. ``scope`` is set when an API token speaks for the user; rights are the intersection.

    ``via`` names the door for the audit log: ``browser``, ``token …9f2c``, ``command line``.
    """

    team: Team
    user: User
    role: Role
    scope: Scope | None = None
    address: str = ""
    via: str = "browser"

    def may(self, capability: Capability) -> bool:
        """Whether role and scope both allow it."""
        rule = RULES[capability]
        return role_reaches(self.role, rule.role) and (self.scope is None or scope_reaches(self.scope, rule.scope))

    def require(self, capability: Capability) -> None:
        """Raises Forbidden ``token.scope`` or ``forbidden``, with who can grant it."""
        rule = RULES[capability]
        if not role_reaches(self.role, rule.role):
            able = " or ".join(str(Role(role).label).lower() for role in ROLE_ORDER[ROLE_ORDER.index(rule.role) :])
            raise Forbidden("forbidden", f"This needs the role {able}; you are {Role(self.role).label.lower()}. Ask an owner of the team.")
        if self.scope is not None and not scope_reaches(self.scope, rule.scope):
            raise Forbidden("token.scope", f"This needs a token with the scope {rule.scope}; this one has {self.scope}.")

    @property
    def widest_scope(self) -> Scope:
        """The widest scope a token made under this access may have."""
        by_role = WIDEST_SCOPE[self.role]
        return by_role if self.scope is None or scope_reaches(self.scope, by_role) else self.scope

    @property
    def actor(self) -> str:
        """Name for the audit log, such as ``ana@acme.example (browser)``."""
        return f"{self.user.email} ({self.via})"

    @property
    def trail(self) -> dict[str, str]:
        """Who, where and from which address, as keyword arguments of ``audit.services.record``."""
        return {"team": self.team.public_id, "actor": self.actor, "address": self.address}


def access_for(user: User, team_slug: str, *, address: str = "", via: str = "browser") -> Access:
    """The user's access to the team of that slug. Raises NotFound for strangers, as for a team that does not exist."""
    membership = Membership.objects.select_related("team").filter(user_id=user.pk, user__is_active=True, team__slug=team_slug).first()
    if membership is None:
        raise NotFound
    return Access(team=membership.team, user=user, role=Role(membership.role), address=address, via=via)
