"""What every signed-in page shows around its content: team switcher, navigation, queue."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse

from parka.accounts.access import Access, Capability
from parka.accounts.models import Role, Team
from parka.accounts.selectors import teams
from parka.experiments.models import ACTIVE, RunState
from parka.experiments.selectors import runs

THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True, kw_only=True)
class NavItem:
    """One entry of the navigation; ``divider`` draws a line above it."""

    key: str
    label: str
    icon: str
    href: str
    divider: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """How many runs of the team are at work and waiting."""

    running: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """The frame of a page."""

    teams: tuple[Team, ...]
    nav: tuple[NavItem, ...]
    role: str
    may_run: bool
    theme: str
    running: int
    queued: int

    @property
    def theme_now(self) -> str:
        """Best guess before ``theme.js`` has asked the system."""
        return "dark" if self.theme == "dark" else "light"


PLACES = (
    ("home", "Home", "home"),
    ("models", "Models", "cube"),
    ("datasets", "Datasets", "database"),
    ("experiments", "Experiments", "flask"),
    ("runs", "Runs", "list-details"),
    ("compare", "Compare", "columns-2"),
    ("agents", "Agents", "cpu"),
    ("prices", "Costs", "coin"),
    ("settings", "Settings", "settings"),
)


def navigation(team: Team) -> tuple[NavItem, ...]:
    """The places of a team, in reading order."""
    return tuple(
        NavItem(key=key, label=label, icon=icon, href=reverse(key, args=[team.slug]), divider=key in ("agents", "settings"))
        for key, label, icon in PLACES
    )


def queue(access: Access) -> Queue:
    """Runs at work and waiting, in one query."""
    counts = runs(access).aggregate(running=Count("pk", filter=Q(state__in=ACTIVE)), queued=Count("pk", filter=Q(state=RunState.QUEUED)))
    return Queue(running=counts["running"], queued=counts["queued"])


def theme_choice(request: HttpRequest) -> str:
    """The theme the person chose, from the cookie; anything unknown is ``system``."""
    chosen = request.COOKIES.get("pk_theme", "system")
    return chosen if chosen in THEMES else "system"


def build_shell(request: HttpRequest, access: Access) -> Shell:
    """The frame for this person in this team."""
    waiting = queue(access)
    return Shell(
        teams=tuple(teams(access.user)),
        nav=navigation(access.team),
        role=str(Role(access.role).label),
        may_run=access.may(Capability.RUN),
        theme=theme_choice(request),
        running=waiting.running,
        queued=waiting.queued,
    )
