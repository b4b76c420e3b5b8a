"""What other packages register: found without importing it, loaded with care."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimizer import extensions
from optimizer.extensions import BACKENDS, PASSES, Extension, NotLoaded
from optimizer.sandbox import layout
from optimizer.sandbox.layout import python_roots

MODULE = """\
class Good:
    name = "acme_dev"
class Leaves:
    def __init__(self):
        raise SystemExit(3)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package installed for development: its sources lie outside the environment."""
    (tmp_path / "acme_dev").mkdir()
    (tmp_path / "acme_dev" / "__init__.py").write_text(MODULE)
    facts = tmp_path / "acme_dev-3.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-dev\nVersion: 3.1\n")
    (facts / "entry_points.txt").write_text(f"[{PASSES}]\nacme_dev = acme_dev:Good\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_dev", raising=False)
    caches = (extensions.registered, layout._own_roots)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


def test_a_registered_package_is_named_with_its_version_and_its_children_may_read_it(installed: Path) -> None:
    found = next(one for one in extensions.registered(PASSES) if one.name == "acme_dev")
    assert found == Extension(name="acme_dev", target="acme_dev:Good", package="acme-dev", version="3.1")
    assert extensions.package_versions()["acme-dev"] == "3.1"
    assert str(installed.resolve()) in extensions.import_roots()
    assert any(installed.resolve().is_relative_to(root) for root in python_roots())
    assert extensions.load(found, contract=("name",)).name == "acme_dev"


def test_a_package_that_lies_directly_in_the_home_opens_no_home_to_children(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(installed))
    assert str(installed.resolve()) not in (*extensions.import_roots(), *python_roots())
    found = next(one for one in extensions.registered(PASSES) if one.name == "acme_dev")
    with pytest.raises(NotLoaded, match=f"acme-dev could not be loaded: its sources lie directly in {installed.resolve()}"):
        extensions.load(found, contract=("name",))


@pytest.mark.parametrize(
    ("name", "target", "cause"),
    [
        ("acme_dev", "acme_dev:Leaves", "SystemExit: 3"),
        ("acme_dev", "acme_dev:Missing", "AttributeError: module 'acme_dev' has no attribute 'Missing'"),
        ("acme_dev", "acme_nowhere:Good", "ModuleNotFoundError: No module named 'acme_nowhere'"),
        ("other", "acme_dev:Good", "acme_dev:Good calls itself 'acme_dev' and is registered as 'other'."),
    ],
)
def test_what_cannot_be_loaded_is_told_by_package_and_cause(installed: Path, name: str, target: str, cause: str) -> None:
    with pytest.raises(NotLoaded) as refusal:
        extensions.load(Extension(name=name, target=target, package="acme-dev", version="3.1"), contract=("name",))
    assert refusal.value.message == f"acme-dev could not be loaded: {cause}"


def test_a_part_of_the_contract_that_is_missing_is_named(installed: Path) -> None:
    found = next(one for one in extensions.registered(PASSES) if one.name == "acme_dev")
    with pytest.raises(NotLoaded, match="declares no title, apply"):
        extensions.load(found, contract=("name", "title", "apply"))


def test_nothing_is_registered_under_the_wrong_group(installed: Path) -> None:
    assert "acme_dev" not in {one.name for one in extensions.registered(BACKENDS)}
