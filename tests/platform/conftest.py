"""The cast of the platform's tests: Alice owns the team, Bob and Vic are in it, Charlie owns another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth.hashers import make_password
from django.core.cache import cache as shared_cache
from django.db import connections
from rest_framework.test import APIClient

from parka.accounts.access import Access, access_for
from parka.accounts.models import Membership, Role, Scope, Team, User
from parka.accounts.services import create_team, create_token

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def own_files(settings: Any, tmp_path: Path) -> None:
    """Blobs and spool of each test lie in its own folder."""
    settings.BLOB_ROOT = tmp_path / "blobs"
    settings.SPOOL_ROOT = tmp_path / "spool"


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    """Rate limits of one test do not reach the next."""
    shared_cache.clear()
    yield
    shared_cache.clear()


@pytest.fixture(autouse=True)
def async_threads_let_go() -> Iterator[None]:
    """Code that async tests ran in asgiref's thread leaves no database connection there."""
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@cache
def password_hash() -> str:
    """Argon2 is slow on purpose; once for all users is enough."""
    return make_password(PASSWORD)


def new_user(email: str) -> User:
    """A user that signs in with ``PASSWORD``."""
    user = User.objects.create_user(email)
    user.password = password_hash()
    user.save(update_fields=["password"])
    return user


@pytest.fixture
def alice(db: None) -> User:
    return new_user("alice@acme.example")


@pytest.fixture
def team(alice: User) -> Team:
    """Acme: Alice's team."""
    return create_team(alice, name="Acme")


def join(team: Team, email: str, role: Role) -> User:
    user = new_user(email)
    Membership.objects.create(team=team, user=user, role=role)
    return user


@pytest.fixture
def ada(team: Team) -> User:
    """Admin of Acme."""
    return join(team, "ada@acme.example", Role.ADMIN)


@pytest.fixture
def bob(team: Team) -> User:
    """Member of Acme."""
    return join(team, "bob@acme.example", Role.MEMBER)


@pytest.fixture
def vic(team: Team) -> User:
    """Viewer of Acme."""
    return join(team, "vic@acme.example", Role.VIEWER)


@pytest.fixture
def charlie(db: None) -> User:
    """A stranger; owner of Other."""
    return new_user("charlie@other.example")


@pytest.fixture
def other_team(charlie: User) -> Team:
    return create_team(charlie, name="Other")


@pytest.fixture
def alice_access(alice: User, team: Team) -> Access:
    return access_for(alice, team.slug)


@pytest.fixture
def ada_access(ada: User, team: Team) -> Access:
    return access_for(ada, team.slug)


@pytest.fixture
def bob_access(bob: User, team: Team) -> Access:
    return access_for(bob, team.slug)


@pytest.fixture
def vic_access(vic: User, team: Team) -> Access:
    return access_for(vic, team.slug)


@pytest.fixture
def charlie_access(charlie: User, other_team: Team) -> Access:
    return access_for(charlie, other_team.slug)


@pytest.fixture
def api(db: None) -> Callable[..., APIClient]:
    """Make an API client: ``api(access)`` speaks with a fresh token of the widest scope, ``api()`` is anonymous."""

    def client(access: Access | None = None, *, scope: Scope | None = None) -> APIClient:
        http = APIClient()
        if access is not None:
            _, plain = create_token(permitting(access), name="test", scope=scope or access.widest_scope)
            http.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
        return http

    return client


def permitting(access: Access) -> Access:
    """The same person through the browser, whose rights no token scope narrows."""
    return Access(team=access.team, user=access.user, role=access.role)


@pytest.fixture
def browser(db: None) -> Callable[[User], APIClient]:
    """A signed-in browser session: ``browser(user)``."""

    def client(user: User) -> APIClient:
        http = APIClient()
        http.force_login(user)
        return http

    return client


@pytest.fixture(autouse=True)
def plain_static_names(settings: Any, tmp_path: Path) -> None:
    """Pages need no collected static files: addresses carry no hash here, and the folder is empty."""
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
