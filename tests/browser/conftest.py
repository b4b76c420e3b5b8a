"""Headless Chromium against the real ASGI server; a guard that no test can switch off.

Without a Chromium the tests skip loudly; ``PARKA_REQUIRE_BROWSER=1`` turns the skip into a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.browser.guard import Guard
from tests.browser.site import Site, served

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]


def chromium() -> str:
    """Path of an installed Chromium, or empty."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), "")


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="package")
def engine(playwright: Playwright) -> Iterator[Browser]:
    """One browser process for these tests; it ends with them: its driver keeps an event loop running in the main thread."""
    path = chromium()
    if not path:
        words = "no Chromium found: install the package chromium"
        if os.environ.get("PARKA_REQUIRE_BROWSER") == "1":
            pytest.fail(words)
        pytest.skip(words)
    browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a seeded database of its own."""
    with served(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def guard() -> Iterator[Guard]:
    """What went wrong on any page of the test; a test that provokes errors lists what it allows with ``guard.allow``."""
    watched = Guard()
    yield watched
    watched.check()


OpenContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(engine: Browser, guard: Guard) -> Iterator[OpenContext]:
    """Make a guarded context: ``new_context(width=390, theme="dark", javascript=False)``."""
    made: list[BrowserContext] = []

    def make(*, width: int = 1280, theme: str = "light", javascript: bool = True) -> BrowserContext:
        context = engine.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if theme == "dark" else "light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            java_script_enabled=javascript,
        )
        context.set_default_timeout(20_000)
        guard.watch(context)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


@pytest.fixture
def signed_in(new_context: OpenContext, site: Site) -> Callable[..., Page]:
    """A page of a person who has signed in: ``signed_in("ana@acme.example", width=390)``."""

    def open_page(email: str = "ana@acme.example", **options: object) -> Page:
        page = new_context(**options).new_page()
        site.sign_in(page, email)
        return page

    return open_page


AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
