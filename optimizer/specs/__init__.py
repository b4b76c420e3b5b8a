"""The engine's nouns: frozen, versioned values with a JSON round trip (``optimizer.codec``)."""

from optimizer.specs.answer import (
    ArtifactRef,
    Decision,
    Duel,
    Failure,
    FirstProven,
    NotTried,
    SearchOutcome,
    ShapeDuel,
    Stage,
    StageReport,
    StageStatus,
)
from optimizer.specs.base import SCHEMA_VERSION, Json
from optimizer.specs.evidence import Effect, KpiTarget, Measurement, Operator, Provenance, Validity, Verdict, weakest
from optimizer.specs.question import OFFLINE_OBJECTIVES, SHAPES_MOST, Budget, InputSource, Scenario, SearchSpec, TrafficShare, check_traffic
from optimizer.specs.recipe import BackendSettings, ExecutedNode, PassAccuracy, PassNeeds, PassScope, PassStep, Precision, Recipe
from optimizer.specs.subject import HardwareProfile, ModelCard, TaskKind, TensorSpec

__all__ = [
    "OFFLINE_OBJECTIVES",
    "SCHEMA_VERSION",
    "SHAPES_MOST",
    "ArtifactRef",
    "BackendSettings",
    "Budget",
    "Decision",
    "Duel",
    "Effect",
    "ExecutedNode",
    "Failure",
    "FirstProven",
    "HardwareProfile",
    "InputSource",
    "Json",
    "KpiTarget",
    "Measurement",
    "ModelCard",
    "NotTried",
    "Operator",
    "PassAccuracy",
    "PassNeeds",
    "PassScope",
    "PassStep",
    "Precision",
    "Provenance",
    "Recipe",
    "Scenario",
    "SearchOutcome",
    "SearchSpec",
    "ShapeDuel",
    "Stage",
    "StageReport",
    "StageStatus",
    "TaskKind",
    "TensorSpec",
    "TrafficShare",
    "Validity",
    "Verdict",
    "check_traffic",
    "weakest",
]
