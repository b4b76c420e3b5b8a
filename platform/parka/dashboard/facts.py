"""Facts of recipes, machines and environments as label and text; what agents and models claim is printable text only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optimizer.score.wording import format_bytes, format_count
from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, PassStep, Precision, Recipe
from parka.core.text import clean_line
from parka.fleet.models import Agent

LONGEST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of a list of facts."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A measured peak of a machine."""

    label: str
    value: str
    unit: str


def fact(label: str, value: object) -> Fact:
    """A fact whose text is cut and stripped of control marks."""
    return Fact(label=clean_line(label, limit=80), value=clean_line(str(value), limit=LONGEST) or "—")


def recipe_facts(recipe: Recipe) -> list[Fact]:
    """What turns the upload into this session, in order."""
    settings = recipe.settings
    facts = [
        fact("Passes", ", ".join(step_words(step) for step in recipe.passes) or "none, as uploaded"),
        fact("Backend", recipe.backend),
        fact("Device", " ".join(filter(None, (settings.device, settings.provider)))),
        fact("Precision", "f32, no silent conversion" if settings.precision is Precision.F32 else settings.precision),
        fact("Threads", "default at the quota" if settings.threads is None else settings.threads),
        fact("Streams", settings.streams),
        fact("Batch", settings.batch),
    ]
    if settings.cached:
        facts.append(fact("Start", start_words(settings)))
    if settings.bucketed:
        facts.append(fact("Shapes", shape_words(settings)))
    if settings.spinning is not None:
        facts.append(fact("Idle threads", idle_words(settings)))
    return [*facts, *(fact(name, value) for name, value in settings.extra.items())]


def start_words(settings: BackendSettings) -> str:
    """How a session comes to be."""
    return "from a cache that was prepared at build time" if settings.cached else "from the model itself"


def shape_words(settings: BackendSettings) -> str:
    """Which sessions serve requests of several shapes."""
    return "a session for each shape of the traffic" if settings.bucketed else "one session for all"


def idle_words(settings: BackendSettings) -> str:
    """What threads do between calls."""
    return "default" if settings.spinning is None else ("spin" if settings.spinning else "sleep")


def seen_lately(agent: Agent) -> bool:
    """Whether a row of ``fleet.selectors.agents`` was online when it was read."""
    return bool(vars(agent).get("online"))


def step_words(step: PassStep) -> str:
    """A pass with its parameters: ``dynamic_int8(per_channel=True)``."""
    params = ", ".join(f"{name}={value}" for name, value in step.params.items())
    return f"{step.name}({params})" if params else step.name


def machine_facts(profile: HardwareProfile) -> list[Fact]:
    """A host as probed."""
    facts = [
        fact("Processor", profile.cpu_model or "unknown"),
        fact("Cores", f"{profile.cores} in {profile.sockets} socket{'s' if profile.sockets != 1 else ''}"),
        fact("Memory", format_bytes(profile.memory_bytes)),
        fact("Caches", ", ".join(f"{name} {format_bytes(size)}" for name, size in profile.cache_bytes.items())),
        fact("Instruction sets", ", ".join(profile.instruction_sets)),
        fact("Matrix units", ", ".join(_matrix_units(profile)) or "none"),
        fact("System", f"{profile.os} {profile.os_version}, {profile.architecture}"),
        fact("Kernel", profile.kernel),
        fact("Virtualization", profile.virtualization or "none seen"),
        fact("Power tier", profile.power_tier),
    ]
    return [*facts, *(fact("Accelerator", one.get("model") or one.get("name") or "unnamed") for one in profile.accelerators)]


def peaks(profile: HardwareProfile) -> list[Peak]:
    """Measured peaks per dtype and of memory."""
    found = [_peak(f"Peak {dtype}", rate, "FLOP/s") for dtype, rate in profile.peaks_flops.items()]
    if profile.memory_bandwidth_bytes_per_s:
        found.append(_peak("Memory bandwidth", profile.memory_bandwidth_bytes_per_s, "B/s"))
    return found


def environment_facts(environment: Mapping[str, Any]) -> list[Fact]:
    """A fingerprint of nested values as flat lines; empty values are left out."""
    return [fact(name, value) for name, value in flattened(environment).items() if value not in ("", None, [], {})]


def flattened(values: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a b": 1}``, with words for underscores; lists are joined."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            flat |= flattened(value, prefix=label)
        elif isinstance(value, list | tuple):
            flat[label] = ", ".join(str(one) for one in value)
        else:
            flat[label] = value
    return flat


def card_traits(card: ModelCard) -> list[str]:
    """What is notable of a model."""
    named = {
        "control flow": card.control_flow,
        "quantized": card.quantized,
        "random operators": card.random,
        "shapes depend on data": card.data_dependent_shapes,
        f"{len(card.state_pairs)} state tensors": bool(card.state_pairs),
    }
    return [name for name, holds in named.items() if holds]


def card_precision(card: ModelCard) -> str:
    """The dtype that most weight bytes have."""
    return max(card.precisions, key=lambda dtype: card.precisions[dtype]) if card.precisions else "—"


def _matrix_units(profile: HardwareProfile) -> list[str]:
    units = {"bf16 matrix": profile.matrix_bf16, "int8 matrix": profile.matrix_int8, "int8 dot product": profile.dot_int8}
    return [name for name, present in units.items() if present]


def _peak(label: str, rate: float, unit: str) -> Peak:
    number, _, letter = format_count(rate).partition(" ")
    return Peak(label=label, value=number, unit=f"{letter}{unit}")
