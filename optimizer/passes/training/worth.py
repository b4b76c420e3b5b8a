"""What each channel is worth: the first-order change of the loss when nothing reads it (Molchanov et al. 2019, arXiv 1906.10771).

Imports torch: import this where it is needed only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from optimizer.passes.training.budgeting import Floats
from optimizer.passes.training.channels import Axis, Group
from optimizer.passes.training.data import Examples
from optimizer.passes.training.losses import Objective
from optimizer.passes.training.module import GraphModule, as_tensors, run_batch

BATCH = 16
BATCHES_AT_MOST = 16


def channel_worth(
    module: GraphModule, groups: Sequence[Group], readers: set[Axis], examples: Examples, objective: Objective
) -> list[Floats]:
    """Per group and channel, the mean over batches of the squared sum of weight times gradient where the channel is read.

    A channel with no reading weight falls back on the weights that write it.
    """
    totals = [np.zeros(group.count) for group in groups]
    parts = np.array_split(np.arange(len(examples)), max(1, len(examples) // BATCH))[:BATCHES_AT_MOST]
    for part in parts:
        _backward(module, examples.chosen(part), objective)
        weighed = {name: (weight * weight.grad).detach().numpy() for name, weight in module.weights.items() if weight.grad is not None}
        for number, group in enumerate(groups):
            for axis in _weighed_axes(group, readers, set(weighed)):
                along = weighed[axis[0]].sum(axis=tuple(dim for dim in range(weighed[axis[0]].ndim) if dim != axis[1]))
                totals[number] += np.array([along[indices].sum() ** 2 for indices in group.members[axis]])
        module.forget_gradients()
    return [total / len(parts) for total in totals]


def _weighed_axes(group: Group, readers: set[Axis], weights: set[str]) -> list[Axis]:
    known = [axis for axis in group.members if axis[0] in weights]
    return [axis for axis in known if axis in readers] or known


def _backward(module: GraphModule, examples: Examples, objective: Objective) -> None:
    """Without labels the module's own sharpened answers stand in: a network agrees with itself exactly, which has no gradient."""
    outputs = run_batch(module, as_tensors(list(examples.arrays)))
    if examples.labels is not None and objective.scores is not None:
        labels = torch.from_numpy(examples.labels.astype(np.int64))
        objective(outputs, [one.detach() for one in outputs], labels).backward()
        return
    torch.stack([one.square().mean() for one in outputs if one.is_floating_point()]).sum().backward()
