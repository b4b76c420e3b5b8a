"""Recognises the stages of PaddleOCR exports, whose image sizes cannot be read off their fully dynamic shapes.

Sizes: PaddleOCR's inference configs (det limit 640, rec 3x48x320, direction classifier 3x48x192).
"""

from __future__ import annotations

from enum import StrEnum

from optimizer.specs import ModelCard


class OcrStage(StrEnum):
    """Text detector, text-line recogniser, direction classifier."""

    DETECT = "detect"
    RECOGNISE = "recognise"
    CLASSIFY = "classify"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return {OcrStage.DETECT: (640, 640), OcrStage.RECOGNISE: (48, 320), OcrStage.CLASSIFY: (48, 192)}[self]


def ocr_stage(card: ModelCard) -> OcrStage | None:
    """The stage this model is, or None."""
    if len(card.inputs) != 1 or len(card.outputs) != 1:
        return None
    image, output = card.inputs[0].shape, card.outputs[0].shape
    if len(image) != 4 or image[1] != 3 or any(isinstance(size, int) for size in image[2:]):
        return None
    if "character" in card.metadata and len(output) == 3:
        return OcrStage.RECOGNISE
    if not _from_paddle(card):
        return None
    if len(output) == 2 and output[1] == 2:
        return OcrStage.CLASSIFY
    return OcrStage.DETECT if len(output) == 4 and output[1] == 1 else None


def _from_paddle(card: ModelCard) -> bool:
    symbols = "".join(str(dim) for tensor in (*card.inputs, *card.outputs) for dim in tensor.shape)
    return "paddle" in card.producer.lower() or "p2o." in symbols or ".tmp_" in card.outputs[0].name
