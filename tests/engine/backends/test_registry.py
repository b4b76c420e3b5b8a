"""The table of backends, the reference recipe, the settings proposed for a host, and silence towards vendors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from optimizer.backends import BACKENDS, available_backends, backend, backends, reference_recipe
from optimizer.backends.base import Available, Missing
from optimizer.backends.hints import precisions, thread_counts
from optimizer.backends.providers import PROVIDERS, provider
from optimizer.backends.unloadable import Unloadable
from optimizer.errors import EngineError, InputError
from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, Precision


def card(**facts: object) -> ModelCard:
    return ModelCard(**{"format": "onnx", "entry": "m.onnx", "sha256": "0" * 64, "size_bytes": 1, **facts})  # type: ignore[arg-type]


def host(**facts: object) -> HardwareProfile:
    basics = {
        "os": "linux",
        "os_version": "12",
        "architecture": "x86_64",
        "kernel": "6",
        "cpu_model": "test",
        "cores": 2,
        "memory_bytes": 1 << 33,
    }
    return HardwareProfile(**{**basics, **facts})  # type: ignore[arg-type]


def test_both_built_in_backends_are_available_here() -> None:
    found = available_backends()
    assert {name for name, answer in found.items() if isinstance(answer, Available)} >= {"onnxruntime", "openvino"}


def test_an_unknown_backend_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError) as refusal:
        backend("tensorflow")
    assert refusal.value.code == "backend.unknown"
    assert "onnxruntime" in refusal.value.message


def test_a_registered_package_that_cannot_be_loaded_does_not_hide_the_others() -> None:
    broken = Unloadable(name="acme", reason="No module named acme")
    assert isinstance(broken.availability(), Missing)
    assert broken.variants(card(), host()) == ()
    with pytest.raises(EngineError) as refusal:
        broken.open(artifact=None, settings=BackendSettings())  # type: ignore[arg-type]
    assert refusal.value.code == "backend.missing"
    assert set(BACKENDS) <= set(backends())


def test_trial_0_is_the_upload_in_onnx_runtime_with_threads_stated() -> None:
    recipe = reference_recipe(card(), 2)
    assert recipe.backend == "onnxruntime"
    assert recipe.passes == ()
    assert recipe.settings == BackendSettings(threads=2)


def test_trial_0_of_an_openvino_ir_is_openvino_in_full_precision() -> None:
    recipe = reference_recipe(card(format="openvino_ir"), 2)
    assert (recipe.backend, recipe.passes, recipe.settings.precision) == ("openvino", (), Precision.F32)
    assert "openvino_ir" in backend("openvino").formats
    assert "openvino_ir" not in backend("onnxruntime").formats


def test_a_format_without_reference_runtime_is_refused() -> None:
    with pytest.raises(InputError) as refusal:
        reference_recipe(card(format="gguf"), 2)
    assert refusal.value.code == "backend.no_reference"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, (Precision.F32,)),
        ({"instruction_sets": ("avx2", "avx512_vnni")}, (Precision.F32,)),
        ({"instruction_sets": ("avx512_bf16",)}, (Precision.F32, Precision.BF16)),
        ({"instruction_sets": ("avx512_bf16", "avx512_fp16")}, (Precision.F32, Precision.BF16, Precision.F16)),
        ({"instruction_sets": ("amx_bf16", "avx512_bf16", "avx512_fp16")}, (Precision.BF16, Precision.F32, Precision.F16)),
        ({"matrix_bf16": True}, (Precision.BF16, Precision.F32)),
        ({"architecture": "aarch64", "instruction_sets": ("asimdhp",)}, (Precision.F32, Precision.F16)),
    ],
)
def test_reduced_precision_leads_only_where_matrix_units_multiply_it(facts: dict[str, object], expected: tuple[Precision, ...]) -> None:
    assert precisions(host(**facts)) == expected


def test_few_thread_counts_between_one_and_the_quota() -> None:
    assert thread_counts(card(flops=10**9), host(cores=16)) == (16, 8, 1)
    assert thread_counts(card(flops=10**9), host(cores=1)) == (1,)
    assert thread_counts(card(flops=1000), host(cores=2)) == (1, 2)


def test_openvino_tries_matrix_precision_first_and_vector_precision_last() -> None:
    def tried(*sets: str) -> list[tuple[int | None, str]]:
        proposed = BACKENDS["openvino"].variants(card(flops=10**9), host(instruction_sets=sets))
        return [(one.settings.threads, str(one.settings.precision)) for one in proposed]

    assert tried("amx_bf16", "avx512_fp16") == [(2, "bf16"), (2, "f32"), (1, "bf16"), (2, "f16")]
    assert tried("avx512_bf16", "avx512_fp16") == [(2, "f32"), (1, "f32"), (2, "bf16"), (2, "f16")]
    assert tried("avx2") == [(2, "f32"), (1, "f32")]


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_variants_are_few_distinct_and_within_the_quota(name: str) -> None:
    proposed = BACKENDS[name].variants(card(flops=10**9), host(cores=4, instruction_sets=("avx512_bf16", "avx512_fp16")))
    settings = [one.settings for one in proposed]
    assert 1 <= len(settings) <= 6
    assert len({json.dumps(repr(one)) for one in settings}) == len(settings)
    assert all(1 <= (one.threads or 1) <= 4 and one.streams == 1 for one in settings)
    assert all(one.accuracy_invariant == (one.settings.precision is Precision.F32) for one in proposed)


def test_no_provider_that_sends_inputs_away_is_ever_proposed_or_opened(tmp_path: object) -> None:
    assert PROVIDERS["AzureExecutionProvider"].remote
    assert "Azure" not in BACKENDS["onnxruntime"].availability().devices  # type: ignore[union-attr]
    from tests import samples

    model = samples.identity(tmp_path / "m.onnx")  # type: ignore[operator]
    with pytest.raises(EngineError) as refusal:
        backend("onnxruntime").open(model, BackendSettings(threads=1, provider="AzureExecutionProvider"))
    assert refusal.value.code == "backend.setting_refused"


def test_an_unknown_provider_gets_a_device_name_and_f32_only() -> None:
    vendor = provider("AcmeNpuExecutionProvider")
    assert vendor.device == "AcmeNpu"
    assert set(vendor.options) == {Precision.F32}


def test_onnx_runtime_refuses_a_precision_hint_it_would_ignore(tmp_path: object) -> None:
    from tests import samples

    with pytest.raises(EngineError) as refusal:
        backend("onnxruntime").open(samples.identity(tmp_path / "m.onnx"), BackendSettings(threads=1, precision=Precision.BF16))  # type: ignore[operator]
    assert refusal.value.code == "backend.setting_refused"


TELEMETRY_PROBE = """
import os, sys
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
{use}
print(os.environ.get("ORT_DISABLE_TELEMETRY"), "onnxruntime" in sys.modules)
"""


@pytest.mark.parametrize(
    "use",
    [
        "from optimizer.backends import available_backends; available_backends()",
        "from optimizer.passes.quantizer import quantization; quantization()",
        "from optimizer.ort import load_onnxruntime; load_onnxruntime()",
    ],
)
def test_every_door_to_onnx_runtime_switches_its_telemetry_off_first(use: str) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", TELEMETRY_PROBE.format(use=use)], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"]


def test_nothing_of_ours_imports_onnx_runtime_by_another_door() -> None:
    from pathlib import Path

    import optimizer

    root = Path(optimizer.__file__).parent
    direct = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import onnxruntime", "from onnxruntime"))
    ]
    assert direct == []
