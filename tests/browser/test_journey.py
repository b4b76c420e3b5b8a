"""One person's whole way on the real platform: sign in, upload, ask, watch, read the scorecard, compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.guard import Guard
from tests.flows.stack import LiveStack, started_stack
from tests.samples import sample_path

pytestmark = [pytest.mark.browser, pytest.mark.flow, pytest.mark.timeout(900)]
BUDGET_MINUTES = "1.5"
RUN_MS = 420_000


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """A whole platform with this machine as its agent."""
    with started_stack(tmp_path_factory.mktemp("journey")) as live:
        live.wait_for_agent()
        yield live


def test_from_sign_in_to_the_comparison(new_context: Callable[..., BrowserContext], guard: Guard, platform: LiveStack) -> None:
    page = new_context().new_page()
    sign_in(page, platform)
    upload(page, platform)
    label = ask(page, platform)
    watch(page, platform, label)
    read_scorecard(page, label)
    compare(page, platform, label)
    assert not guard.wrong


def sign_in(page: Page, platform: LiveStack) -> None:
    """By e-mail and password, as anybody would."""
    page.goto(f"{platform.url}/")
    page.get_by_label("Email").fill(platform.owner.email)
    page.get_by_label("Password", exact=True).fill(platform.owner.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/t/{platform.team}/")
    expect(page.get_by_role("heading", name="Get your first scorecard")).to_be_visible()


def upload(page: Page, platform: LiveStack) -> None:
    """S1 through the drop zone; the page waits for the inspection by itself."""
    page.get_by_role("link", name="Upload model").first.click()
    page.get_by_label("Drop a model here").set_input_files(sample_path("S1"))
    expect(page.get_by_text("looks like ONNX")).to_be_visible()
    page.get_by_text("Uploaded", exact=True).wait_for(timeout=120_000)
    page.get_by_label("Name of the new model").fill("MiniLM")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(f"**/t/{platform.team}/models/minilm/1/")
    page.get_by_role("heading", name="Inputs and outputs").wait_for(timeout=180_000)
    expect(page.get_by_role("rowheader", name="input_ids", exact=True)).to_be_visible()


def ask(page: Page, platform: LiveStack) -> str:
    """A question with a small budget, its time known before the start; the label of its run."""
    page.goto(f"{platform.url}/t/{platform.team}/experiments/new/?model=minilm@1")
    expect(page.locator(".pk-estimate-time")).to_be_visible()
    page.get_by_role("radio", name="Custom").check()
    with page.expect_response("**/experiments/new/estimate/"):
        page.get_by_label("Custom time").fill(BUDGET_MINUTES)
    page.get_by_role("button", name="Start experiment").click()
    page.wait_for_url("**/experiments/E-1/")
    link = page.get_by_role("link", name=re.compile(r"^R-\d+$")).first
    label = link.inner_text()
    link.click()
    page.wait_for_url(f"**/runs/{label}/")
    return label


def watch(page: Page, platform: LiveStack, label: str) -> None:
    """Live to the end: trials arrive without a reload, a reload loses and doubles nothing, the scorecard opens by itself."""
    expect(page.get_by_role("list", name="Phases")).to_be_visible()
    page.locator("#trial-0").wait_for(timeout=RUN_MS)
    page.reload()
    page.locator("#trial-0, #finding").first.wait_for()
    numbers = page.locator("[data-log] > div").evaluate_all("lines => lines.map(line => line.id)")
    assert len(numbers) == len(set(numbers))
    page.locator("#finding").wait_for(timeout=RUN_MS)


def read_scorecard(page: Page, label: str) -> None:
    """A sentence with an interval or a reason, a verdict per target, a number's origin, the recipe."""
    finding = page.locator("#finding").inner_text()
    assert re.search(r"\[.+,.+\]|Keep the original|Undecided", finding), finding
    assert page.locator(".pk-verdict").count() >= 1
    number = page.locator("tr", has_text="p50 latency").first.get_by_role("button")
    number.click()
    origin = page.get_by_role("dialog", name="Origin of p50 latency")
    expect(origin).to_be_visible()
    page.keyboard.press("Escape")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Recipe (JSON)").click()
    assert saved.value.suggested_filename.startswith(f"{label}-trial-")
    for tab in ("Trials", "Pareto", "Environment", "Log", "Scorecard"):
        page.get_by_role("navigation", name=f"Run {label}").get_by_role("link", name=tab).click()
        expect(page.get_by_role("heading", level=1)).to_be_visible()


def compare(page: Page, platform: LiveStack, label: str) -> None:
    """The baseline beside what was judged; the table as CSV has both ends of the interval."""
    page.get_by_role("link", name="Compare", exact=True).last.click()
    page.wait_for_url("**/compare/?runs=**")
    expect(page.locator("table.pk-compare")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="CSV").click()
    assert f"{label}/0 ci_low" in saved.value.path().read_text()
