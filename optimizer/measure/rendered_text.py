"""Text lines and pages drawn from the shipped corpus for text-reading networks, preprocessed as PaddleOCR does.

Recognition and direction: height fixed, width padded with zeros, x = (v / 255 - 0.5) / 0.5. Detection: ImageNet's mean and
deviation. Source: PaddleOCR's inference configs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from optimizer.formats.ocr import OcrStage
from optimizer.measure import corpora
from optimizer.measure.pictures import crop, normalised
from optimizer.specs import ModelCard

FONT_PIXELS = 32
Array = np.ndarray[Any, Any]


def text_lines(card: ModelCard, stage: OcrStage, height: int, width: int, *, seed: int) -> Iterator[Array]:
    """Endless float32 [height, width, 3] lines; for the direction classifier every second one stands on its head."""
    words = _known_words(card)
    index = 0
    while True:
        rng = np.random.default_rng([seed, index])
        pixels = _line(_phrase(words, rng), rng=rng)
        fitted = _fitted(pixels, height=height, width=width)
        if stage is OcrStage.CLASSIFY and index % 2:
            fitted = fitted[::-1, ::-1]
        yield _padded((fitted.astype(np.float32) / 255 - 0.5) / 0.5, width)
        index += 1


def pages(height: int, width: int, *, seed: int) -> Iterator[Array]:
    """Endless float32 [height, width, 3] pictures with 4 to 12 text lines on them."""
    words = _known_words(None)
    index = 0
    while True:
        rng = np.random.default_rng([seed, index])
        page = _ground(height, width, rng=rng)
        for _ in range(int(rng.integers(4, 13))):
            line = _line(_phrase(words, rng), rng=rng)[:height, :width]
            top, left = int(rng.integers(height - line.shape[0] + 1)), int(rng.integers(width - line.shape[1] + 1))
            page[top : top + line.shape[0], left : left + line.shape[1]] = line
        yield normalised(page)
        index += 1


def _ground(height: int, width: int, *, rng: np.random.Generator) -> Array:
    """A picture to write on, or plain paper where no pictures are installed."""
    if corpora.pictures():
        return crop(height, width, rng=rng).copy()
    return np.full((height, width, 3), rng.integers(160, 256), np.uint8)


def _known_words(card: ModelCard | None) -> list[str]:
    """Words of the corpus that the model's alphabet can spell."""
    alphabet = set(card.charset) if card is not None and card.charset else None
    words = [word for sentence in corpora.sentences() for word in sentence.split()]
    return [word for word in words if alphabet is None or alphabet.issuperset(word)]


def _phrase(words: list[str], rng: np.random.Generator) -> str:
    start = int(rng.integers(len(words) - 5))
    return " ".join(words[start : start + int(rng.integers(1, 5))])


def _line(text: str, *, rng: np.random.Generator) -> Array:
    """Dark text on a light ground (or the reverse, one in four): uint8 [h, w, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=FONT_PIXELS)
    left, top, right, bottom = font.getbbox(text)
    ground, ink = int(rng.integers(190, 256)), int(rng.integers(0, 80))
    if rng.random() < 0.25:
        ground, ink = ink, ground
    size = (int(right - left) + 16, int(bottom - top) + 16)
    image = Image.new("RGB", size, (ground, ground, ground))
    ImageDraw.Draw(image).text((8 - left, 8 - top), text, font=font, fill=(ink, ink, ink))
    return np.asarray(image)


def _fitted(pixels: Array, *, height: int, width: int) -> Array:
    """Resized to the height, keeping the ratio, at most ``width`` wide."""
    from PIL import Image

    fitted_width = max(1, min(width, round(pixels.shape[1] * height / pixels.shape[0])))
    return np.asarray(Image.fromarray(pixels).resize((fitted_width, height), Image.Resampling.BILINEAR))


def _padded(values: Array, width: int) -> Array:
    return np.pad(values, ((0, 0), (0, width - values.shape[1]), (0, 0)))
