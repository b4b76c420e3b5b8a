"""The build cache: complete or absent, first writer wins, nothing but plain files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from optimizer.errors import EngineFault
from optimizer.formats import inspect_model
from optimizer.pipeline import Build, BuildCache
from optimizer.pipeline.builds import digest_folder
from tests.samples import mlp

KEY = "a" * 64


def produced(folder: Path, *, seed: int = 1) -> Path:
    folder.mkdir(parents=True)
    mlp(folder / "model.onnx", layers=seed)
    return folder


def store(cache: BuildCache, folder: Path, key: str = KEY, **changes: object) -> Build:
    card = inspect_model(folder / "model.onnx")
    settings: dict[str, object] = {"entry": "model.onnx", "card": card, "facts": [{"pass": "simplify"}]}
    return cache.store(key, produced=folder, **{**settings, **changes})  # type: ignore[arg-type]


def test_a_stored_build_is_found_again_by_another_process(tmp_path: Path) -> None:
    stored = store(BuildCache(tmp_path / "builds"), produced(tmp_path / "out"))
    found = BuildCache(tmp_path / "builds").find(KEY)
    assert found == stored
    assert found.facts == [{"pass": "simplify"}]
    assert found.size_bytes == (found.folder / "model.onnx").stat().st_size


def test_an_unknown_key_is_absent(tmp_path: Path) -> None:
    assert BuildCache(tmp_path / "builds").find(KEY) is None


def test_a_build_whose_files_are_gone_is_absent_and_can_be_stored_again(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path / "builds")
    store(cache, produced(tmp_path / "first"))
    shutil.rmtree(tmp_path / "builds" / KEY / "model")
    assert cache.find(KEY) is None
    assert store(cache, produced(tmp_path / "second")).entry == "model.onnx"


def test_the_first_of_two_builds_with_one_key_stays(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path / "builds")
    first = store(cache, produced(tmp_path / "first", seed=1))
    second = store(cache, produced(tmp_path / "second", seed=2))
    assert second.sha256 == first.sha256
    assert [one.name for one in (tmp_path / "builds").iterdir()] == [KEY]


@pytest.mark.parametrize("entry", ["missing.onnx", "../model.onnx", "/etc/passwd"])
def test_an_entry_that_is_no_file_of_the_build_is_refused(tmp_path: Path, entry: str) -> None:
    with pytest.raises(EngineFault) as refused:
        store(BuildCache(tmp_path / "builds"), produced(tmp_path / "out"), entry=entry)
    assert refused.value.code == "child.output_invalid"


def test_a_link_in_a_build_is_refused(tmp_path: Path) -> None:
    folder = produced(tmp_path / "out")
    (folder / "weights.bin").symlink_to("/etc/passwd")
    with pytest.raises(EngineFault) as refused:
        store(BuildCache(tmp_path / "builds"), folder)
    assert refused.value.code == "child.output_invalid"
    assert list((tmp_path / "builds").iterdir()) == []


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    folder = produced(tmp_path / "out")
    before, _ = digest_folder(folder)
    (folder / "model.onnx").rename(folder / "other.onnx")
    assert digest_folder(folder)[0] != before
