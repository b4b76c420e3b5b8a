"""Scenes to detect things in: coloured shapes on photographs, with lines as clutter and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.measure.detections import overlaps
from tests.benchmarks.optimizer_zoo.images import ground

Array = np.ndarray[Any, Any]

KINDS = ("circle", "square", "triangle", "star")
CORNERS = {"circle": 40, "square": 4, "triangle": 3, "star": 10}
STAR_WAIST = 0.42
LEAST_RADIUS, MOST_RADIUS = 12, 50
MOST_SHAPES, MOST_LINES = 7, 3
LEAST_CONTRAST = 90.0
MOST_OVERLAP = 0.1
STRIDES = (8, 16, 32)
LARGEST_SIDE = (36, 66)
"""Longest side of what the fine and the middle grid are to find, in pixels; the coarse one takes the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Pixels float32 [3, side, side] 0 to 1, boxes [n, 4] as two corners in pixels, and an index into KINDS for each [n]."""

    pixels: Array
    boxes: Array
    kinds: Array


def scene(side: int, *, rng: np.random.Generator) -> Scene:
    """One scene with one to seven shapes that hardly overlap."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(ground(side, rng=rng).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(MOST_LINES + 1))):
        pen.line([tuple(point) for point in rng.uniform(0, side, (2, 2)).tolist()], fill=_colour(rng), width=int(rng.integers(1, 5)))
    boxes, kinds = np.zeros((0, 4)), []
    for _ in range(int(rng.integers(1, MOST_SHAPES + 1))):
        kind = int(rng.integers(len(KINDS)))
        outline = _outline(KINDS[kind], side, rng=rng)
        box = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
        if len(boxes) and overlaps(box, boxes).max() > MOST_OVERLAP:
            continue
        pen.polygon([tuple(point) for point in outline.tolist()], fill=_standing_out(image, box, rng=rng))
        boxes, kinds = np.concatenate([boxes, box[None]]), [*kinds, kind]
    pixels = np.clip(np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 12), (side, side, 3)), 0, 255) / 255
    return Scene(pixels=pixels.transpose(2, 0, 1).astype(np.float32), boxes=boxes, kinds=np.array(kinds, np.int64))


def targets(of: Scene, side: int) -> tuple[Array, Array]:
    """What each cell of the three grids is to find: kind int64 [cells], -1 for nothing, and box float32 [cells, 4].

    A shape belongs to the grid of its size and there to the cells near its middle, as in FCOS (Tian et al. 2019).
    """
    centres, strides = cells(side)
    sizes = (of.boxes[:, 2:] - of.boxes[:, :2]).max(axis=1)
    own_stride = np.array(STRIDES)[np.searchsorted(LARGEST_SIDE, sizes)]
    far = np.abs(centres[:, None] - (of.boxes[:, :2] + of.boxes[:, 2:])[None] / 2).max(axis=2)
    own = (far < 1.5 * strides[:, None]) & (strides[:, None] == own_stride[None])
    nearest = np.where(own, far, np.inf).argmin(axis=1)
    return np.where(own.any(axis=1), of.kinds[nearest], -1), of.boxes[nearest].astype(np.float32)


def cells(side: int) -> tuple[Array, Array]:
    """Centres [cells, 2] and strides [cells] of all three grids, fine to coarse, row by row."""
    grids = []
    for stride in STRIDES:
        places = (np.arange(side // stride) + 0.5) * stride
        y, x = np.meshgrid(places, places, indexing="ij")
        grids.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    joined = np.concatenate(grids)
    return joined[:, :2], joined[:, 2]


def _outline(kind: str, side: int, *, rng: np.random.Generator) -> Array:
    """Corners of the shape, turned at random, wholly inside the scene: float64 [corners, 2]."""
    corners, radius = CORNERS[kind], rng.uniform(LEAST_RADIUS, MOST_RADIUS)
    angles = 2 * np.pi * (np.arange(corners) / corners + rng.random())
    reach = np.where(np.arange(corners) % 2, STAR_WAIST, 1.0) if kind == "star" else np.ones(corners)
    middle = rng.uniform(radius, side - radius, 2)
    return np.asarray(middle + radius * reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _standing_out(image: Any, box: Array, *, rng: np.random.Generator) -> tuple[int, ...]:
    """A colour unlike what it covers."""
    under = np.asarray(image.crop(tuple(box.astype(int).tolist())).resize((1, 1)), np.float64).ravel()
    colour = _colour(rng)
    while np.linalg.norm(np.subtract(colour, under)) < LEAST_CONTRAST:
        colour = _colour(rng)
    return colour


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, 3).tolist())
