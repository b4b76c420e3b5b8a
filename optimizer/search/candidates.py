"""What to try on this model and host, in which order, and why the rest is left out. Nothing is measured or loaded here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from optimizer.backends import BACKENDS, Available, Missing, availability, backend, backends, distributions, reference_recipe
from optimizer.backends.base import Backend, ServesStreams, SettingsVariant
from optimizer.backends.start_cache import PreparesStarts
from optimizer.errors import EngineError, InputError
from optimizer.extensions import described
from optimizer.formats.bindings import bound_shapes
from optimizer.measure.batches import is_batch_free
from optimizer.measure.split import TRAINING_AT_LEAST
from optimizer.passes import broken_passes, conversions, passes
from optimizer.passes.base import FixesShapes, No, Pass
from optimizer.search.arms import COLD_START, is_start_targeted
from optimizer.search.plan import Candidate, Plan
from optimizer.search.priors import COMPILERS, inference_s, prior_of, start_prior
from optimizer.specs import (
    BackendSettings,
    HardwareProfile,
    InputSource,
    ModelCard,
    NotTried,
    PassAccuracy,
    PassNeeds,
    PassStep,
    Precision,
    Recipe,
    SearchSpec,
)

CANDIDATES = {"quick": 12, "standard": 28, "publish": 40}
CANDIDATE_S = 15.0
"""A budget that holds more candidates than its preset names, at so many seconds each, gets more."""
CLEANING = "graph simplification"
FUSION = "operator fusion"
PRECISION = "precision"
SHAPES = "shape_specialisation"
EXTERNAL = "external toolkit"
TRAINING, ROUNDED = "training", "qat_int8"
QUANTIZER = "static_int8"
ONE_SHAPE_BACKENDS = frozenset({"torch_compile"})
SAME_KIND_FLOOR = 0.8
REPEAT_DISCOUNT = 0.5
NO_BUILD_BONUS, TRAINING_DISCOUNT = 1.4, 0.75
SETTINGS_ONLY_BEFORE = 4
TRAINING_SHARE = 0.12
"""Of the budget, what one training pass may take; half of the longest that a build may take (driver.BUILD_SHARE)."""
TRIED_STEPS, STEP_EXAMPLES, STEP_COST = 100, 64, 3
"""Training is not begun where so many steps on so many examples, each as dear as so many inferences, would not fit."""
BATCHES = (1, 4, 16)
"""Examples per call worth trying when all are there: enough to fill wide units, few enough that activations stay in the caches."""
Chain = tuple[PassStep, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    """One planning: what is asked, on what, and what was left out so far.

    ``first`` is the conversion that leads from the upload to ``card``; ``reachable`` are the upload's format and those of conversions.
    """

    card: ModelCard
    spec: SearchSpec
    hardware: HardwareProfile
    source: InputSource
    left_out: list[NotTried]
    training_examples: int = 0
    first: Chain = ()
    reachable: frozenset[str] = frozenset()

    @property
    def synthetic(self) -> bool:
        return self.source is InputSource.SYNTHETIC

    @property
    def training_s(self) -> float:
        """Seconds that one training pass may take."""
        return round(TRAINING_SHARE * self.spec.budget.total_s, 1)

    def with_conversions(self) -> list[_Planner]:
        """This planning, and one for every format that the upload can be converted to."""
        allowed = {name: one for name, one in conversions().items() if self.card.format in one.formats and self._allows_pass(one)}
        formats = frozenset({self.card.format, *(one.target_format for one in allowed.values())})
        onward = [
            replace(self, card=one.expected(self.card), first=first, reachable=formats)
            for one in allowed.values()
            if (first := self._steps(one)[:1])
        ]
        return [replace(self, reachable=formats), *onward]

    def _reads(self, label: str, formats: frozenset[str], *, verb: str) -> bool:
        """Whether it takes this planning's format; said only when no conversion leads there either."""
        if self.card.format in formats:
            return True
        return False if formats & self.reachable else self._refuse(label, f"It does not {verb} {self.card.format} models.")

    def usable_backends(self, found: Mapping[str, Available | Missing]) -> list[Backend]:
        return [backend(name) for name, state in found.items() if self._allows_backend(name, state)]

    def _allows_backend(self, name: str, state: Available | Missing) -> bool:
        if self.spec.backends is not None and name not in self.spec.backends:
            return self._refuse(name, "Left out by request.")
        formats = backend(name).formats
        if formats and not self._reads(name, formats, verb="read"):
            return False
        if isinstance(state, Missing):
            return self._refuse(name, f"{state.reason} To use it: {state.install}.")
        if self.spec.traffic and name in ONE_SHAPE_BACKENDS:
            return self._refuse(name, "It compiles for one shape; the traffic has several.")
        return True

    def usable_passes(self) -> list[Pass]:
        for name, reason in broken_passes().items():
            self._refuse(name, reason)
        return [one for one in passes().values() if one.name not in conversions() and self._allows_pass(one)]

    def _allows_pass(self, one: Pass) -> bool:
        if self.spec.passes is not None and one.name not in self.spec.passes:
            return self._refuse(one.title, "Left out by request.")
        if not self._reads(one.title, one.formats, verb="rewrite"):
            return False
        if one.needs is PassNeeds.TRAINING:
            return self._allows_training(one)
        if one.needs in (PassNeeds.CALIBRATION, PassNeeds.EVALUATION) and self.synthetic:
            return self._refuse(one.title, "It needs real examples of the model's inputs: add them as a dataset.")
        if self.spec.traffic and isinstance(one, FixesShapes):
            return self._refuse(one.title, "It fixes the input shapes; the traffic has several.")
        if not self._applies(one):
            return False
        if one.family == EXTERNAL and self.spec.passes is None and self.spec.budget.preset == "quick":
            return self._refuse(one.title, "It takes minutes: a larger preset tries it, or a search that names it.")
        return True

    def _allows_training(self, one: Pass) -> bool:
        if self.source is not InputSource.REAL:
            return self._refuse(one.title, "It needs examples of your own to learn from: add them as a dataset.")
        if not self.training_examples:
            return self._refuse(
                one.title,
                f"It needs at least {TRAINING_AT_LEAST} examples beyond those that choose and judge; add a larger dataset.",
            )
        if not self._applies(one):
            return False
        least_s = TRIED_STEPS * STEP_EXAMPLES * STEP_COST * inference_s(self.card, self.hardware)[0]
        if least_s > self.training_s:
            return self._refuse(
                one.title, f"Even a short training would take about {least_s:.0f} s on this machine; a larger budget may hold it."
            )
        return True

    def _applies(self, one: Pass) -> bool:
        answer = self._asked(one.title, lambda: one.applicable(self.card, self.hardware), otherwise=None)
        if isinstance(answer, No):
            return self._refuse(one.title, f"{answer.reason[:1].upper()}{answer.reason[1:]}.")
        return answer is not None

    def _asked(self, label: str, question: Callable[[], T], *, otherwise: T) -> T:
        """The answer of a pass or backend that may be a partner's; what fails when asked is left out with its error."""
        try:
            return question()
        except Exception as error:
            self._refuse(label, f"It failed when asked what to try: {described(error)}")
            return otherwise

    def _proposed(self, engine: Backend) -> Sequence[SettingsVariant]:
        return self._asked(engine.name, lambda: engine.variants(self.card, self.hardware), otherwise=())

    def _steps(self, one: Pass) -> Chain:
        """The pass's variants; those that train get their time."""
        steps: Chain = self._asked(one.title, lambda: tuple(one.variants(self.card, self.hardware)), otherwise=())
        if one.needs is not PassNeeds.TRAINING:
            return steps
        return tuple(replace(step, params={**step.params, "seconds": self.training_s}) for step in steps)

    def _refuse(self, label: str, reason: str) -> bool:
        self.left_out.append(NotTried(label=label, reason=reason))
        return False

    def candidates(self, engines: list[Backend], tools: list[Pass]) -> Iterator[Candidate]:
        for engine in engines:
            for variant in self._structural(engine):
                for chain in self._chains(engine, tools, variant.settings.precision):
                    for bucketed in self._shapings(engine):
                        for cached in (False,) if bucketed else self._starts(engine, variant.settings):
                            chosen = replace(variant, settings=replace(variant.settings, cached=cached, bucketed=bucketed))
                            yield self.candidate(engine.name, chosen, chain, tools)

    def _shapings(self, engine: Backend) -> tuple[bool, ...]:
        """Whether a session per shape is worth trying: where a runtime compiles for shapes and the traffic has several."""
        return (False, True) if self.spec.traffic and engine.name in COMPILERS else (False,)

    def _starts(self, engine: Backend, settings: BackendSettings) -> tuple[bool, ...]:
        """With and without a start cache where starts are the objective; with one where a target limits them; else without."""
        if not isinstance(engine, PreparesStarts) or settings.device != "CPU":
            return (False,)
        if self.spec.objective == COLD_START:
            return (True, False)
        return (True,) if is_start_targeted(self.spec) else (False,)

    def candidate(self, engine: str, variant: SettingsVariant, chain: Chain, tools: list[Pass]) -> Candidate:
        by_name = {one.name: one for one in tools}
        invariant = variant.accuracy_invariant and all(by_name[step.name].accuracy is PassAccuracy.INVARIANT for step in chain)
        prior = prior_of(engine, variant.settings, chain, card=self.card, hardware=self.hardware)
        promise = start_prior(engine, variant.settings, chain) if self.spec.objective == COLD_START else prior.promise
        trains = [count for count, step in enumerate(chain, start=1) if by_name[step.name].needs is PassNeeds.TRAINING]
        return Candidate(
            recipe=Recipe(backend=engine, passes=self.first + chain, settings=variant.settings),
            accuracy_invariant=invariant,
            why=variant.why if not chain else " + ".join(by_name[step.name].title for step in chain),
            prior_speedup=promise,
            refines=any(by_name[step.name].family == PRECISION for step in chain),
            tries_forms=any(by_name[step.name].needs is PassNeeds.EVALUATION for step in chain),
            rewrites_arithmetic=any(by_name[step.name].accuracy is PassAccuracy.SENSITIVE for step in chain),
            training_s=self.training_s if trains else 0.0,
            trained=self.first + chain[: trains[-1]] if trains else (),
        )

    def _structural(self, engine: Backend) -> list[SettingsVariant]:
        """One variant per device and precision, at its first (best guessed) threads and streams; the rest is tuning."""
        first: dict[tuple[str, str, str], SettingsVariant] = {}
        for variant in self._proposed(engine):
            settings = variant.settings
            layout = next(iter(self._layouts(engine, settings)), settings)
            first.setdefault((settings.device, settings.provider, settings.precision), self._capped(replace(variant, settings=layout)))
        return list(first.values())

    def _layouts(self, engine: Backend, settings: BackendSettings) -> list[BackendSettings]:
        """Requests in flight sharing all threads, best guess first; none where one request at a time is asked or possible."""
        if not self.spec.is_offline or settings.device != "CPU" or not isinstance(engine, ServesStreams):
            return []
        threads = max(1, self.hardware.cores)
        threads = threads if self.spec.max_threads is None else min(threads, self.spec.max_threads)
        counts = [count for count in engine.stream_counts(self.hardware) if count <= threads] or [1]
        return [replace(settings, threads=threads, streams=count, spinning=None) for count in counts]

    @property
    def batches(self) -> tuple[int, ...]:
        """Examples per call that the scenario leaves free and the model can take."""
        if not self.spec.is_offline:
            return BATCHES[:1]
        try:
            shapes = bound_shapes(self.card, self.spec.bindings)
        except EngineError:
            return BATCHES[:1]
        return BATCHES if is_batch_free(self.card, shapes) else BATCHES[:1]

    def _capped(self, variant: SettingsVariant) -> SettingsVariant:
        most, threads = self.spec.max_threads, variant.settings.threads
        if most is None or threads is None or threads <= most:
            return variant
        return replace(variant, settings=replace(variant.settings, threads=most))

    def _chains(self, engine: Backend, tools: list[Pass], precision: Precision) -> list[Chain]:
        """No pass, each cleaner after fixed shapes, all cleaners, fusion, and each arithmetic change on the best ground."""
        suited = [one for one in tools if _suits(one, engine, precision)]
        steps = {one.name: self._steps(one) for one in suited}
        shapes = steps.get(SHAPES, ())[:1] if len(self.batches) == 1 else ()  # a fixed batch would rule the others out
        cleaners = [steps[one.name][:1] for one in suited if one.family == CLEANING and one.name != SHAPES and steps[one.name]]
        fusions = [steps[one.name][:1] for one in suited if one.family == FUSION and steps[one.name]]
        others = [one for one in suited if one.family not in (CLEANING, FUSION)]
        chains: list[Chain] = [(), *(shapes + cleaner for cleaner in cleaners)]
        if len(cleaners) > 1:
            chains.append(shapes + tuple(step for cleaner in cleaners for step in cleaner))
        chains += fusions
        for one in others:
            fitting = [step for step in steps[one.name] if step.params.get("fallback", precision) == precision]
            for step in fitting[: 1 if self.spec.budget.preset == "quick" else None]:
                grounds = [(), *fusions] if fusions else [(), *(shapes + cleaner for cleaner in cleaners[:1])]
                if one.needs is PassNeeds.TRAINING:
                    grounds = [shapes + cleaner for cleaner in cleaners[:1]] or [()]
                chains += [(*ground, step) for ground in grounds]
        chains += _then_quantized(chains, steps, smaller=[one.name for one in others if one.family == TRAINING and one.name != ROUNDED])
        return _distinct(chains)

    def tune(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The same model and precision with the backend's other thread counts and waiting modes; offline also streams and batches."""
        settings, engine = candidate.recipe.settings, backend(candidate.recipe.backend)
        proposed = [self._capped(variant) for variant in self._proposed(engine)]
        tuned = [
            (replace(settings, threads=one.settings.threads, spinning=one.settings.spinning), one.why or "other threads")
            for one in proposed
        ]
        found: list[Candidate] = []
        chosen_and_why = self._for_throughput(engine, settings) if self.spec.is_offline else tuned
        starts = (False,) if settings.bucketed else self._starts(engine, settings)
        for chosen, why in [(replace(one, cached=cached), why) for one, why in chosen_and_why for cached in starts]:
            recipe = replace(candidate.recipe, settings=chosen)
            if recipe not in [candidate.recipe, *(one.recipe for one in found)]:
                found.append(
                    replace(candidate, recipe=recipe, why=f"settings: {why}", prior_speedup=candidate.prior_speedup * _gain(chosen))
                )
        return tuple(found)

    def _for_throughput(self, engine: Backend, settings: BackendSettings) -> list[tuple[BackendSettings, str]]:
        """Every number of streams with every batch, as many as are free here; larger batches of the first layout come first."""
        layouts = self._layouts(engine, settings) or [settings]
        return [
            (replace(layout, batch=batch), f"{layout.streams} in flight, {batch} per call") for layout in layouts for batch in self.batches
        ]


def _gain(settings: BackendSettings) -> float:
    """A guess that orders what is tried: streams keep every core at work, a batch fills wide units."""
    return (1.25 if settings.streams > 1 else 1.0) * (1.05 if settings.batch > 1 else 1.0)


def _suits(one: Pass, engine: Backend, precision: Precision) -> bool:
    return (not one.backends or engine.name in one.backends) and (not one.precisions or precision in one.precisions)


def _then_quantized(chains: Sequence[Chain], steps: Mapping[str, Chain], *, smaller: Sequence[str]) -> list[Chain]:
    """The first student of each method that makes smaller networks, then quantized after training: the two gains multiply."""
    first = [next(chain for chain in chains if chain and chain[-1] == steps[name][0]) for name in smaller if steps[name]]
    return [(*chain, *steps[QUANTIZER][:1]) for chain in first if steps.get(QUANTIZER)]


def _distinct(chains: list[Chain]) -> list[Chain]:
    found: list[Chain] = []
    for chain in chains:
        if chain not in found:
            found.append(chain)
    return found


def reference_of(card: ModelCard, spec: SearchSpec, hardware: HardwareProfile) -> Recipe:
    """Trial 0: the upload in its reference runtime, threads at the quota (or the user's cap)."""
    threads = max(1, hardware.cores)
    return reference_recipe(card, threads if spec.max_threads is None else min(threads, spec.max_threads))


def plan(
    card: ModelCard,
    spec: SearchSpec,
    hardware: HardwareProfile,
    found_backends: Mapping[str, Available | Missing],
    *,
    input_source: InputSource = InputSource.REAL,
    training_examples: int = 0,
) -> Plan:
    """Candidates in the order they are tried; on synthetic inputs those that may win come first.

    ``training_examples`` are those that passes may learn from; without, none that trains is tried.

    Raises InputError ``backend.no_reference`` when no runtime can serve as Trial 0.
    """
    synthetic = input_source is InputSource.SYNTHETIC
    planner = _Planner(card=card, spec=spec, hardware=hardware, source=input_source, left_out=[], training_examples=training_examples)
    reference = reference_of(card, spec, hardware)
    missing = found_backends.get(reference.backend)
    if isinstance(missing, Missing):
        raise InputError(
            "backend.no_reference",
            f"Models of the format {card.format} are compared with themselves in {reference.backend}. {missing.reason} "
            f"To install it: {missing.install}.",
        )
    found: list[Candidate] = []
    engines: list[Backend] = []
    for way in planner.with_conversions():
        usable = way.usable_backends(found_backends)
        engines += usable
        found += [one for one in way.candidates(usable, way.usable_passes()) if one.recipe != reference]
    if reference.backend in {engine.name for engine in engines}:
        found += planner.tune(Candidate(recipe=reference, accuracy_invariant=True, why="", prior_speedup=1.0))
    ordered = _ordered(_once_per_recipe(found), synthetic=synthetic)
    kept = max(CANDIDATES.get(spec.budget.preset, CANDIDATES["quick"]), int(spec.budget.total_s / CANDIDATE_S))
    ordered = _with_settings_only(ordered, reference)
    for one in ordered[kept:]:
        planner.left_out.append(
            NotTried(label=one.recipe.label, reason="Less likely to help than what was tried; a larger preset or more time tries it.")
        )
    return Plan(reference=reference, candidates=tuple(ordered[:kept]), not_tried=tuple(dict.fromkeys(planner.left_out)), tune=planner.tune)


def _once_per_recipe(found: Sequence[Candidate]) -> list[Candidate]:
    """The first candidate of each recipe: proposing settings can lead to one that is there already."""
    by_key: dict[str, Candidate] = {}
    for one in found:
        by_key.setdefault(one.recipe.key, one)
    return list(by_key.values())


def _with_settings_only(ordered: list[Candidate], reference: Recipe) -> list[Candidate]:
    """One early candidate changes nothing but Trial 0's settings: it tells better settings from a better model."""
    alone = next((one for one in ordered if one.recipe.backend == reference.backend and not one.recipe.passes), None)
    if alone is None or alone in ordered[:SETTINGS_ONLY_BEFORE]:
        return ordered
    rest = [one for one in ordered if one is not alone]
    return [*rest[: SETTINGS_ONLY_BEFORE - 1], alone, *rest[SETTINGS_ONLY_BEFORE - 1 :]]


def _ordered(found: Sequence[Candidate], *, synthetic: bool) -> list[Candidate]:
    """Most promising first, but each further form of a kind already queued counts less: the first minute should see every kind."""
    rest, queue = list(found), []
    kinds: Counter[tuple[object, ...]] = Counter()
    while rest:
        best = max(rest, key=lambda one: (not synthetic or one.accuracy_invariant, _worth(one, kinds), -len(one.recipe.passes)))
        rest.remove(best)
        queue.append(best)
        kinds[_kind(best)] += 1
    return queue


def _worth(one: Candidate, kinds: Counter[tuple[object, ...]]) -> float:
    """Expected gain per effort: what needs no build answers within seconds, what trains after minutes."""
    gain = one.prior_speedup - SAME_KIND_FLOOR
    effort = TRAINING_DISCOUNT if one.training_s else 1.0 if one.recipe.passes else NO_BUILD_BONUS
    return gain * REPEAT_DISCOUNT ** kinds[_kind(one)] * effort


def _kind(one: Candidate) -> tuple[object, ...]:
    """Backend, device and precision, with what changes the arithmetic or the operators. Plain and cleaned exact forms both count."""
    recipe, settings = one.recipe, one.recipe.settings
    changing = [step.name for step in recipe.passes if passes()[step.name].family != CLEANING]
    is_cleaned = one.accuracy_invariant and len(recipe.passes) > len(changing)
    load = (settings.streams > 1, settings.batch > 1, settings.cached, settings.bucketed)
    return (recipe.backend, settings.device, settings.precision, settings.spinning, *load, is_cleaned, *changing)


def installed_backends(hardware: HardwareProfile) -> dict[str, Available | Missing]:
    """Availability as the profile tells it: for planning without loading a runtime of ours, also away from the machine.

    A registered backend answers for itself, for only it knows its drivers and devices.
    """
    return {name: _installed(name, hardware) for name in backends()}


def _installed(name: str, hardware: HardwareProfile) -> Available | Missing:
    needed = distributions(name)
    absent = [one for one in needed if one not in hardware.runtimes]
    if absent:
        return Missing(reason=f"{absent[0]} is not installed on this machine.", install=f"pip install {' '.join(absent)}")
    return Available(version=hardware.runtimes[needed[0]]) if name in BACKENDS else availability(name)
