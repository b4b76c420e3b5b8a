"""What training minimises: the distance to the teacher's outputs and, where there are labels, the task's own loss.

Imports torch: import this where it is needed only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 2.0
"""Softens both distributions, so that a classifier's wrong answers teach as well (Hinton et al. 2015, arXiv 1503.02531)."""
SUM_AGREES, LEAST_SHARE = 1e-3, 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """``scores`` is the index of a classifier's output, or None: then every float output counts by its relative squared error.

    ``hard`` is the weight of the labels' cross entropy beside the teacher's outputs.
    """

    scores: int | None
    hard: float = 0.5

    def __call__(self, ours: Sequence[Tensor], teachers: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """Mean over the examples; outputs are [n, ...]."""
        if self.scores is None:
            return _relative_error(ours, teachers)
        rows = _rows(teachers[self.scores])
        shares = _are_shares(rows)
        student, teacher = (_as_logits(one, shares=shares) for one in (_rows(ours[self.scores]), rows))
        soft = _soft_loss(student, teacher)
        if labels is None:
            return soft
        return (1 - self.hard) * soft + self.hard * functional.cross_entropy(student, labels)

    def right(self, ours: Sequence[Tensor], teachers: Sequence[Tensor], labels: Tensor | None) -> float:
        """Share of right answers, or of the teacher's answers without labels; 0 where there is no answer to be right."""
        if self.scores is None:
            return 0.0
        answers = _rows(ours[self.scores]).argmax(1)
        wanted = _rows(teachers[self.scores]).argmax(1) if labels is None else labels
        return float((answers == wanted).float().mean())


def scores_output(outputs: Sequence[Tensor]) -> int | None:
    """Index of the output that holds one row of class scores per example; None when none does."""
    fitting = [
        index
        for index, one in enumerate(outputs)
        if one.is_floating_point() and one.dim() in (2, 3) and one.shape[-1] > 1 and one[0].numel() == one.shape[-1]
    ]
    return fitting[-1] if fitting else None


def _rows(scores: Tensor) -> Tensor:
    return scores.reshape(len(scores), -1)


def _as_logits(scores: Tensor, *, shares: bool) -> Tensor:
    """Scores whose softmax is the distribution."""
    return scores.clamp_min(LEAST_SHARE).log() if shares else scores


def _are_shares(scores: Tensor) -> bool:
    """Whether the rows are probabilities already."""
    return bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < SUM_AGREES).all())


def _soft_loss(student: Tensor, teacher: Tensor) -> Tensor:
    wanted = functional.log_softmax(teacher / TEMPERATURE, dim=1)
    given = functional.log_softmax(student / TEMPERATURE, dim=1)
    return functional.kl_div(given, wanted, log_target=True, reduction="batchmean") * TEMPERATURE**2


def _relative_error(ours: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    parts = [
        (one - other).square().mean() / other.square().mean().clamp_min(1e-12)
        for one, other in zip(ours, teachers, strict=True)
        if other.is_floating_point()
    ]
    return torch.stack(parts).sum()
