"""Every page for every role: who sees it, who may not, and that its fragment is a part of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client

from parka.accounts.access import Access
from parka.accounts.models import Team, User
from parka.experiments.models import Run
from tests.platform import factories
from tests.platform.runs import new_agent, new_experiment

Browser = Callable[[User], Client]

READ = [
    "",
    "models/",
    "models/minilm/",
    "models/minilm/1/",
    "models/broken/",
    "models/fresh/",
    "datasets/",
    "datasets/sentences/",
    "experiments/",
    "experiments/E-1/",
    "runs/",
    "runs/R-1/",
    "runs/R-1/trials/",
    "runs/R-1/trials/0/",
    "runs/R-1/trials/2/",
    "runs/R-1/trials/4/",
    "runs/R-1/trials/4/recipe.json",
    "runs/R-1/pareto/",
    "runs/R-1/pareto/?x=throughput_per_s&y=memory_peak_host_bytes&log=x",
    "runs/R-1/environment/",
    "runs/R-1/log/",
    "runs/R-1/log/?download=1",
    "runs/R-1/scorecard.json",
    "runs/R-1/scorecard.csv",
    "runs/R-2/",
    "runs/R-2/live/",
    "runs/R-2/trials/",
    "runs/R-2/pareto/",
    "runs/R-3/",
    "compare/",
    "compare/?runs=R-1/0,R-1/4&runs=R-1&base=R-1/4&diff=0",
    "compare/?runs=R-1,R-999,nonsense",
    "compare/agents/",
    "agents/",
    "agents/lab-xeon/",
    "agents/lab-xeon/waiting/",
    "costs/prices/",
    "costs/prices/?version=1",
    "settings/members/",
    "settings/tokens/",
    "settings/team/",
    "queue/",
]
MEMBERS_ONLY = ["models/new/", "datasets/new/", "experiments/new/", "experiments/new/?from=E-1", "experiments/new/?model=minilm@1"]
ADMINS_ONLY = ["costs/prices/edit/", "settings/audit/"]
FRAGMENTS = [
    "models/",
    "models/?q=mini",
    "datasets/",
    "experiments/",
    "runs/",
    "runs/?verdict=unproven&state=finished",
    "models/minilm/",
    "models/fresh/",
    "datasets/sentences/",
    "experiments/E-1/",
    "runs/R-2/live/",
    "compare/?runs=R-1/0,R-1/4",
    "agents/",
    "",
]
ABSENT = [
    "models/nope/",
    "models/minilm/99/",
    "datasets/nope/",
    "experiments/E-99/",
    "runs/R-99/",
    "runs/R-1/trials/99/",
    "agents/nope/",
    "artifacts/art_nope/",
    "samples/" + "0" * 64 + "/",
    "samples/short/",
    "costs/prices/?version=77",
    "costs/prices/?version=x",
    "runs/R-3/scorecard.json",
]


@dataclass(frozen=True)
class Acme:
    """A team with a finished run R-1, a running R-2 and a failed R-3."""

    team: Team
    finished: Run
    running: Run
    failed: Run

    def at(self, path: str) -> str:
        return f"/t/{self.team.slug}/{path}"


@pytest.fixture
def acme(alice_access: Access) -> Acme:
    xeon = factories.bench_agent(alice_access)
    version = factories.encoder_version(alice_access)
    factories.rejected_version(alice_access)
    factories.waiting_version(alice_access)
    factories.sentences(alice_access)
    finished = factories.finished_run(alice_access, xeon, version=version)
    running = factories.running_run(alice_access, xeon, version=version)
    failed = factories.failed_run(alice_access, factories.bench_agent(alice_access, name="edge", profile=factories.EDGE), version=version)
    return Acme(team=alice_access.team, finished=finished, running=running, failed=failed)


@pytest.fixture
def web() -> Browser:
    """A signed-in browser without API behaviour."""

    def signed_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return signed_in


def test_owner_and_viewer_read_every_page(acme: Acme, web: Browser, alice: User, vic: User) -> None:
    for user in (alice, vic):
        client = web(user)
        wrong = {path: code for path in READ if (code := client.get(acme.at(path)).status_code) != 200}
        assert wrong == {}, user.email


def test_a_stranger_gets_404_everywhere(acme: Acme, web: Browser, charlie: User, other_team: Team) -> None:
    client = web(charlie)
    paths = [*READ, *MEMBERS_ONLY, *ADMINS_ONLY]
    assert {path for path in paths if client.get(acme.at(path)).status_code != 404} == set()
    absent = client.get("/t/no-such-team/")
    assert absent.status_code == 404
    body = re.sub(rb'content="[A-Za-z0-9]{64}"', b"", client.get(acme.at("models/")).content)
    assert body == re.sub(rb'content="[A-Za-z0-9]{64}"', b"", absent.content)


def test_a_visitor_is_sent_to_sign_in(acme: Acme) -> None:
    for path in ("", "runs/R-1/", "experiments/new/"):
        answer = Client().get(acme.at(path))
        assert answer.status_code == 302
        assert answer["Location"].startswith("/accounts/login/?next=/t/acme/")
    assert AnonymousUser().is_anonymous


def test_a_viewer_may_not_start_upload_or_edit(acme: Acme, web: Browser, vic: User) -> None:
    client = web(vic)
    assert {path: client.get(acme.at(path)).status_code for path in [*MEMBERS_ONLY, *ADMINS_ONLY]} == dict.fromkeys(
        [*MEMBERS_ONLY, *ADMINS_ONLY], 403
    )
    refused = client.get(acme.at("experiments/new/")).content.decode()
    assert "you are viewer" in refused
    for path in ("", "models/", "experiments/", "runs/R-1/", "runs/R-2/", "agents/lab-xeon/", "costs/prices/"):
        page = client.get(acme.at(path)).content.decode()
        for verb in ("New experiment", "Upload model", "Ask again", "Cancel the run", "Revoke", "Edit prices"):
            assert verb not in page, (path, verb)


def test_a_viewer_gets_403_for_every_post(acme: Acme, web: Browser, vic: User) -> None:
    client = web(vic)
    for path in (*MEMBERS_ONLY[:3], "experiments/new/estimate/", "runs/R-2/cancel/", "costs/prices/edit/", "agents/lab-xeon/drain/"):
        assert client.post(acme.at(path), {}).status_code == 403, path


def test_a_member_may_start_but_not_manage(acme: Acme, web: Browser, bob: User) -> None:
    client = web(bob)
    assert {client.get(acme.at(path)).status_code for path in MEMBERS_ONLY} == {200}
    assert {client.get(acme.at(path)).status_code for path in [*ADMINS_ONLY, "agents/new/"]} == {403}


def test_what_does_not_exist_is_404(acme: Acme, web: Browser, alice: User) -> None:
    client = web(alice)
    assert {path for path in ABSENT if client.get(acme.at(path)).status_code != 404} == set()


def test_the_fragment_is_a_part_of_the_page(acme: Acme, web: Browser, alice: User) -> None:
    client = web(alice)
    for path in FRAGMENTS:
        page = squeezed(client.get(acme.at(path.replace("/live/", "/"))).content.decode())
        fragment = squeezed(client.get(acme.at(path), headers={"HX-Request": "true"}).content.decode())
        assert "<html" not in fragment, path
        assert len(fragment) > 50, path
        assert fragment in page, path


def squeezed(html: str) -> str:
    """Markup without what may differ between two requests: spaces, CSRF tokens, relative times."""
    html = re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"', "", html)
    html = re.sub(r"\d+ s ago|now<|\d+–\d+ s left|\d+ min left|\d+–\d+ min left", "", html)
    return re.sub(r"\s+", " ", html).strip()


def test_every_page_has_one_heading_a_language_and_the_policy(acme: Acme, web: Browser, alice: User) -> None:
    client = web(alice)
    for path in [
        one for one in [*READ, *MEMBERS_ONLY, *ADMINS_ONLY] if not one.endswith((".json", ".csv", "download=1", "waiting/", "queue/"))
    ]:
        answer = client.get(acme.at(path))
        html = answer.content.decode()
        assert html.count("<h1") == 1, path
        assert '<html lang="en"' in html
        policy = answer["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'self'" in policy


def test_names_are_escaped_everywhere(acme: Acme, web: Browser, alice: User, alice_access: Access) -> None:
    hostile = '<img src=x onerror=alert(1)>"&'
    version = factories.encoder_version(alice_access, name=hostile, slug="hostile")
    agent = new_agent(alice_access, name=hostile[:100], profile=factories.PROFILE)
    run = factories.finished_run(alice_access, agent, version=version, title=hostile)
    client = web(alice)
    for path in ("", "models/", "models/hostile/", "experiments/", f"experiments/E-{run.experiment.number}/", "runs/", f"runs/{run.label}/",
                 f"runs/{run.label}/pareto/", f"compare/?runs={run.label}/0,{run.label}/4", "agents/", f"agents/{agent.slug}/"):  # fmt: skip
        assert "<img src=x" not in client.get(acme.at(path)).content.decode(), path


def test_a_new_team_sees_the_way_to_its_first_scorecard(web: Browser, charlie: User, other_team: Team) -> None:
    page = web(charlie).get("/t/other/").content.decode()
    assert "Get your first scorecard" in page
    for path in ("models/", "datasets/", "experiments/", "runs/", "compare/", "agents/", "experiments/new/"):
        empty = web(charlie).get(f"/t/other/{path}")
        assert empty.status_code == 200
        assert "pk-empty" in empty.content.decode(), path


def test_the_entrance_leads_to_the_first_team_or_makes_one(web: Browser, alice: User, team: Team, db: None) -> None:
    assert web(alice).get("/")["Location"] == "/t/acme/"
    lonely = User.objects.create_user("lonely@nowhere.example")
    client = web(lonely)
    assert "No team yet" in client.get("/").content.decode()
    assert client.post("/", {"name": "Lone Wolves"})["Location"] == "/t/lone-wolves/"
    assert client.post("/t/lone-wolves/settings/team/", {"name": "   "}).status_code == 422


def test_what_was_not_tried_is_gathered_by_its_reason(acme: Acme, web: Browser, alice: User) -> None:
    page = web(alice).get(acme.at("runs/R-1/")).content.decode()
    assert page.count("this processor has no f16 matrix units") == 1
    assert "<dt>2 forms</dt>" in page
    assert {"<li>openvino f16</li>", "<li>openvino f16 · 1 thread</li>"} <= set(re.findall(r"<li>openvino f16[^<]*</li>", page))
    assert "<dt>static_int8</dt><dd>needs calibration data; add a dataset</dd>" in page


def test_a_finished_run_without_scorecard_says_that_it_is_being_scored(acme: Acme, web: Browser, alice: User) -> None:
    acme.finished.scorecards.all().delete()
    page = web(alice).get(acme.at("runs/R-1/")).content.decode()
    assert "being derived" in page
    assert 'hx-trigger="every 2s"' in page


def test_waiting_for_the_score_ends_with_the_whole_page(acme: Acme, web: Browser, alice: User) -> None:
    answer = web(alice).get(acme.at("runs/R-1/"), headers={"HX-Request": "true"})
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""


def test_a_fragment_asked_for_after_signing_out_reloads_the_page(acme: Acme) -> None:
    answer = Client().get(acme.at("runs/"), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""


def test_a_queued_run_tells_what_is_ahead(acme: Acme, web: Browser, alice: User, alice_access: Access) -> None:
    experiment = new_experiment(alice_access, [acme.running.agent])
    page = web(alice).get(acme.at(f"runs/{experiment.runs.get().label}/")).content.decode()
    assert "Waiting for lab-xeon: 1 ahead" in page


QUERIES = {"": 10, "models/": 8, "datasets/": 7, "experiments/": 10, "runs/": 9, "agents/": 6}


def test_lists_ask_the_database_a_fixed_number_of_times(
    acme: Acme, web: Browser, alice: User, alice_access: Access, django_assert_num_queries: Any
) -> None:
    version = factories.encoder_version(alice_access)
    for _ in range(3):
        factories.finished_run(alice_access, factories.bench_agent(alice_access, name="more"), version=version)
    client = web(alice)
    client.get(acme.at(""))
    for path, queries in QUERIES.items():
        with django_assert_num_queries(queries):
            client.get(acme.at(path))
