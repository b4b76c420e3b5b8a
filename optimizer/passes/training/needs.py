"""Which models the training passes take at all. No torch."""

from __future__ import annotations

from optimizer.passes.base import No, Yes
from optimizer.passes.quantizer import HEAVY
from optimizer.specs import HardwareProfile, ModelCard
from optimizer.units import GIB

LARGEST_WEIGHTS_BYTES = GIB


def trainable(card: ModelCard, hardware: HardwareProfile) -> Yes | No:
    """Whether this graph could become a module and be trained on this host."""
    if "torch" not in hardware.runtimes:
        return No("it needs PyTorch: pip install 'parka[torch]'")
    if card.quantized:
        return No("already quantised")
    if not any(card.operators.get(name) for name in HEAVY):
        return No("no convolutions or matrix products to train")
    if card.control_flow:
        return No("branches and loops are not trained")
    if card.state_pairs:
        return No("it carries state from call to call, and training sees single calls")
    if card.random:
        return No("it draws random numbers")
    if card.weight_bytes > LARGEST_WEIGHTS_BYTES:
        return No("its weights are too large to be trained in the time of a search")
    return Yes()
