"""Who may do what at every address of the API: route x method x person, generated from the URL resolver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.urls import URLPattern, get_resolver
from rest_framework.test import APIClient

from optimizer.codec import to_jsonable
from optimizer.specs import Recipe
from parka.accounts.access import RULES, Access, Capability, Role, Rule
from parka.accounts.models import ApiToken, Team, User
from parka.accounts.services import create_token
from parka.api import urls as api_urls
from parka.core.blobs import BlobStore
from parka.experiments.models import Trial
from parka.registry.models import Artifact, ArtifactRole, Dataset, Intake, Upload, UploadState
from parka.scorecards.models import Comparison, Scorecard
from parka.scorecards.selectors import current_book
from tests.platform.runs import new_agent, new_experiment, ready_version

pytestmark = pytest.mark.django_db
TUS = {"Tus-Resumable": "1.0.0"}
ROLES = {"viewer": Role.VIEWER, "member": Role.MEMBER, "admin": Role.ADMIN, "owner": Role.OWNER}
PUBLIC = {"api_openapi", "api_blob"}
"""Readable without a caller: the document; a blob by a signed address (tested on its own)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What a method of a route needs; ``body`` is made from the world. ``scoped``: the address names an object of the team."""

    capability: Capability
    body: Callable[[World], Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One of everything in Acme; ``path`` has the arguments of every route."""

    ids: dict[str, Any]
    path: dict[str, dict[str, Any]]


READ, RUN, UPLOAD = Capability.READ, Capability.RUN, Capability.UPLOAD
DOORS: dict[tuple[str, str], Door] = {
    ("api_me", "get"): Door(capability=READ),
    ("api_teams", "get"): Door(capability=READ),
    ("api_team", "get"): Door(capability=READ),
    ("api_members", "get"): Door(capability=READ),
    ("api_members", "post"): Door(capability=Capability.MANAGE_MEMBERS, body=lambda world: {"email": "new@acme.example", "role": "viewer"}),
    ("api_member", "get"): Door(capability=READ),
    ("api_member", "patch"): Door(capability=Capability.MANAGE_ROLES, body=lambda world: {"role": "viewer"}),
    ("api_member", "delete"): Door(capability=Capability.MANAGE_MEMBERS),
    ("api_tokens", "get"): Door(capability=READ),
    ("api_tokens", "post"): Door(capability=Capability.OWN_TOKENS, body=lambda world: {"name": "t", "scope": "read"}),
    ("api_token", "get"): Door(capability=Capability.MANAGE_TOKENS),
    ("api_token", "delete"): Door(capability=Capability.MANAGE_TOKENS),
    ("api_audit", "get"): Door(capability=Capability.READ_AUDIT),
    ("api_uploads", "get"): Door(capability=READ),
    ("api_uploads", "post"): Door(capability=UPLOAD, headers={**TUS, "Upload-Length": "5", "Upload-Metadata": "role bW9kZWw="}),
    ("api_artifacts", "get"): Door(capability=READ),
    ("api_artifact", "get"): Door(capability=READ),
    ("api_artifact_content", "get"): Door(capability=READ),
    ("api_models", "get"): Door(capability=READ),
    ("api_models", "post"): Door(capability=UPLOAD, body=lambda world: {"upload": world.ids["upload"], "name": "New"}),
    ("api_model_count", "get"): Door(capability=READ),
    ("api_model", "get"): Door(capability=READ),
    ("api_model", "patch"): Door(capability=UPLOAD, body=lambda world: {"name": "Other"}),
    ("api_versions", "get"): Door(capability=READ),
    ("api_versions", "post"): Door(capability=UPLOAD, body=lambda world: {"upload": world.ids["upload"]}),
    ("api_version", "get"): Door(capability=READ),
    ("api_version_by_id", "get"): Door(capability=READ),
    ("api_datasets", "get"): Door(capability=READ),
    ("api_datasets", "post"): Door(capability=UPLOAD, body=lambda world: {"upload": world.ids["dataset_upload"]}),
    ("api_dataset_count", "get"): Door(capability=READ),
    ("api_dataset", "get"): Door(capability=READ),
    ("api_agents", "get"): Door(capability=READ),
    ("api_agents", "post"): Door(capability=Capability.MANAGE_AGENTS, body=lambda world: {"name": "Another"}),
    ("api_agent_count", "get"): Door(capability=READ),
    ("api_agent", "get"): Door(capability=READ),
    ("api_agent", "patch"): Door(capability=Capability.MANAGE_AGENTS, body=lambda world: {"draining": True}),
    ("api_agent", "delete"): Door(capability=Capability.MANAGE_AGENTS),
    ("api_agent_registration", "post"): Door(capability=Capability.MANAGE_AGENTS),
    ("api_kpis", "get"): Door(capability=READ),
    ("api_experiments", "get"): Door(capability=READ),
    ("api_experiments", "post"): Door(capability=RUN, body=lambda world: {"version": world.ids["version"], "agents": [world.ids["agent"]]}),
    ("api_experiment_count", "get"): Door(capability=READ),
    ("api_experiment_estimate", "post"): Door(
        capability=READ, body=lambda world: {"version": world.ids["version"], "agents": [world.ids["agent"]]}
    ),
    ("api_experiment", "get"): Door(capability=READ),
    ("api_runs", "get"): Door(capability=READ),
    ("api_run_count", "get"): Door(capability=READ),
    ("api_run", "get"): Door(capability=READ),
    ("api_run_cancel", "post"): Door(capability=Capability.CANCEL_ANY),
    ("api_run_log", "get"): Door(capability=READ),
    ("api_run_events", "get"): Door(capability=READ),
    ("api_trials", "get"): Door(capability=READ),
    ("api_trial", "get"): Door(capability=READ),
    ("api_run_scorecard", "get"): Door(capability=READ),
    ("api_scorecards", "get"): Door(capability=READ),
    ("api_price_book", "get"): Door(capability=READ),
    ("api_price_book", "patch"): Door(capability=Capability.EDIT_PRICES, body=lambda world: {"utilization": "0.5"}),
    ("api_price_books", "get"): Door(capability=READ),
    ("api_price_book_version", "get"): Door(capability=READ),
    ("api_compare", "get"): Door(capability=READ),
    ("api_comparisons", "get"): Door(capability=READ),
    ("api_comparisons", "post"): Door(capability=Capability.SAVE_VIEWS, body=lambda world: {"name": "c", "query": "runs=R-1"}),
    ("api_comparison", "get"): Door(capability=READ),
    ("api_comparison", "delete"): Door(capability=Capability.SAVE_VIEWS),
}
OWN_ONLY = {("api_upload", method) for method in ("get", "head", "patch", "delete")} | {("api_teams", "post")}
"""Uploads are their maker's alone (``test_uploads``); a team is made by a browser session (below)."""
PLAIN = {"api_uploads": ("get", "post"), "api_upload": ("get", "head", "patch", "delete"), "api_experiment": ("get",), "api_run": ("get",)}
TOKENS_HIDDEN = {"api_token"}
"""A token of somebody else is invisible to those who manage none: 404."""
MAY_BE_EMPTY = {"api_compare": "compare.too_few"}
"""Answers 422 in this world, where nothing was raced yet."""


def routes() -> Iterator[tuple[str, str]]:
    """Every (route name, method) of the public API."""
    for pattern in api_urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        assert pattern.name, pattern
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        methods = (
            PLAIN.get(pattern.name, ())
            if view is None
            else [one for one in ("get", "post", "put", "patch", "delete") if hasattr(view, one)]
        )
        assert methods or pattern.name in PUBLIC, f"{pattern.name}: name its methods in PLAIN"
        yield from ((pattern.name, method) for method in methods)


ROUTES = list(routes())


@pytest.fixture
def world(alice_access: Access, bob: User, bob_access: Access) -> World:
    """One object of each kind, made by Alice; Bob's place is the member to look at."""
    team = alice_access.team
    agent, version = new_agent(alice_access), ready_version(alice_access)
    experiment = new_experiment(alice_access, [agent], version=version)
    run = experiment.runs.get()
    recipe = Recipe(backend="onnxruntime")
    Trial.objects.create(run=run, index=0, recipe=to_jsonable(recipe), recipe_key=recipe.key, label=recipe.label)
    sha256 = BlobStore().put_bytes(b"blob")
    artifact = Artifact.objects.create(team=team, sha256=sha256, size_bytes=4, role=ArtifactRole.MODEL)
    samples = Artifact.objects.create(team=team, sha256=sha256, size_bytes=4, role=ArtifactRole.DATASET)
    dataset = Dataset.objects.create(team=team, slug="data", name="Data", artifact=samples, state=Intake.READY)
    book = current_book(team)
    Scorecard.objects.create(run=run, book=book, finding="f", decision="winner", body={"trial": 0})
    token, _ = create_token(alice_access, name="alice's", scope=alice_access.widest_scope)
    comparison = Comparison.objects.create(team=team, name="c", query="runs=R-1")
    key = {"key": run.public_id}
    path = {
        "api_team": {"slug": team.slug},
        "api_member": {"user_id": bob.public_id},
        "api_token": {"token_id": token.public_id},
        "api_artifact": {"artifact_id": artifact.public_id},
        "api_artifact_content": {"artifact_id": artifact.public_id},
        "api_model": {"slug": version.model.slug},
        "api_versions": {"slug": version.model.slug},
        "api_version": {"slug": version.model.slug, "number": version.number},
        "api_version_by_id": {"version_id": version.public_id},
        "api_dataset": {"slug": dataset.slug},
        "api_agent": {"key": agent.public_id},
        "api_agent_registration": {"key": agent.public_id},
        "api_experiment": {"key": experiment.public_id},
        "api_run": key, "api_run_cancel": key, "api_run_log": key, "api_run_events": key, "api_trials": key, "api_run_scorecard": key,
        "api_trial": {**key, "index": 0},
        "api_price_book_version": {"version": book.version},
        "api_comparison": {"comparison_id": comparison.public_id},
    }  # fmt: skip
    ids = {"version": version.public_id, "agent": agent.public_id, "artifact": artifact, "samples": samples}
    return World(ids=ids, path=path)


def with_uploads(world: World, access: Access) -> World:
    """The world with complete uploads of that person."""

    def upload(artifact: Artifact) -> str:
        row = Upload.objects.create(
            team=access.team, user=access.user, role=artifact.role, size_bytes=4, offset_bytes=4, sha256=artifact.sha256,
            state=UploadState.COMPLETE, artifact=artifact, expires_at=Now(),
        )  # fmt: skip
        return row.public_id

    return World(
        ids={**world.ids, "upload": upload(world.ids["artifact"]), "dataset_upload": upload(world.ids["samples"])}, path=world.path
    )


def address(name: str, arguments: dict[str, Any]) -> str:
    return "/api/v1/" + get_resolver("parka.api.urls").reverse(name, **arguments)


def knock(client: APIClient, name: str, method: str, world: World, *, arguments: dict[str, Any] | None = None) -> Any:
    """One request, whose effects are rolled back."""
    door = DOORS[name, method]
    path = address(name, world.path.get(name, {}) if arguments is None else arguments)
    body = {} if door.body is None else {"data": door.body(world), "format": "json"}
    if name == "api_compare":
        path += "?runs=R-1"
    with transaction.atomic():
        response = getattr(client, method)(path, headers=door.headers, **body)
        transaction.set_rollback(True)
    return response


def strip(response: Any) -> tuple[int, dict[str, Any]]:
    body = response.json()
    body.pop("instance")
    return response.status_code, body


def test_every_route_of_the_api_is_listed() -> None:
    assert set(ROUTES) - OWN_ONLY == set(DOORS)


@pytest.mark.parametrize(("name", "method"), [route for route in ROUTES if route not in OWN_ONLY])
def test_role_decides(
    api: Callable[..., APIClient],
    world: World,
    name: str,
    method: str,
    alice_access: Access,
    ada_access: Access,
    bob_access: Access,
    vic_access: Access,
) -> None:
    """Each role is let in or refused exactly as the table of capabilities says."""
    people = {Role.VIEWER: vic_access, Role.MEMBER: bob_access, Role.ADMIN: ada_access, Role.OWNER: alice_access}
    for role, access in people.items():
        response = knock(
            api(access),
            name,
            method,
            with_uploads(world, access),
        )
        allowed = access_with_token(access).may(DOORS[name, method].capability)
        leaving = (name, method) == ("api_member", "delete") and role is Role.MEMBER
        if allowed or leaving:
            expected_refusal = MAY_BE_EMPTY.get(name)
            assert response.status_code < 400 or response.json()["code"] == expected_refusal, (role, response.content)
        else:
            assert response.status_code == (404 if name in TOKENS_HIDDEN else 403), (role, response.content)


def access_with_token(access: Access) -> Access:
    """The access as narrowed by the widest token the person can have."""
    return Access(team=access.team, user=access.user, role=access.role, scope=access.widest_scope)


@pytest.mark.parametrize(("name", "method"), [route for route in ROUTES if route not in OWN_ONLY])
def test_strangers_see_nothing_and_the_anonymous_are_asked_to_sign_in(
    api: Callable[..., APIClient], world: World, name: str, method: str, charlie_access: Access, team: Team
) -> None:
    anonymous = knock(APIClient(), name, method, with_uploads(world, charlie_access))
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "unauthenticated")
    stranger, arguments = api(charlie_access), world.path.get(name)
    if arguments and name != "api_price_book_version":
        theirs = knock(stranger, name, method, with_uploads(world, charlie_access))
        absent = knock(stranger, name, method, world_of_nothing(world, charlie_access), arguments=absent_arguments(arguments))
        assert strip(theirs) == strip(absent)
        assert theirs.status_code == 404


def world_of_nothing(world: World, access: Access) -> World:
    return with_uploads(world, access)


def absent_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: 999_999 if isinstance(value, int) else "nothing_0000000000000000" for key, value in arguments.items()}


@pytest.mark.parametrize(("name", "method"), [route for route in ROUTES if route not in OWN_ONLY])
def test_an_expired_token_opens_no_door(api: Callable[..., APIClient], world: World, name: str, method: str, alice_access: Access) -> None:
    client = api(alice_access)
    ApiToken.objects.update(expires_at=Now())
    response = knock(client, name, method, with_uploads(world, alice_access))
    assert (response.status_code, response.json()["code"]) == (401, "token.expired")


def test_lists_of_a_stranger_hold_nothing_of_the_team(api: Callable[..., APIClient], world: World, charlie_access: Access) -> None:
    client = api(charlie_access)
    for name in (
        "api_models",
        "api_datasets",
        "api_agents",
        "api_experiments",
        "api_runs",
        "api_scorecards",
        "api_comparisons",
        "api_artifacts",
    ):
        assert client.get(address(name, {})).json()["items"] == [], name
    counts = ("api_model_count", "api_dataset_count", "api_agent_count", "api_experiment_count", "api_run_count")
    assert {client.get(address(name, {})).json()["count"] for name in counts} == {0}
    assert [row["email"] for row in client.get(address("api_members", {})).json()["items"]] == ["charlie@other.example"]


@pytest.mark.parametrize(
    "body", [{"version": "theirs", "agents": ["own"]}, {"version": "own", "agents": ["theirs"]}, {"dataset": "theirs"}]
)
def test_foreign_references_in_bodies_look_unknown(
    api: Callable[..., APIClient], world: World, charlie_access: Access, body: dict[str, Any]
) -> None:
    agent, version = new_agent(charlie_access), ready_version(charlie_access)
    own = {"version": version.public_id, "agents": [agent.public_id], "dataset": None}
    theirs = {"version": world.ids["version"], "agents": [world.ids["agent"]], "dataset": "data"}
    asked = {key: theirs[key] if value in ("theirs", ["theirs"]) else own[key] for key, value in {**own, **body}.items()}
    answer = api(charlie_access).post("/api/v1/experiments", asked, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "field.unknown_object")


def test_a_token_makes_no_team_but_a_browser_does(
    api: Callable[..., APIClient], browser: Callable[[User], APIClient], bob: User, bob_access: Access
) -> None:
    assert api(bob_access).post("/api/v1/teams", {"name": "New"}, format="json").json()["code"] == "token.scope"
    made = browser(bob).post("/api/v1/teams", {"name": "New"}, format="json")
    assert (made.status_code, made.json()["role"]) == (201, "owner")


def test_the_table_of_capabilities_is_complete() -> None:
    assert set(RULES) == set(Capability)
    assert all(isinstance(rule, Rule) for rule in RULES.values())
