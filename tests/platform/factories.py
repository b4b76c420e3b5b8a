"""Rows with realistic content for pages: a sentence encoder, two machines, finished, running and failed runs.

Everything goes through the real services and the engine's own values; only the numbers are made up.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
from django.db.models import F

from optimizer.codec import to_jsonable
from optimizer.sandbox.job import Level
from optimizer.specs import (
    BackendSettings,
    Budget,
    Decision,
    Duel,
    Effect,
    Failure,
    HardwareProfile,
    InputSource,
    KpiTarget,
    Measurement,
    ModelCard,
    NotTried,
    PassStep,
    Precision,
    Recipe,
    SearchOutcome,
    SearchSpec,
    Stage,
    StageReport,
    StageStatus,
    TaskKind,
    TensorSpec,
    Verdict,
)
from parka.accounts.access import Access
from parka.core.blobs import BlobStore
from parka.experiments.lifecycle import Sign, heartbeat
from parka.experiments.models import Phase, Run
from parka.experiments.records import Result, append_log, record_result, record_stage
from parka.fleet.models import Agent
from parka.registry.models import Artifact, ArtifactRole, Dataset, Intake, Model, ModelVersion
from parka.workflow.scoring import score_run
from parka_agent.protocol import RunStatus
from tests.platform.runs import claim, fence_of, new_agent, new_experiment

PROFILE = HardwareProfile(
    os="Linux",
    os_version="Debian 12",
    architecture="x86_64",
    kernel="6.1.0-28-amd64",
    cpu_model="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    microcode="0x2b0005c0",
    virtualization="kvm",
    cores=8,
    memory_bytes=32 << 30,
    cache_bytes={"L1d": 48 << 10, "L2": 2 << 20, "L3": 105 << 20},
    instruction_sets=("avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8"),
    matrix_bf16=True,
    matrix_int8=True,
    dot_int8=True,
    peaks_flops={"f32": 0.71e12, "bf16": 5.9e12, "int8": 11.4e12},
    memory_bandwidth_bytes_per_s=41.6e9,
    runtimes={"onnxruntime": "1.31.0", "openvino": "2026.2.0"},
)
EDGE = replace(
    PROFILE, cpu_model="Ampere Altra Q64-22", architecture="aarch64", cores=4, memory_bytes=16 << 30, instruction_sets=("neon", "asimddp")
)
CARD = ModelCard(
    format="onnx",
    entry="model.onnx",
    sha256="c0ffee" * 10 + "abcd",
    size_bytes=69_500_000,
    producer="pytorch 2.4.0",
    ir_version=8,
    opset=17,
    domains={"": 17},
    inputs=(
        TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "sequence")),
    ),
    outputs=(TensorSpec(name="sentence_embedding", dtype="float32", shape=("batch", 384)),),
    parameters=17_389_824,
    weight_bytes=69_559_296,
    flops=1_370_000_000,
    traffic_bytes=92_000_000,
    bindings={"batch": 1, "sequence": 128},
    operators={
        "MatMul": 24,
        "Add": 41,
        "Reshape": 12,
        "Transpose": 12,
        "Gather": 4,
        "Softmax": 3,
        "Erf": 3,
        "LayerNormalization": 7,
        "Div": 6,
    },
    precisions={"float32": 69_559_296},
    node_count=112,
    task=TaskKind.EMBEDDING,
    warnings=("The output is not normalised; cosine similarity is used for fidelity.",),
)
TARGETS = (
    KpiTarget(kpi="latency_p50_ms", value=0.8, relative=True),
    KpiTarget(kpi="throughput_per_s", value=240.0),
    KpiTarget(kpi="cost_usd_per_million_inferences", value=1.20),
    KpiTarget(kpi="latency_p99_ms", value=8.0),
)
SPEC = SearchSpec(targets=TARGETS, budget=Budget(), bindings={"batch": 1, "sequence": 128})
BASELINE = Recipe(backend="onnxruntime")
RECIPES = (
    BASELINE,
    Recipe(backend="onnxruntime", passes=(PassStep(name="simplify"), PassStep(name="fuse_transformer"))),
    Recipe(backend="onnxruntime", passes=(PassStep(name="simplify"), PassStep(name="dynamic_int8", params={"per_channel": True}))),
    Recipe(backend="openvino", passes=(PassStep(name="simplify"),)),
    Recipe(backend="openvino", passes=(PassStep(name="simplify"),), settings=BackendSettings(precision=Precision.BF16, threads=8)),
)
P50S = (4.31, 4.12, 3.02, 3.11, 2.54)
WINNER, FAILED = 4, 2
ENVIRONMENT = {
    "cpu_model": PROFILE.cpu_model,
    "kernel": PROFILE.kernel,
    "governor": "performance",
    "turbo": "on",
    "cores_allowed": 8,
    "numa_nodes": 1,
    "sandbox_level": "B",
    "onnxruntime": "1.31.0",
    "openvino": "2026.2.0",
}
SAMPLES = "5a" * 32


def blob_artifact(
    access: Access, *, role: ArtifactRole = ArtifactRole.MODEL, file_name: str = "model.onnx", content: bytes = b"onnx"
) -> Artifact:
    """An artifact whose bytes are in the store."""
    sha256 = BlobStore().put_bytes(content + secrets.token_bytes(8))
    return Artifact.objects.create(team=access.team, sha256=sha256, size_bytes=len(content) + 8, role=role, file_name=file_name)


def encoder_version(access: Access, *, name: str = "MiniLM sentence encoder", slug: str = "minilm") -> ModelVersion:
    """An inspected version of a sentence encoder."""
    model, _ = Model.objects.get_or_create(team=access.team, slug=slug, defaults={"name": name})
    artifact = blob_artifact(access, file_name="paraphrase-MiniLM-L3-v2.onnx")
    number = model.versions.count() + 1
    return ModelVersion.objects.create(
        model=model, number=number, artifact=artifact, state=Intake.READY, card=to_jsonable(CARD), uploaded_by=access.user
    )


def rejected_version(access: Access, *, slug: str = "broken") -> ModelVersion:
    """An upload that inspection refused."""
    model, _ = Model.objects.get_or_create(team=access.team, slug=slug, defaults={"name": "Broken export"})
    message = "This is a Python pickle, which can run code when loaded; export to ONNX."
    return ModelVersion.objects.create(
        model=model,
        number=1,
        artifact=blob_artifact(access),
        state=Intake.REJECTED,
        code="format.pickle",
        message=message,
        uploaded_by=access.user,
    )


def waiting_version(access: Access, *, slug: str = "fresh") -> ModelVersion:
    """An upload that waits for inspection."""
    model, _ = Model.objects.get_or_create(team=access.team, slug=slug, defaults={"name": "Fresh upload"})
    return ModelVersion.objects.create(
        model=model, number=1, artifact=blob_artifact(access), state=Intake.INSPECTING, uploaded_by=access.user
    )


def sentences(access: Access, *, slug: str = "sentences") -> Dataset:
    """An inspected dataset of token ids."""
    card = {
        "arrays": {"input_ids": {"dtype": "int64", "shape": [2000, 128]}, "attention_mask": {"dtype": "int64", "shape": [2000, 128]}},
        "samples": 2000,
        "labels": False,
    }
    artifact = blob_artifact(access, role=ArtifactRole.DATASET, file_name="sentences.npz")
    return Dataset.objects.create(
        team=access.team, slug=slug, name="Customer sentences", artifact=artifact, state=Intake.READY, card=card, uploaded_by=access.user
    )


def bench_agent(access: Access, *, name: str = "lab-xeon", profile: HardwareProfile = PROFILE) -> Agent:
    """A registered agent with a probed machine."""
    agent = new_agent(access, name=name, profile=profile)
    agent.runtimes = dict(profile.runtimes)
    agent.save(update_fields=["runtimes"])
    return agent


def measured(kpi: str, value: float, unit: str, *, spread: float = 0.02, n: int = 4096, starts: int = 16) -> Measurement:
    """A measured value with a symmetric interval of ± spread."""
    half = abs(value) * spread
    return Measurement(
        kpi=kpi,
        value=value,
        unit=unit,
        ci_low=value - half,
        ci_high=value + half,
        n=n,
        n_eff=int(n * 0.7),
        starts=starts,
        method="nearest rank, start bootstrap",
        samples_sha256=SAMPLES,
    )


def race_numbers(p50_ms: float) -> tuple[Measurement, ...]:
    """What a race yields for a trial of that median."""
    return (
        measured("latency_p50_ms", p50_ms, "ms", spread=0.012),
        measured("latency_p90_ms", p50_ms * 1.08, "ms", spread=0.02),
        replace(measured("latency_p99_ms", p50_ms * 1.6, "ms", spread=0.1), ci_high=None),
        measured("latency_mean_ms", p50_ms * 1.02, "ms", spread=0.014),
        measured("throughput_per_s", 1000 / p50_ms / 1.02, "inf/s", spread=0.014),
        measured("load_time_ms", 310.0, "ms", spread=0.05, n=16),
        measured("first_inference_ms", p50_ms * 3, "ms", spread=0.08, n=16),
    )


def confirm_numbers(trial: int) -> tuple[Measurement, ...]:
    """Sealed fidelity and memory."""
    memory = measured("memory_peak_host_bytes", 412e6, "bytes", spread=0.01, n=5, starts=5)
    cold = measured("cold_start_ms", 322.0, "ms", spread=0.05, n=16)
    if trial == 0:
        return memory, cold
    cosine = measured("fidelity_cosine_p01_ratio", 0.99962, "ratio", spread=0.00018, n=320, starts=1)
    rank = measured("fidelity_rank_correlation_ratio", 0.99991, "ratio", spread=0.00004, n=320, starts=1)
    return cosine, rank, memory, cold


def reports_of(trial: int) -> list[StageReport]:
    """All stage reports of a trial as a search leaves them."""
    recipe = RECIPES[trial]

    def report(stage: Stage, **changes: object) -> StageReport:
        return StageReport(**{"trial": trial, "stage": stage, "recipe": recipe, "environment": ENVIRONMENT, **changes})  # type: ignore[arg-type]

    size = Measurement(kpi="model_size_bytes", value=69.5e6, unit="bytes", ci_low=69.5e6, ci_high=69.5e6, n=1, n_eff=1, method="exact")
    built = report(Stage.BUILD, measurements=(size,))
    if trial == FAILED:
        failure = Failure(code="fidelity.fail", detail="Cosine p01 0.981 is below the limit 0.99: the outputs differ too much.")
        return [built, report(Stage.GATE, status=StageStatus.FAILED, failure=failure, verdict=Verdict.FAIL)]
    gate = report(Stage.GATE, verdict=Verdict.PASS, detail={"reason": "64 examples, cosine p01 0.9996"})
    estimate = measured("speedup_ratio", P50S[0] / P50S[trial], "×", spread=0.05, n=8, starts=1)
    screen = report(Stage.SCREEN, measurements=(estimate,))
    if trial in (1, 3):
        return [built, gate, screen]
    race = report(Stage.RACE, measurements=race_numbers(P50S[trial]))
    confirm = report(
        Stage.CONFIRM,
        measurements=confirm_numbers(trial),
        verdict=Verdict.PASS,
        detail={"reason": "320 sealed examples", "limits": {} if trial == 0 else {"fidelity_cosine_p01_ratio": 0.99}},
    )
    return [built, gate, race, confirm] if trial == 0 else [built, gate, screen, race, confirm]


def race_ratios(speedup: float, blocks: int = 16) -> tuple[float, ...]:
    """Per-block speed-ups scattered by about 2%."""
    noise = np.random.default_rng(7).normal(0, 0.02, blocks)
    return tuple(float(speedup * math.exp(one)) for one in noise)


def search_outcome(*, winner: int | None = WINNER) -> SearchOutcome:
    """The answer of the search whose reports stand above."""
    speedup = measured("speedup_ratio", P50S[0] / P50S[WINNER], "×", spread=0.011, n=16)
    duels = tuple(
        Duel(trial=WINNER, kpi=kpi, speedup=speedup, effect=Effect.FASTER, blocks=16, looks=2, ratios=race_ratios(P50S[0] / P50S[WINNER]))
        for kpi in ("latency_p50_ms", "throughput_per_s")
    )
    return SearchOutcome(
        decision=Decision.WINNER if winner else Decision.KEEP_ORIGINAL,
        reason="It beat the baseline in 16 of 16 blocks and kept its outputs."
        if winner
        else "No candidate was faster by more than the margin.",
        winner=winner,
        nearest=None if winner else WINNER,
        picks={"cheapest": WINNER, "fastest": WINNER} if winner else {},
        duels=duels,
        not_tried=(
            NotTried(label="static_int8", reason="needs calibration data; add a dataset"),
            NotTried(label="openvino f16", reason="this processor has no f16 matrix units"),
            NotTried(label="openvino f16 · 1 thread", reason="this processor has no f16 matrix units"),
        ),
        input_source=InputSource.PROXY,
        sealed_examples=320,
        trials=len(RECIPES),
        elapsed_s=198.0,
    )


def start_run(
    access: Access, agent: Agent, *, version: ModelVersion | None = None, spec: SearchSpec = SPEC, title: str = "", seconds_ago: float = 240
) -> Run:
    """A run that its agent claimed that long ago: reports may not claim more measuring than there was time."""
    experiment = new_experiment(access, [agent], version=version or encoder_version(access), spec=spec, title=title)
    run = claim(agent, level=Level.B)
    assert run is not None
    assert run.experiment_id == experiment.pk
    long_ago = timedelta(seconds=seconds_ago)
    Run.objects.filter(pk=run.pk).update(claimed_at=F("claimed_at") - long_ago, first_claimed_at=F("first_claimed_at") - long_ago)
    run.refresh_from_db()
    return run


def report_trials(run: Run, trials: Sequence[int]) -> None:
    """Let the run's agent report these trials, and log a few lines."""
    for trial in trials:
        for report in reports_of(trial):
            record_stage(fence_of(run), report, body_sha256=secrets.token_hex(32))
    lines = "".join(f"trial {trial}: {RECIPES[trial].label}\n" for trial in trials)
    append_log(fence_of(run), offset=0, piece=f"prepare: 2 backends, 7 candidates\n{lines}".encode())


def running_run(access: Access, agent: Agent, *, version: ModelVersion | None = None) -> Run:
    """A run under way with the baseline and some candidates done."""
    run = start_run(access, agent, version=version, seconds_ago=95)
    report_trials(run, (0, 1, 2, 3))
    progress = {"done": 4, "total": 7, "detail": "Screening trial 4: simplify · openvino bf16 · 8 threads"}
    heartbeat(fence_of(run), Sign(phase=Phase.OPTIMISE, progress=progress))
    run.refresh_from_db()
    return run


def finished_run(access: Access, agent: Agent, *, version: ModelVersion | None = None, winner: int | None = WINNER, title: str = "") -> Run:
    """A finished, scored run."""
    run = start_run(access, agent, version=version, title=title)
    report_trials(run, range(len(RECIPES)))
    answer = search_outcome(winner=winner)
    result = Result(status=RunStatus.OK, body={"outcome": to_jsonable(answer)}, body_sha256=secrets.token_hex(32), outcome=answer)
    record_result(fence_of(run), result)
    run.refresh_from_db()
    score_run(run)
    return run


def failed_run(access: Access, agent: Agent, *, version: ModelVersion | None = None) -> Run:
    """A run whose baseline could not run."""
    run = start_run(access, agent, version=version)
    result = Result(
        status=RunStatus.FAILED,
        body={},
        body_sha256=secrets.token_hex(32),
        error_code="input.refused",
        error_detail="The model refuses inputs of shape [1, 128]; bind sequence to another size.",
    )
    record_result(fence_of(run), result)
    run.refresh_from_db()
    return run
