"""Trains the zoo's own networks from a seed. Imports torch: import this module where it is needed only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from optimizer.measure.detections import Boxes, Found, Layout, Reading, boxes_of, matches
from tests.benchmarks.optimizer_zoo.images import pasted
from tests.benchmarks.optimizer_zoo.scenes import Scene, scene, targets

Array = np.ndarray[Any, Any]
Batch = tuple[Any, ...]

WEIGHT_DECAY = 0.02
FOCUS, BALANCE = 2.0, 0.25
"""Exponent and weight of the focal loss, as its authors chose them (Lin et al. 2017)."""


def fit(module: Any, batches: Iterator[Batch], loss: Callable[..., Any], *, steps: int, rate: float) -> None:
    """Train for so many steps with one cycle of the learning rate, then leave the module in eval mode."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    module.train()
    for _, batch in zip(range(steps), batches, strict=False):
        optimiser.zero_grad()
        loss(module, *batch).backward()
        optimiser.step()
        schedule.step()
    module.eval()


def class_loss(module: Any, images: Any, labels: Any) -> Any:
    return functional.cross_entropy(module(images), labels, label_smoothing=0.05)


def accuracy(module: Any, images: Array, labels: Array) -> float:
    """Share of right answers; ``images`` [n, 1, ...] are the examples of an exhibit."""
    with torch.inference_mode():
        answers = np.concatenate([module(torch.from_numpy(part[:, 0])).argmax(1).numpy() for part in np.array_split(images, 20)])
    return float((answers == labels).mean())


def digit_batches(images: Array, labels: Array, *, size: int) -> Iterator[Batch]:
    """Pictures [n, 1, 8, 8] with a little noise."""
    rng = np.random.default_rng(1)
    while True:
        chosen = rng.choice(len(images), size, replace=False)
        noisy = images[chosen] + rng.normal(0, 0.03, images[chosen].shape)
        yield torch.from_numpy(noisy.astype(np.float32)), torch.from_numpy(labels[chosen])


def pasted_batches(digits: Array, labels: Array, *, side: int, size: int) -> Iterator[Batch]:
    """Digits pasted anew every time they are drawn."""
    rng = np.random.default_rng(2)
    while True:
        chosen = rng.choice(len(digits), size, replace=False)
        yield torch.from_numpy(np.stack([pasted(digits[one], side, rng=rng) for one in chosen])), torch.from_numpy(labels[chosen])


def scene_batches(*, side: int, size: int, seed: int) -> Iterator[Batch]:
    """Scenes with what their cells are to find."""
    rng = np.random.default_rng(seed)
    while True:
        scenes = [scene(side, rng=rng) for _ in range(size)]
        kinds, boxes = zip(*(targets(one, side) for one in scenes), strict=True)
        yield tuple(torch.from_numpy(np.stack(part)) for part in ([one.pixels for one in scenes], kinds, boxes))


def detection_loss(module: Any, images: Any, kinds: Any, boxes: Any) -> Any:
    """Focal loss of every cell's scores and the generalised overlap (Rezatofighi et al. 2019) of the cells that find something."""
    centres, sides, logits = module.raw(images)
    own = kinds >= 0
    wanted = functional.one_hot(kinds.clamp(min=0), logits.shape[1]) * own[..., None]
    wanted = wanted.permute(0, 2, 1).to(logits.dtype)
    cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    missed = (logits.sigmoid() - wanted).abs()
    weight = BALANCE * wanted + (1 - BALANCE) * (1 - wanted)
    found = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], 1).permute(0, 2, 1)[own]
    count = max(1, int(own.sum()))
    return (weight * missed**FOCUS * cross).sum() / count + (1 - _generalised_overlap(found, boxes[own])).sum() / count


def _generalised_overlap(boxes: Any, others: Any) -> Any:
    """Of each box [n, 4] with the other in its row."""
    shared = _area(torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:]))
    hull = _area(torch.minimum(boxes[:, :2], others[:, :2]), torch.maximum(boxes[:, 2:], others[:, 2:]))
    together = _area(boxes[:, :2], boxes[:, 2:]) + _area(others[:, :2], others[:, 2:]) - shared
    return shared / together - (hull - together) / hull


def _area(low: Any, high: Any) -> Any:
    return (high - low).clamp(min=0).prod(1) + 1e-6


def detection_f1(module: Any, scenes: list[Scene]) -> float:
    """Of the boxes found with those drawn, at an overlap of 0.5."""
    tally = Boxes(reading=Reading(layout=Layout.ANCHORS_LAST, outputs=(0,)))
    for one in scenes:
        with torch.inference_mode():
            found = boxes_of([module(torch.from_numpy(one.pixels[None])).numpy()], tally.reading)[0]
        drawn = Found(boxes=one.boxes, scores=np.ones(len(one.boxes)), classes=one.kinds.astype(np.float64))
        tally.matched_twice.append(2 * matches(drawn, found))
        tally.boxes.append(len(drawn.scores) + len(found.scores))
    return sum(tally.matched_twice) / sum(tally.boxes)
