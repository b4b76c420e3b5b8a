"""External data stays within the bundle: paths, keys and ranges are checked before anything is opened."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import onnx
import pytest

from optimizer.errors import InputError
from optimizer.formats import inspect_model, prepare, prepare_model
from tests import samples
from tests.engine.formats.codes import refusal_of


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with model.onnx and weights.bin."""
    return samples.external(tmp_path / "bundle").parent


def bend(bundle: Path, **entries: str) -> None:
    """Overwrite (or add) external-data entries of the first tensor."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    tensor = model.graph.initializer[0]
    for key, value in entries.items():
        found = next((entry for entry in tensor.external_data if entry.key == key), None) or tensor.external_data.add(key=key)
        found.value = value
    (bundle / "model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "location",
    [
        "../weights.bin", "/etc/passwd", "/proc/self/environ", "a/../../weights.bin", "./weights.bin", "a//b", "", "weights bin", "we\\ights",
        "*/_ORT_MEM_ADDR_/*", "~/x", "weights.bin\0", "..", "a/.", "C:weights.bin", "x" * 600, "weights.bin/",
    ],
)  # fmt: skip
def test_a_location_that_is_no_plain_relative_path_is_refused_before_it_is_opened(bundle: Path, location: str) -> None:
    bend(bundle, location=location)
    assert refusal_of(lambda: inspect_model(bundle / "model.onnx")) == "onnx.external_path"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"offset": "-1"}, "onnx.external_range"),
        ({"offset": str(2**62)}, "onnx.external_range"),
        ({"offset": "99999999"}, "onnx.external_range"),
        ({"offset": "0x10"}, "onnx.external_range"),
        ({"offset": ""}, "onnx.external_range"),
        ({"length": str(2**62)}, "onnx.external_range"),
        ({"length": "-4"}, "onnx.external_range"),
        ({"length": "4"}, "onnx.external_range"),
        ({"command": "rm"}, "onnx.external_key"),
        ({"location": "model.onnx.data"}, "onnx.external_missing"),
        ({"location": "sub/weights.bin"}, "onnx.external_missing"),
    ],
)
def test_ranges_keys_and_missing_files_have_their_codes(bundle: Path, entries: dict[str, str], code: str) -> None:
    bend(bundle, **entries)
    assert refusal_of(lambda: inspect_model(bundle / "model.onnx")) == code


def test_a_key_given_twice_is_refused(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    assert refusal_of(lambda: inspect_model(bundle / "model.onnx")) == "onnx.external_key"


def test_a_data_file_that_ends_early_is_refused(bundle: Path) -> None:
    os.truncate(bundle / "weights.bin", (bundle / "weights.bin").stat().st_size - 1)
    assert refusal_of(lambda: inspect_model(bundle / "model.onnx")) == "onnx.external_range"


@pytest.mark.parametrize("kind", ["symlink", "hard link", "folder", "fifo", "linked folder"])
def test_a_data_file_that_is_no_plain_file_is_refused(bundle: Path, tmp_path: Path, kind: str) -> None:
    real = tmp_path / "real"
    shutil.move(bundle / "weights.bin", real)
    if kind == "symlink":
        (bundle / "weights.bin").symlink_to(real)
    elif kind == "hard link":
        (bundle / "weights.bin").hardlink_to(real)
    elif kind == "folder":
        (bundle / "weights.bin").mkdir()
    elif kind == "fifo":
        os.mkfifo(bundle / "weights.bin")
    else:
        (tmp_path / "outside").mkdir()
        shutil.copy(real, tmp_path / "outside" / "weights.bin")
        (bundle / "sub").symlink_to(tmp_path / "outside")
        model = onnx.load(bundle / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = "sub/weights.bin"
        (bundle / "model.onnx").write_bytes(model.SerializeToString())
    assert refusal_of(lambda: inspect_model(bundle / "model.onnx")) == "onnx.external_path"


def test_the_sentence_encoder_with_external_data_inside_a_zip_is_taken(tmp_path: Path) -> None:
    model = onnx.load(samples.sample_path("S1"))
    (tmp_path / "s1").mkdir()
    onnx.save(model, tmp_path / "s1" / "encoder.onnx", save_as_external_data=True, location="encoder.onnx.data")
    archive = samples.zipped(tmp_path / "s1", tmp_path / "s1.zip", prefix="export/onnx/", method=zipfile.ZIP_STORED)
    entry = prepare_model(archive, tmp_path / "flat")
    card, plain = inspect_model(entry), inspect_model(samples.sample_path("S1"))
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["encoder.onnx.data", "model.onnx"]
    assert card.external_files == ("encoder.onnx.data",)
    assert (card.parameters, card.flops, card.task, card.weight_bytes) == (plain.parameters, plain.flops, plain.task, plain.weight_bytes)
    assert card.size_bytes == sum(path.stat().st_size for path in (tmp_path / "flat").iterdir())


def test_a_digest_covers_the_data_file(bundle: Path) -> None:
    before = inspect_model(bundle / "model.onnx").sha256
    data = bytearray((bundle / "weights.bin").read_bytes())
    data[0] ^= 1
    (bundle / "weights.bin").write_bytes(data)
    assert inspect_model(bundle / "model.onnx").sha256 != before


def test_what_the_model_does_not_need_is_left_out_with_a_warning(bundle: Path, tmp_path: Path) -> None:
    (bundle / "README.md").write_text("hello")
    prepared = prepare(samples.zipped(bundle, tmp_path / "x.zip"), tmp_path / "flat")
    assert sorted(path.name for path in (tmp_path / "flat").iterdir()) == ["model.onnx", "weights.bin"]
    assert any("README.md" in warning for warning in prepared.warnings)


def test_a_zip_without_the_data_file_says_which_one_is_missing(bundle: Path, tmp_path: Path) -> None:
    (bundle / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"weights\.bin") as caught:
        prepare(samples.zipped(bundle, tmp_path / "x.zip"), tmp_path / "flat")
    assert caught.value.code == "onnx.external_missing"


def test_a_single_file_with_external_data_asks_for_a_zip(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="zip") as caught:
        prepare(bundle / "model.onnx", tmp_path / "flat")
    assert caught.value.code == "onnx.external_missing"


def test_on_one_s_own_machine_the_data_beside_the_model_is_copied(bundle: Path, tmp_path: Path) -> None:
    for number, upload in enumerate((bundle / "model.onnx", bundle)):
        entry = prepare_model(upload, tmp_path / f"flat{number}", beside=True)
        assert (entry.parent / "weights.bin").read_bytes() == (bundle / "weights.bin").read_bytes()
        assert (entry.parent / "weights.bin").stat().st_nlink == 1


def test_a_data_file_cannot_take_the_place_of_the_model(tmp_path: Path) -> None:
    bundle = samples.external(tmp_path / "bundle").parent
    (bundle / "model.onnx").rename(bundle / "net.onnx")
    model = onnx.load(bundle / "net.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "model.onnx"
    (bundle / "net.onnx").write_bytes(model.SerializeToString())
    (bundle / "weights.bin").rename(bundle / "model.onnx")
    assert refusal_of(lambda: prepare(bundle / "net.onnx", tmp_path / "flat", beside=True)) == "onnx.external_path"
