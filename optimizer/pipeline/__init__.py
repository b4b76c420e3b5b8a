"""One trial stage at a time, each in sandboxed children: materialise, verify, measure. The supervisor never loads a model."""

from optimizer.pipeline.builds import Build, BuildCache
from optimizer.pipeline.evaluating import Yardstick
from optimizer.pipeline.materialise import as_uploaded, materialise
from optimizer.pipeline.portions import portion
from optimizer.pipeline.subject import StepFailed, Subject, failure_of, limits_for
from optimizer.pipeline.timing import Block, HeldField, Pace, Round, Start, Witness, race_block, run_start
from optimizer.pipeline.verifying import Verifier

__all__ = [
    "Block",
    "Build",
    "BuildCache",
    "HeldField",
    "Pace",
    "Round",
    "Start",
    "StepFailed",
    "Subject",
    "Verifier",
    "Witness",
    "Yardstick",
    "as_uploaded",
    "failure_of",
    "limits_for",
    "materialise",
    "portion",
    "race_block",
    "run_start",
]
