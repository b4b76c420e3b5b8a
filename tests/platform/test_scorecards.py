"""Prices by version, scorecards from stored results, comparisons."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from rest_framework.test import APIClient

from parka.accounts.access import Access
from parka.core.errors import Conflict, Forbidden, NotFound, Refused
from parka.fleet.models import Agent
from parka.scorecards import selectors
from parka.scorecards.comparing import compare
from parka.scorecards.models import Price, PriceBook, Scorecard
from parka.scorecards.services import BookChanges, PriceChange, revise_book, save_comparison, store_scorecard
from parka.workflow.scoring import rescore_team
from tests.platform.factories import bench_agent, finished_run
from tests.platform.runs import new_agent, new_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent(alice_access: Access) -> Agent:
    return bench_agent(alice_access)


def entered(usd: str, *, key: str = "vcpu.x86_64", **more: Any) -> BookChanges:
    return BookChanges(prices=(PriceChange(key=key, usd_per_hour=Decimal(usd), **more),))


def test_the_first_book_comes_from_the_catalogue_with_sources(alice_access: Access) -> None:
    book = selectors.current_book(alice_access.team)
    assert selectors.current_book(alice_access.team) == book
    assert (book.version, book.utilization) == (1, Decimal("0.40"))
    assert all(price.provenance == "catalog_default" and (price.source or price.flag) for price in book.prices.all())


def test_a_machine_without_price_costs_the_vcpu_price_times_its_cores(alice_access: Access, agent: Agent) -> None:
    book = selectors.current_book(alice_access.team)
    price = selectors.price_of(agent, book)
    vcpu = book.prices.get(key="vcpu.x86_64")
    assert price.usd_per_hour == vcpu.usd_per_hour * 8
    assert price.provenance.is_estimate


def test_an_entered_price_of_an_agent_wins_and_is_no_estimate(alice_access: Access, agent: Agent) -> None:
    book = revise_book(
        alice_access, entered("0.25", key=selectors.agent_key(agent), hardware="our rack", source="invoice", dated="2026-10")
    )
    price = selectors.price_of(agent, book)
    assert (price.usd_per_hour, price.hardware, price.source) == (Decimal("0.25"), "our rack", "invoice")
    assert not price.provenance.is_estimate


def test_an_own_vcpu_price_applies_to_every_unpriced_machine(alice_access: Access, agent: Agent) -> None:
    book = revise_book(alice_access, entered("0.01"))
    assert selectors.price_of(agent, book).usd_per_hour == Decimal("0.08")
    assert not selectors.price_of(agent, book).provenance.is_estimate


def test_a_change_makes_a_new_version_and_the_old_one_stays(alice_access: Access) -> None:
    first = selectors.current_book(alice_access.team)
    before = {price.key: price.usd_per_hour for price in first.prices.all()}
    second = revise_book(alice_access, entered("0.01"))
    assert (second.version, second.prices.count()) == (2, len(before))
    assert {price.key: price.usd_per_hour for price in Price.objects.filter(book=first)} == before
    third = revise_book(alice_access, BookChanges(prices=(PriceChange(key="vcpu.x86_64", usd_per_hour=None),), utilization=Decimal("0.7")))
    assert not third.prices.filter(key="vcpu.x86_64").exists()
    assert third.utilization == Decimal("0.7")


def test_of_two_changes_on_the_same_version_the_second_is_a_conflict(alice_access: Access) -> None:
    selectors.current_book(alice_access.team)
    revise_book(alice_access, BookChanges(utilization=Decimal("0.5"), base_version=1))
    with pytest.raises(Conflict) as refusal:
        revise_book(alice_access, BookChanges(utilization=Decimal("0.6"), base_version=1))
    assert refusal.value.code == "price.conflict"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (entered("-1"), "price.invalid"),
        (entered("NaN"), "price.invalid"),
        (entered("1e9"), "price.invalid"),
        (entered("1", dated="soon"), "price.date"),
        (entered("1", key=""), "field.invalid"),
        (BookChanges(utilization=Decimal("0")), "price.utilization"),
        (BookChanges(utilization=Decimal("1.1")), "price.utilization"),
    ],
)
def test_an_impossible_price_is_refused(alice_access: Access, changes: BookChanges, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        revise_book(alice_access, changes)
    assert refusal.value.code == code
    assert not PriceBook.objects.filter(version__gt=1).exists()


def test_members_do_not_change_prices(bob_access: Access) -> None:
    with pytest.raises(Forbidden):
        revise_book(bob_access, entered("1"))


def test_a_finished_run_gets_its_scorecard_once(alice_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    row = selectors.scorecard(alice_access, run)
    card = selectors.scorecard_value(row)
    assert (row.decision, card.decision) == ("winner", "winner")
    assert row.finding == card.finding
    assert row.passed + row.failed + row.unproven == len(card.targets)
    again = store_scorecard(run, row.book)
    assert again.pk == row.pk
    assert Scorecard.objects.count() == 1


def test_a_new_price_scores_an_old_run_again_and_keeps_the_old_scorecard(alice_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    old = selectors.scorecard_value(selectors.scorecard(alice_access, run))
    revise_book(alice_access, entered("100", key=selectors.agent_key(agent)))
    assert rescore_team(alice_access.team) == 1
    assert rescore_team(alice_access.team) == 0
    new = selectors.scorecard_value(selectors.scorecard(alice_access, run))
    assert new.price.usd_per_hour == 100
    cost = {
        name: next(row for row in card.rows if row.kpi == "cost_usd_per_million_inferences") for name, card in (("old", old), ("new", new))
    }
    assert cost["new"].measurement.value > cost["old"].measurement.value  # type: ignore[union-attr]
    assert selectors.scorecard(alice_access, run, book_version=1).book.version == 1


def test_a_run_that_has_not_finished_has_no_scorecard(alice_access: Access) -> None:
    run = new_run(alice_access, new_agent(alice_access))
    with pytest.raises(NotFound) as refusal:
        selectors.scorecard(alice_access, run)
    assert refusal.value.code == "scorecard.not_ready"
    with pytest.raises(Conflict):
        store_scorecard(run, selectors.current_book(alice_access.team))


def test_another_teams_scorecard_is_not_found(alice_access: Access, charlie_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    with pytest.raises(NotFound):
        selectors.scorecard(charlie_access, run)
    assert not selectors.scorecards(charlie_access).exists()


def test_two_runs_compare_against_the_pinned_one(alice_access: Access, agent: Agent) -> None:
    first, second = finished_run(alice_access, agent), finished_run(alice_access, agent)
    compared = compare(alice_access, picks=[first.label, second.public_id], base=second.label)
    assert compared.table.base == second.label
    assert [one.key for one in compared.chosen] == [first.label, second.label]
    assert compared.unknown == ()
    row = next(row for row in compared.table.rows if row.kpi == "latency_p50_ms")
    assert row.cells[0].change is not None
    assert row.cells[1].change is None


def test_trials_of_a_run_compare_by_their_duel(alice_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    compared = compare(alice_access, picks=[f"{run.label}/0", run.label])
    row = next(row for row in compared.table.rows if row.kpi == "latency_p50_ms")
    change = row.cells[1].change
    assert change is not None
    assert change.effect == "faster"
    assert row.cells[1].leads


def test_an_experiment_stands_for_all_its_agents(alice_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    compared = compare(alice_access, picks=[run.experiment.label])
    assert [one.key for one in compared.chosen] == [run.label]


def test_picks_that_lead_nowhere_are_named_and_the_others_load(alice_access: Access, charlie_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    theirs = new_run(charlie_access, new_agent(charlie_access))
    picks = ["R-999", "nonsense", f"{run.label}/77", theirs.public_id, run.label, "E-999", "R-1/x", "R-" + "9" * 30]
    compared = compare(alice_access, picks=picks)
    assert [one.key for one in compared.chosen] == [run.label]
    assert set(compared.unknown) == set(picks) - {run.label}


def test_a_comparison_of_nothing_or_of_too_much_is_refused(alice_access: Access, agent: Agent) -> None:
    run = finished_run(alice_access, agent)
    for picks, base, code in (
        ([], "", "compare.too_few"),
        (["R-999"], "", "compare.too_few"),
        ([f"R-{number}" for number in range(201)], "", "compare.too_many"),
        ([run.label], "R-999", "compare.base"),
    ):
        with pytest.raises(Refused) as refusal:
            compare(alice_access, picks=picks, base=base)
        assert refusal.value.code == code


def test_runs_scorecards_and_comparisons_speak_the_same_numbers_in_the_api(
    api: Callable[..., APIClient], alice_access: Access, agent: Agent
) -> None:
    run, client = finished_run(alice_access, agent), api(alice_access)
    shown = client.get(f"/api/v1/runs/{run.label}").json()
    assert (shown["id"], shown["status"]) == (run.public_id, "finished")
    assert client.get(f"/api/v1/runs/{run.public_id}?wait=30").json() == shown
    card = client.get(f"/api/v1/runs/{run.label}/scorecard").json()
    assert card["links"]["page"] == f"/t/acme/runs/{run.label}/"
    assert card["scorecard"]["trial"] == shown["outcome"]["winner"]
    assert card["artifacts"]
    trials = client.get(shown["links"]["trials"]).json()["items"]
    assert [trial["index"] for trial in trials] == list(range(len(trials)))
    compared = client.get(f"/api/v1/compare?runs={run.label}/0,{run.label}").json()
    p50 = next(row for row in compared["table"]["rows"] if row["kpi"] == "latency_p50_ms")
    headline = next(row for row in card["scorecard"]["rows"] if row["kpi"] == "latency_p50_ms")
    assert p50["cells"][1]["measurement"]["value"] == headline["measurement"]["value"]
    assert client.get(f"/api/v1/experiments/{run.experiment.label}?wait=1").json()["status"] == "finished"


def test_prices_change_through_the_api_guarded_by_the_etag(api: Callable[..., APIClient], ada_access: Access) -> None:
    client = api(ada_access)
    first = client.get("/api/v1/price-book")
    body = {"prices": [{"key": "vcpu.x86_64", "usd_per_hour": "0.05"}]}
    changed = client.patch("/api/v1/price-book", body, format="json", headers={"If-Match": first["ETag"]})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    late = client.patch("/api/v1/price-book", body, format="json", headers={"If-Match": first["ETag"]})
    assert (late.status_code, late.json()["code"]) == (412, "request.precondition")
    assert [book["version"] for book in client.get("/api/v1/price-book/versions").json()["items"]] == [2, 1]


def test_a_saved_comparison_comes_back(api: Callable[..., APIClient], bob_access: Access, vic_access: Access) -> None:
    client = api(bob_access)
    made = client.post("/api/v1/comparisons", {"name": "Mine", "query": "runs=R-1,R-2&base=R-1"}, format="json")
    assert client.get(made["Location"]).json() == made.json()
    assert client.delete(made["Location"]).status_code == 204
    assert client.get(made["Location"]).status_code == 404
    with pytest.raises(Forbidden):
        save_comparison(vic_access, name="x", query="")
