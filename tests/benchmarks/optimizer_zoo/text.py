"""Sentences of a news corpus: as tokens for encoders, and drawn as lines and pages for networks that read pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.measure import corpora, pictures

Array = np.ndarray[Any, Any]

MOST_SENTENCES = 4
"""Examples take one to four sentences, so that short and long sequences both occur."""

LINE_HEIGHT = 48
LEAST_FONT, MOST_FONT = 18, 40
TILT_DEGREES = 2.5
LEAST_LINES, MOST_LINES = 4, 12


def tokens(tokenizer_json: Path, *, count: int, length: int) -> dict[str, Array]:
    """``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 [count, 1, length]; no two examples are alike."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.enable_truncation(max_length=length)
    tokenizer.enable_padding(length=length)
    encodings = {tuple(one.ids): one for one in tokenizer.encode_batch(list(_passages()))}
    kept = list(encodings.values())[:count]
    ids, mask = (np.array([getattr(one, name) for one in kept])[:, None] for name in ("ids", "attention_mask"))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _passages() -> Iterator[str]:
    sentences = corpora.sentences()
    for number, start in enumerate(range(0, len(sentences) - MOST_SENTENCES, 2)):
        yield " ".join(sentences[start : start + 1 + number % MOST_SENTENCES])


def line(width: int, *, rng: np.random.Generator) -> Array:
    """A line of text as a scanner sees it, 48 pixels high and padded to ``width``: float32 [3, 48, width], -1 to 1, 0 where padded."""
    from PIL import Image

    drawn = _drawn_line(rng)
    fitted = drawn.resize((max(1, min(width, round(drawn.width * LINE_HEIGHT / drawn.height))), LINE_HEIGHT), Image.Resampling.BILINEAR)
    pixels = (_noisy(np.asarray(fitted), rng=rng) / 255 - 0.5) / 0.5
    return np.pad(pixels, ((0, 0), (0, width - fitted.width), (0, 0))).transpose(2, 0, 1).astype(np.float32)


def upside_down(drawn: Array) -> Array:
    """The same line [3, h, w] on its head, still padded on the right."""
    used = 1 + int(np.flatnonzero(drawn.any(axis=(0, 1)))[-1])
    turned = np.zeros_like(drawn)
    turned[:, :, :used] = drawn[:, ::-1, :used][:, :, ::-1]
    return turned


def page(side: int, *, rng: np.random.Generator) -> Array:
    """A picture or paper with lines of text on it, normalised with ImageNet's mean and deviation: float32 [3, side, side]."""
    from PIL import Image

    plain = np.full((side, side, 3), rng.integers(160, 256), np.uint8)
    ground = Image.fromarray(plain if rng.random() < 0.4 else pictures.crop(side, side, rng=rng))
    for _ in range(int(rng.integers(LEAST_LINES, MOST_LINES + 1))):
        drawn = _drawn_line(rng)
        ground.paste(drawn, (int(rng.integers(-20, side // 2)), int(rng.integers(side - 16))))
    return pictures.normalised(_noisy(np.asarray(ground), rng=rng).astype(np.uint8)).transpose(2, 0, 1)


def _drawn_line(rng: np.random.Generator) -> Any:
    """One to five words on plain ground, slightly turned: a Pillow picture."""
    from PIL import Image, ImageDraw

    font, words = _font(int(rng.integers(LEAST_FONT, MOST_FONT + 1))), _words()
    start = int(rng.integers(len(words) - 5))
    text = " ".join(words[start : start + int(rng.integers(1, 6))])
    ground, ink = rng.integers(170, 256, 3), rng.integers(0, 90, 3)
    if rng.random() < 0.25:
        ground, ink = ink, ground
    left, top, right, bottom = font.getbbox(text)
    margin = int(rng.integers(3, 10))
    image = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), tuple(ground.tolist()))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=font, fill=tuple(ink.tolist()))
    turn = rng.uniform(-TILT_DEGREES, TILT_DEGREES) * min(1.0, 6 * image.height / image.width)
    return image.rotate(turn, Image.Resampling.BILINEAR, fillcolor=tuple(ground.tolist()))


@cache
def _words() -> list[str]:
    return [word for sentence in corpora.sentences() for word in sentence.split() if word.isascii()]


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _noisy(pixels: Array, *, rng: np.random.Generator) -> Array:
    """With the noise of a sensor: float64 0 to 255."""
    return np.clip(pixels + rng.normal(0, rng.uniform(0, 12), pixels.shape), 0, 255)
