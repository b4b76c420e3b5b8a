"""Random crops of shipped pictures, in a model's size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.measure import corpora

MIN_SIDE = 16
# Per-channel mean and standard deviation of ImageNet, the common preprocessing of RGB networks (torchvision's documentation).
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
Array = np.ndarray[Any, Any]


@cache
def _picture(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.convert("RGB")


def crop(height: int, width: int, *, rng: np.random.Generator) -> Array:
    """One random crop, resized and maybe mirrored: uint8 [height, width, 3]."""
    from PIL import Image

    files = corpora.pictures()
    picture = _picture(files[int(rng.integers(len(files)))])
    scale = float(rng.uniform(0.3, 1.0))
    ratio = width / height
    crop_height = max(1, int(min(picture.height, picture.width / ratio) * scale))
    crop_width = max(1, min(picture.width, int(crop_height * ratio)))
    left, top = int(rng.integers(picture.width - crop_width + 1)), int(rng.integers(picture.height - crop_height + 1))
    resized = picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + crop_width, top + crop_height))
    pixels = np.asarray(resized)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def normalised(pixels: Array) -> Array:
    """uint8 RGB [h, w, 3] to float32 with ImageNet's mean and deviation."""
    return ((pixels.astype(np.float32) / 255) - MEAN) / DEVIATION


def crops(height: int, width: int, *, channels: int, raw: bool, seed: int) -> Iterator[Array]:
    """Endless crops [height, width, channels]: uint8 when ``raw``, else normalised float32 (grey ones to 0..1)."""
    index = 0
    while True:
        pixels = crop(height, width, rng=np.random.default_rng([seed, index]))
        index += 1
        if channels == 1:
            grey = pixels.mean(axis=2, keepdims=True)
            yield grey.astype(np.uint8) if raw else (grey / 255).astype(np.float32)
        else:
            yield pixels if raw else normalised(pixels)
