"""Every page in a real browser: no violation of the policy, no error, accessible, no sideways scroll, and without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import AXE
from tests.browser.guard import Guard
from tests.browser.site import Site

pytestmark = pytest.mark.browser
SignedIn = Callable[..., Page]

PAGES = [
    "",
    "models/",
    "models/minilm/",
    "models/broken/",
    "models/new/",
    "datasets/",
    "datasets/sentences/",
    "datasets/new/",
    "experiments/",
    "experiments/E-1/",
    "experiments/new/",
    "runs/",
    "runs/R-1/",
    "runs/R-2/",
    "runs/R-3/",
    "runs/R-4/",
    "runs/R-5/",
    "runs/R-1/trials/",
    "runs/R-1/trials/4/",
    "runs/R-1/pareto/",
    "runs/R-1/environment/",
    "runs/R-1/log/",
    "compare/",
    "compare/?runs=R-1/0,R-1/4,R-5",
    "compare/agents/",
    "agents/",
    "agents/lab-xeon/",
    "agents/new/",
    "costs/prices/",
    "costs/prices/edit/",
    "settings/members/",
    "settings/tokens/",
    "settings/team/",
    "settings/audit/",
]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


def violations(page: Page) -> list[str]:
    """What axe-core finds, one line each; run by ``evaluate`` because the policy blocks added script tags."""
    page.evaluate(AXE)
    found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", TAGS)
    return [
        f"{one['id']}: {json.dumps([node['target'] for node in one['nodes']][:3])} {one['nodes'][0]['failureSummary'][:300]}"
        for one in found["violations"]
    ]


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_every_page_is_accessible_and_fits(signed_in: SignedIn, site: Site, width: int, theme: str) -> None:
    page = signed_in(width=width, theme=theme)
    wrong: dict[str, object] = {}
    for path in PAGES:
        answer = page.goto(site.at(path), wait_until="load")
        assert answer is not None
        assert answer.status == 200, path
        assert page.locator("html").get_attribute("data-bs-theme") == theme
        found = violations(page)
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append("scrolls sideways")
        if found:
            wrong[path] = found
    assert wrong == {}, json.dumps(wrong, indent=1)


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_the_doors_are_accessible(new_context: Callable[..., object], guard: Guard, site: Site, width: int, theme: str) -> None:
    guard.allow("404")
    page: Page = new_context(width=width, theme=theme).new_page()  # type: ignore[attr-defined]
    for path in ("/accounts/login/", "/accounts/password/reset/", "/accounts/signup/", "/no/such/page/"):
        page.goto(f"{site.url}{path}")
        assert violations(page) == [], path


def test_pages_work_without_javascript(signed_in: SignedIn, guard: Guard, site: Site) -> None:
    guard.allow("422")
    page = signed_in(javascript=False)
    page.goto(site.at("runs/R-1/"))
    assert page.locator("table.pk-kpis").is_visible()
    assert page.locator("#headroom svg[role=img]").is_visible()
    assert page.locator(".pk-only-js").first.is_hidden()
    page.get_by_text("Data table").first.click()
    assert page.locator("#headroom table").is_visible()
    page.goto(site.at("runs/R-1/pareto/?y=throughput_per_s"))
    assert page.locator("#pareto svg").is_visible()
    page.goto(site.at("models/?q=mini"))
    assert page.get_by_role("link", name="MiniLM sentence encoder").is_visible()
    page.goto(site.at("compare/?runs=R-1/0,R-1/4"))
    page.get_by_label("Only differences").uncheck()
    page.get_by_role("button", name="Compare", exact=True).click()
    assert "diff=0" in page.url
    page.goto(site.at("experiments/new/"))
    page.get_by_role("spinbutton", name="p50 latency").fill("-1")
    page.get_by_role("button", name="Start experiment").click()
    assert page.get_by_role("alert").is_visible()


def test_the_error_summary_takes_the_focus(signed_in: SignedIn, guard: Guard, site: Site) -> None:
    guard.allow("422")
    page = signed_in()
    page.goto(site.at("experiments/new/"))
    page.get_by_role("spinbutton", name="p50 latency").fill("-1")
    page.get_by_text("Start experiment").click()
    page.locator("#error-summary").wait_for()
    assert page.evaluate("document.activeElement.id") == "error-summary"
    page.get_by_role("link", name="p50 latency").click()
    assert page.evaluate("document.activeElement.name") == "target_latency_p50_ms"


def test_changing_the_form_redraws_the_estimate(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("experiments/new/"))
    before = page.locator("#estimate").inner_text()
    with page.expect_response("**/experiments/new/estimate/") as answer:
        page.get_by_role("radio", name="Custom").check()
        page.get_by_label("Custom time").fill("45")
    assert answer.value.status == 200
    page.wait_for_function("before => document.getElementById('estimate').innerText !== before", arg=before)


def test_a_number_opens_its_origin_and_escape_returns_the_focus(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("runs/R-1/"))
    number = page.locator("tr", has_text="p50 latency").first.get_by_role("button")
    number.click()
    origin = page.get_by_role("dialog", name="Origin of p50 latency")
    assert origin.get_by_text("16", exact=True).is_visible()
    origin.get_by_text("Raw JSON").click()
    assert '"kpi": "latency_p50_ms"' in origin.inner_text()
    page.keyboard.press("Escape")
    origin.wait_for(state="hidden")
    assert number.evaluate("one => one === document.activeElement")


def test_the_theme_follows_the_choice_without_a_reload(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.keyboard.press("t")
    assert page.locator("html").get_attribute("data-bs-theme") == "dark"
    page.reload()
    assert page.locator("html").get_attribute("data-bs-theme") == "dark"
    page.locator("summary", has_text="Ana").click()
    page.get_by_role("button", name="As the system").click()
    assert page.locator("html").get_attribute("data-bs-theme") == "light"


def test_ticked_runs_become_a_comparison_and_back_undoes_it(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("runs/"))
    assert page.locator("[data-selection]").is_hidden()
    page.get_by_label("Select R-1").check()
    assert page.get_by_role("button", name="Compare", exact=True).is_disabled()
    page.get_by_label("Select R-5").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url("**/compare/?**")
    assert page.locator("table.pk-compare").is_visible()
    page.get_by_label("Baseline").select_option("R-1")
    page.wait_for_url("**base=R-1**")
    page.go_back()
    assert "base=" not in page.url


def test_filtering_swaps_only_the_list_and_writes_the_address(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("runs/"))
    page.get_by_label("State").select_option("failed")
    page.wait_for_url("**state=failed**")
    assert page.locator("#list tbody tr").count() == 1
    assert page.get_by_role("link", name="R-3").is_visible()
    page.get_by_label("Filter by model").fill("nothing like it")
    page.get_by_text("Nothing matches").wait_for()
    assert "q=nothing" in page.url


def test_a_wrong_file_is_named_before_anything_is_sent(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("models/new/"))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/uploads" in request.url else None)
    chooser = page.get_by_label("Drop a model here")
    chooser.set_input_files({"name": "model.onnx", "mimeType": "application/octet-stream", "buffer": b"\x80\x04\x95 a pickle"})
    page.get_by_role("alert").get_by_text("can run code when loaded").wait_for()
    chooser.set_input_files({"name": "empty.onnx", "mimeType": "application/octet-stream", "buffer": b""})
    page.get_by_role("alert").get_by_text("is empty").wait_for()
    assert sent == []


def test_a_file_is_uploaded_in_pieces_and_saved(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("models/new/"))
    content = b"\x08\x08" + b"parka" * 2_000_000
    page.get_by_label("Drop a model here").set_input_files(
        {"name": "big one.onnx", "mimeType": "application/octet-stream", "buffer": content}
    )
    page.get_by_text("Uploaded", exact=True).wait_for()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/models/big-one/1/")
    assert page.get_by_text("Reading the graph").is_visible()


def test_a_viewer_is_offered_nothing_that_is_forbidden(signed_in: SignedIn, guard: Guard, site: Site) -> None:
    guard.allow("403")
    page = signed_in("vic@acme.example")
    for path in ("", "models/", "runs/R-1/", "agents/lab-xeon/"):
        page.goto(site.at(path))
        assert page.get_by_role("link", name="New experiment").count() == 0
    answer = page.goto(site.at("experiments/new/"))
    assert answer is not None
    assert answer.status == 403
    assert page.get_by_text("Ask an owner of the team").is_visible()


def test_a_new_team_finds_its_first_steps(signed_in: SignedIn, site: Site) -> None:
    page = signed_in("newbie@new.example", width=390)
    assert page.get_by_role("heading", name="Get your first scorecard").is_visible()
    assert violations(page) == []


def test_the_live_page_resumes_and_says_when_it_is_stale(signed_in: SignedIn, guard: Guard, site: Site) -> None:
    guard.allow("ERR_INTERNET_DISCONNECTED|Failed to load resource|net::")
    page = signed_in()
    page.add_init_script("addEventListener('htmx:sseOpen', () => { document.documentElement.dataset.streamOpen = 'yes'; }, true)")
    with page.expect_request("**/runs/R-2/events?after=*"):
        page.goto(site.at("runs/R-2/"))
    page.get_by_text("Screening trial 4").wait_for()
    # What arrives after the network went proves that the stream lives, and rightly hides the badge: its opening too
    page.locator("[data-stream-open]").wait_for(state="attached")
    page.context.set_offline(True)
    page.locator("[data-stale]").get_by_text("live paused").wait_for()
    page.context.set_offline(False)
    page.locator("[data-stale]").wait_for(state="hidden")


def test_print_hides_the_navigation(signed_in: SignedIn, site: Site) -> None:
    page = signed_in()
    page.goto(site.at("runs/R-1/"))
    page.emulate_media(media="print")
    assert page.locator(".pk-nav").is_hidden()
    assert page.locator(".pk-top").is_hidden()
    assert page.locator("#finding").is_visible()
