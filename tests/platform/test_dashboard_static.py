"""What the browser is sent: vendored files as locked, budgets kept, templates without inline code."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC, TEMPLATES = ROOT / "static", ROOT / "templates"
LOCKS = (STATIC / "vendor.lock", ROOT / "tests/browser/vendor/vendor.lock")
PAGES = sorted(TEMPLATES.rglob("*.html"))
FORBIDDEN = {
    "inline style": re.compile(r"\sstyle\s*="),
    "style element": re.compile(r"<style[\s>]"),
    "inline script": re.compile(r"<script(?![^>]*\ssrc=)[^>]*>"),
    "handler": re.compile(r"\son[a-z]+\s*="),
    "hx-on": re.compile(r"hx-on"),
    "js: value": re.compile(r"=[\"']js:"),
    "bracketed trigger": re.compile(r"hx-trigger=\"[^\"]*\["),
    "morph options": re.compile(r"morph:\{"),
    "boost": re.compile(r"hx-boost"),
    "unescaped output": re.compile(r"\|\s*safe\b|\{%\s*autoescape\s+off"),
    "foreign address": re.compile(r"(?:src|href)=\"(?:https?:)?//"),
}


def folder_of(lock: Path) -> Path:
    """Where the files of a lock lie."""
    return lock.parent / "vendor" if lock.parent == STATIC else lock.parent


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_vendored_files_are_exactly_the_locked_ones(lock: Path) -> None:
    locked = json.loads(lock.read_text())
    folder = folder_of(lock)
    present = {path.name for path in folder.iterdir() if path.name != "vendor.lock"}
    assert present == set(locked)
    for name, entry in locked.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert entry["licence"] or name == "LICENSES.txt"


def test_stylesheets_stay_within_their_budgets() -> None:
    own = len(gzip.compress((STATIC / "parka.css").read_bytes()))
    assert own <= 12 * 1024
    assert own + len(gzip.compress((STATIC / "vendor/tabler.min.css").read_bytes())) <= 92 * 1024


def test_our_scripts_stay_within_their_budget() -> None:
    assert sum(len(gzip.compress(path.read_bytes())) for path in STATIC.glob("*.js")) <= 25 * 1024


def test_the_icon_sprite_has_every_icon_that_a_page_names() -> None:
    drawn = set(re.findall(r'<symbol id="([^"]+)"', (STATIC / "vendor/icons.svg").read_text()))
    named = {name for page in PAGES for name in re.findall(r'{% icon "([^"]+)"', page.read_text())}
    in_code = re.findall(
        r'"(check|x|question-mark|circle-dashed|minus|trophy|equal)"', (ROOT / "platform/parka/dashboard/templatetags/parka.py").read_text()
    )
    assert named | set(in_code) <= drawn


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_templates_hold_no(rule: str) -> None:
    found = [page.relative_to(TEMPLATES) for page in PAGES if FORBIDDEN[rule].search(page.read_text())]
    assert not found


def test_every_htmx_element_names_its_target_and_swap() -> None:
    elements = [tag for page in PAGES for tag in re.findall(r"<[^>]*\shx-(?:get|post)=(?:[^>]|%}>)*?>", page.read_text())]
    assert elements
    assert not [tag for tag in elements if "hx-target" not in tag or "hx-swap" not in tag]


def test_destructive_actions_have_a_page_of_their_own_behind_the_dialog() -> None:
    opened = [tag for page in PAGES for tag in re.findall(r"<[a-z]+ [^>]*data-dialog=[^>]*>", page.read_text())]
    assert all(tag.startswith("<a ") for tag in opened if 'data-dialog="keys"' not in tag)


def test_our_stylesheet_uses_every_token_it_declares() -> None:
    text = (STATIC / "parka.css").read_text()
    declared = set(re.findall(r"(--pk-[a-z0-9-]+):", text))
    elsewhere = (ROOT / "platform/parka/dashboard/charts.py").read_text()
    used = set(re.findall(r"var\((--pk-[a-z0-9-]+)", text + elsewhere)) | {f"--pk-s{number}" for number in range(1, 7)}
    assert declared <= used
