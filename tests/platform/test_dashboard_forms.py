"""What people do on the pages: upload, ask, cancel, price, manage; and what a wrong entry answers."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from optimizer.specs import KpiTarget
from parka.accounts.access import Access
from parka.accounts.models import ApiToken, Membership, Role, Team, User
from parka.experiments.models import Experiment, Run, RunState
from parka.experiments.selectors import spec
from parka.fleet.models import Agent, AgentState
from parka.registry.models import Dataset, ModelVersion
from parka.scorecards.selectors import current_book
from tests.platform import factories
from tests.platform.conftest import PASSWORD
from tests.platform.runs import new_experiment

Browser = Callable[[User], Client]


@pytest.fixture
def web() -> Browser:
    """A browser that has just typed its password."""

    def signed_in(user: User) -> Client:
        client = Client()
        answer = client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
        assert answer.status_code == 302, answer.content
        return client

    return signed_in


@pytest.fixture
def ready(alice_access: Access) -> ModelVersion:
    """A version and an agent to ask about."""
    factories.bench_agent(alice_access)
    return factories.encoder_version(alice_access)


def form_fields(page: str) -> dict[str, str | list[str]]:
    """The values a browser would send for the first experiment form of a page."""
    fields: dict[str, str | list[str]] = {}
    part = page[page.index('id="experiment"') :]
    for tag in re.findall(r"<input[^>]*>", part):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and (("checkbox" not in tag and "radio" not in tag) or " checked" in tag):
            fields[name[1]] = html.unescape(value[1]) if value else ""
    for name, options in re.findall(r'<select name="([^"]+)"[^>]*>(.*?)</select>', part, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        fields[name] = html.unescape(chosen[1]) if chosen else ""
    return fields


def test_the_first_form_proposes_eighty_percent_of_the_baseline(web: Browser, alice: User, ready: ModelVersion) -> None:
    fields = form_fields(web(alice).get("/t/acme/experiments/new/").content.decode())
    assert fields["target_latency_p50_ms"] == "80"
    assert fields["basis_latency_p50_ms"] == "relative"
    assert fields["version"] == "minilm@1"
    assert fields["agents"] == "lab-xeon"
    assert fields["bind_1"] == "128"
    assert fields["preset"] == "quick"


def test_sending_the_form_twice_starts_one_experiment(web: Browser, alice: User, ready: ModelVersion) -> None:
    client = web(alice)
    fields = form_fields(client.get("/t/acme/experiments/new/").content.decode())
    first, second = (client.post("/t/acme/experiments/new/", fields) for _ in range(2))
    assert first["Location"] == second["Location"] == "/t/acme/experiments/E-1/"
    assert Experiment.objects.count() == 1
    assert Run.objects.get().state == RunState.QUEUED
    asked = spec(Experiment.objects.get())
    assert asked.targets == (KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True),)
    assert asked.bindings == {"batch": 1, "sequence": 128}
    changed = client.post("/t/acme/experiments/new/", {**fields, "target_latency_p50_ms": "70"})
    assert changed.status_code == 422
    assert Experiment.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_latency_p50_ms": "-1"}, "above zero"),
        ({"target_latency_p50_ms": "nan"}, "Enter a number"),
        ({"target_throughput_per_s": "0"}, "above zero"),
        ({"target_accuracy_delta_pp": "-0.5"}, "greater than or equal to 0"),
        ({"preset": "custom", "minutes": ""}, "Say how many minutes"),
        ({"preset": "custom", "minutes": "0"}, "greater than or equal to 0.5"),
        ({"agents": []}, "Choose at least one agent"),
        ({"agents": ["nobody"]}, "nobody"),
        ({"version": "minilm@9"}, "minilm@9"),
        ({"bind_0": "0"}, "greater than or equal to 1"),
        ({"traffic": "nonsense"}, "holds no row"),
        ({"traffic": "batch,weight\n1,1\n8,1"}, "measured at one size"),
        ({"traffic": "height,weight\n1,1"}, "names 0 of the model"),
    ],
)
def test_a_wrong_field_is_named_in_a_422_with_summary(
    web: Browser, alice: User, ready: ModelVersion, changes: dict[str, str | list[str]], words: str
) -> None:
    client = web(alice)
    fields = form_fields(client.get("/t/acme/experiments/new/").content.decode())
    answer = client.post("/t/acme/experiments/new/", {**fields, **changes})
    page = html.unescape(answer.content.decode())
    assert answer.status_code == 422
    assert "data-error-summary" in page
    assert words in page
    assert 'aria-invalid="true"' in page or "agents" in changes
    assert Experiment.objects.count() == 0


def test_the_traffic_field_shows_an_example_in_the_models_own_words_that_it_would_take(
    web: Browser, alice: User, ready: ModelVersion
) -> None:
    client = web(alice)
    page = client.get("/t/acme/experiments/new/", {"model": f"{ready.model.slug}@{ready.number}"}).content.decode()
    example = re.search(r'<textarea name="traffic"[^>]*placeholder="([^"]*)"', page)
    assert example
    text = html.unescape(example[1])
    assert text.splitlines()[0].endswith("weight")
    answer = client.post("/t/acme/experiments/new/", {**form_fields(page), "traffic": text})
    assert answer.status_code == 302, answer.content.decode()
    assert len(spec(Experiment.objects.get()).traffic) == 2


def test_a_histogram_of_shapes_is_asked_and_filled_in_again(web: Browser, alice: User, ready: ModelVersion) -> None:
    client = web(alice)
    fields = form_fields(client.get("/t/acme/experiments/new/").content.decode())
    answer = client.post("/t/acme/experiments/new/", {**fields, "traffic": "seq,weight\n16,3\n64,1"})
    assert answer.status_code == 302
    asked = spec(Experiment.objects.get()).traffic
    assert [(one.bindings, one.weight) for one in asked] == [({"sequence": 16}, 3.0), ({"sequence": 64}, 1.0)]
    again = html.unescape(client.get("/t/acme/experiments/new/?from=E-1").content.decode())
    assert "sequence,weight\n16,3\n64,1" in again.replace("\r", "")


def test_the_estimate_is_redrawn_without_storing_anything(web: Browser, alice: User, ready: ModelVersion) -> None:
    client = web(alice)
    fields = form_fields(client.get("/t/acme/experiments/new/").content.decode())
    part = client.post("/t/acme/experiments/new/estimate/", fields, headers={"HX-Request": "true"})
    assert "pk-estimate-time" in part.content.decode()
    longer = client.post("/t/acme/experiments/new/estimate/", {**fields, "preset": "custom", "minutes": "30"})
    assert longer.status_code == 200
    assert "<html" in longer.content.decode()
    wrong = client.post("/t/acme/experiments/new/estimate/", {**fields, "target_latency_p50_ms": "-3"}, headers={"HX-Request": "true"})
    assert "above zero" in wrong.content.decode()
    assert Experiment.objects.count() == 0


def test_asking_again_fills_in_what_was_asked(web: Browser, alice: User, alice_access: Access, ready: ModelVersion) -> None:
    new_experiment(alice_access, [Agent.objects.get()], version=ready, spec=factories.SPEC)
    fields = form_fields(web(alice).get("/t/acme/experiments/new/?from=E-1").content.decode())
    assert fields["target_throughput_per_s"] == "240"
    assert fields["target_latency_p99_ms"] == "8"
    assert fields["target_cost_usd_per_million_inferences"] == "1.2"


def test_a_plain_form_uploads_without_javascript(web: Browser, alice: User, team: Team) -> None:
    client = web(alice)
    file = SimpleUploadedFile("tiny.onnx", b"\x08\x08rest of the file")
    answer = client.post("/t/acme/models/new/", {"file": file, "name": "Tiny"})
    assert answer["Location"] == "/t/acme/models/tiny/1/"
    assert ModelVersion.objects.get().artifact.file_name == "tiny.onnx"
    page = client.get("/t/acme/models/tiny/1/").content.decode()
    assert "Reading the graph" in page
    again = SimpleUploadedFile("tiny.onnx", b"\x08\x08other bytes")
    assert client.post("/t/acme/models/new/", {"file": again, "target": "tiny"})["Location"] == "/t/acme/models/tiny/2/"


@pytest.mark.parametrize("content", [{}, {"file": SimpleUploadedFile("empty.onnx", b"")}, {"upload": "upl_nothing"}])
def test_an_upload_without_a_file_is_refused(web: Browser, alice: User, team: Team, content: dict[str, object]) -> None:
    answer = web(alice).post("/t/acme/models/new/", {"name": "x", **content})
    assert answer.status_code in (404, 422)
    assert not ModelVersion.objects.exists()


def test_a_dataset_is_uploaded(web: Browser, alice: User, team: Team) -> None:
    file = SimpleUploadedFile("inputs.npz", b"PK\x03\x04 arrays")
    answer = web(alice).post("/t/acme/datasets/new/", {"file": file, "name": "Sentences", "metric": ""})
    assert answer["Location"] == "/t/acme/datasets/sentences/"
    assert Dataset.objects.get().name == "Sentences"


def test_another_teams_upload_cannot_be_registered(
    web: Browser, alice: User, charlie: User, other_team: Team, charlie_access: Access, team: Team
) -> None:
    from parka.registry.models import ArtifactRole
    from parka.registry.uploads import create_upload

    upload = create_upload(charlie_access, role=ArtifactRole.MODEL, file_name="x.onnx", size_bytes=4)
    assert web(alice).post("/t/acme/models/new/", {"upload": upload.public_id}).status_code == 404


def test_cancelling_asks_first_and_ends_a_queued_run(web: Browser, bob: User, bob_access: Access, alice_access: Access) -> None:
    run = new_experiment(bob_access, [factories.bench_agent(alice_access)]).runs.get()
    client = web(bob)
    assert "Cancel the run" in client.get(f"/t/acme/runs/{run.label}/cancel/").content.decode()
    assert client.post(f"/t/acme/runs/{run.label}/cancel/").status_code == 302
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED
    assert "was cancelled" in client.get(f"/t/acme/runs/{run.label}/").content.decode()


def test_a_member_may_not_cancel_anothers_run(web: Browser, bob: User, alice_access: Access) -> None:
    run = new_experiment(alice_access, [factories.bench_agent(alice_access)]).runs.get()
    client = web(bob)
    assert client.post(f"/t/acme/runs/{run.label}/cancel/").status_code == 403
    assert 'data-dialog="cancel"' not in client.get(f"/t/acme/runs/{run.label}/").content.decode()


def test_a_price_makes_a_new_version_and_the_old_one_stays(web: Browser, alice: User, alice_access: Access, team: Team) -> None:
    agent = factories.bench_agent(alice_access)
    client = web(alice)
    entered = {
        "agent": agent.slug,
        "usd_per_hour": "0.25",
        "source": "invoice",
        "dated": "2026-11",
        "utilization": "50",
        "base_version": "1",
    }
    current_book(team)
    assert client.post("/t/acme/costs/prices/edit/", entered)["Location"] == "/t/acme/costs/prices/"
    page = client.get("/t/acme/costs/prices/").content.decode()
    assert "Version 2" in page
    assert "invoice" in page
    assert "0.2500" in page
    assert "This is version 1" in client.get("/t/acme/costs/prices/?version=1").content.decode()
    conflict = client.post("/t/acme/costs/prices/edit/", entered)
    assert conflict.status_code == 422
    assert "same time" in conflict.content.decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"usd_per_hour": "-1"},
        {"usd_per_hour": "NaN"},
        {"utilization": "0"},
        {"utilization": "101"},
        {"usd_per_hour": ""},
        {"dated": "soon"},
        {"agent": ""},
    ],
)
def test_a_wrong_price_changes_nothing(web: Browser, alice: User, alice_access: Access, team: Team, wrong: dict[str, str]) -> None:
    agent = factories.bench_agent(alice_access)
    entered = {
        "agent": agent.slug,
        "usd_per_hour": "0.25",
        "source": "invoice",
        "dated": "2026-11",
        "utilization": "50",
        "base_version": "1",
    }
    assert web(alice).post("/t/acme/costs/prices/edit/", {**entered, **wrong}).status_code == 422
    assert current_book(team).version == 1


def test_a_registration_token_is_shown_once_and_never_cached(web: Browser, alice: User, team: Team) -> None:
    answer = web(alice).post("/t/acme/agents/new/", {"name": "lab-a10g"})
    page = answer.content.decode()
    assert "pkr_" in page
    assert "parka-agent register --server http" in page
    assert "no-store" in answer["Cache-Control"]
    assert Agent.objects.get().state == AgentState.PENDING


def test_draining_and_revoking_an_agent(web: Browser, alice: User, alice_access: Access) -> None:
    agent = factories.bench_agent(alice_access)
    client = web(alice)
    for action, state in (("drain", AgentState.DRAINING), ("resume", AgentState.ACTIVE), ("revoke", AgentState.REVOKED)):
        assert client.post(f"/t/acme/agents/{agent.slug}/{action}/").status_code == 302
        agent.refresh_from_db()
        assert agent.state == state
    assert client.post(f"/t/acme/agents/{agent.slug}/drain/").status_code == 409


def test_sensitive_changes_ask_for_the_password_again(alice: User, bob: User, team: Team, alice_access: Access) -> None:
    client = Client()
    client.force_login(alice)
    factories.bench_agent(alice_access)
    for path, data in (
        ("settings/tokens/", {"name": "ci", "scope": "read", "days": "5"}),
        (f"settings/members/{bob.public_id}/role/", {"role": "admin"}),
        ("settings/members/add/", {"email": "new@acme.example", "role": "viewer"}),
        ("agents/new/", {"name": "x"}),
        ("agents/lab-xeon/revoke/", {}),
    ):
        answer = client.post(f"/t/acme/{path}", data)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/accounts/reauthenticate/"), path
    assert not ApiToken.objects.exists()
    assert Membership.objects.get(user=bob).role == Role.MEMBER


def test_a_token_is_shown_once_and_can_be_revoked(web: Browser, alice: User, team: Team) -> None:
    client = web(alice)
    made = client.post("/t/acme/settings/tokens/", {"name": "ci", "scope": "run", "days": "30"})
    plain = re.search(r"pk_[A-Za-z0-9_-]{20,}", made.content.decode())
    assert plain
    assert "no-store" in made["Cache-Control"]
    listed = client.get("/t/acme/settings/tokens/").content.decode()
    assert plain[0] not in listed
    assert f"pk_…{plain[0][-4:]}" in listed
    client.post(f"/t/acme/settings/tokens/{ApiToken.objects.get().public_id}/revoke/")
    assert ApiToken.objects.get().revoked_at is not None


def test_a_viewer_is_offered_no_wider_token_than_reading(web: Browser, vic: User) -> None:
    client = web(vic)
    assert 'value="run"' not in client.get("/t/acme/settings/tokens/").content.decode()
    assert client.post("/t/acme/settings/tokens/", {"name": "x", "scope": "admin", "days": "3"}).status_code == 422


def test_members_are_added_changed_and_removed(web: Browser, alice: User, bob: User) -> None:
    client = web(alice)
    client.post("/t/acme/settings/members/add/", {"email": "New@Acme.example", "role": "viewer"})
    assert Membership.objects.get(user__email="new@acme.example").role == Role.VIEWER
    client.post(f"/t/acme/settings/members/{bob.public_id}/role/", {"role": "admin"})
    assert Membership.objects.get(user=bob).role == Role.ADMIN
    assert client.post(f"/t/acme/settings/members/{bob.public_id}/role/", {"role": "king"}).status_code == 422
    client.post(f"/t/acme/settings/members/{bob.public_id}/remove/")
    assert not Membership.objects.filter(user=bob).exists()


def test_the_last_owner_stays(web: Browser, alice: User, team: Team) -> None:
    client = web(alice)
    answer = client.post(f"/t/acme/settings/members/{alice.public_id}/remove/", follow=True)
    assert "make somebody else an owner first" in answer.content.decode()
    assert Membership.objects.get(user=alice).role == Role.OWNER


def test_everyone_may_leave(web: Browser, bob: User) -> None:
    assert web(bob).post(f"/t/acme/settings/members/{bob.public_id}/remove/")["Location"] == "/"
    assert not Membership.objects.filter(user=bob).exists()


def test_the_audit_log_shows_and_filters_what_was_done(web: Browser, alice: User, bob: User) -> None:
    client = web(alice)
    client.post(f"/t/acme/settings/members/{bob.public_id}/role/", {"role": "viewer"})
    page = client.get("/t/acme/settings/audit/?action=role.changed&object=bob").content.decode()
    assert "bob@acme.example" in page
    assert "team.created</code>" not in page
    assert "Nothing matches" in client.get("/t/acme/settings/audit/?actor=nobody").content.decode()


def test_csv_cells_are_numbers_or_harmless_text(web: Browser, alice: User, alice_access: Access) -> None:
    version = factories.encoder_version(alice_access, slug="minilm")
    factories.finished_run(alice_access, factories.bench_agent(alice_access, name="=cmd()"), version=version)
    client = web(alice)
    kpis = client.get("/t/acme/runs/R-1/scorecard.csv").content.decode().splitlines()
    assert kpis[0].startswith("kpi,value,unit,ci_low,ci_high,n,starts")
    p50 = next(line.split(",") for line in kpis if line.startswith("latency_p50_ms"))
    assert float(p50[1]) > float(p50[3])
    table = client.get("/t/acme/compare/?runs=R-1/0,R-1/4&diff=0&format=csv").content.decode()
    assert ",R-1/4 ci_low,R-1/4 ci_high,R-1/4 n,R-1/4 change" in table.splitlines()[0]
    assert "'=cmd()" in table
    assert ",=cmd()" not in table


def test_downloads_are_attachments_of_opaque_bytes(web: Browser, alice: User, alice_access: Access) -> None:
    artifact = factories.blob_artifact(alice_access, file_name="<b>.onnx", content=b"<script>")
    answer = web(alice).get(f"/t/acme/artifacts/{artifact.public_id}/")
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_recipes_that_differ_in_their_sessions_alone_differ_in_the_comparison(web: Browser, alice: User, alice_access: Access) -> None:
    run = factories.finished_run(alice_access, factories.bench_agent(alice_access))
    recipe = run.trials.get(index=4).recipe
    settings = {**recipe["settings"], "cached": True, "bucketed": True, "spinning": False}
    run.trials.filter(index=0).update(recipe={**recipe, "settings": settings})
    table = web(alice).get("/t/acme/compare/?runs=R-1/0,R-1/4&diff=1&format=csv").content.decode()
    recipe_lines = [line for line in table.splitlines() if line.startswith(("Passes,", "Start,", "Shapes,", "Idle threads,"))]
    assert [line.partition(",")[0] for line in recipe_lines] == ["Start", "Shapes", "Idle threads"]
    assert "from a cache that was prepared at build time" in recipe_lines[0]


def test_compare_refuses_more_than_it_can_show(web: Browser, alice: User, team: Team) -> None:
    wanted = ",".join(f"R-{number}" for number in range(201))
    assert web(alice).get(f"/t/acme/compare/?runs={wanted}").status_code == 422
