"""A pass and a backend of another package, installed from its wheel: they keep the contract and compete; a broken package is only told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extensions.environment import ROOT, run_in
from tests.extensions.models import biased

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]
CLI = ("-m", "optimizer.cli")


def test_the_packages_own_conformance_run_passes(partner_python: Path, tmp_path: Path) -> None:
    done = run_in(
        partner_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "optimizer.conformance", "-k", "acme", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout
    passed = int(done.stdout.splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed > 50
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_the_suite_fails_for_a_package_that_cannot_be_loaded(partner_python: Path, tmp_path: Path) -> None:
    done = run_in(
        partner_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "optimizer.conformance", "-k", "loaded", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "no licence server" in done.stdout
    assert "acme_native_library_that_is_not_there" in done.stdout


@pytest.fixture(scope="module")
def searched(partner_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result folder of a search in the partner's environment, its JSON files by name."""
    folder = tmp_path_factory.mktemp("searched")
    model = biased(folder / "model.onnx")
    np.savez(folder / "data.npz", x=np.random.default_rng(1).normal(size=(600, 1, 64)).astype(np.float32))
    chosen = ("--backend", "onnxruntime", "--backend", "acme_reference", "--backend", "broken_library", "--backend", "broken_driver")
    passes = ("--pass", "acme_gemm", "--pass", "broken_question")
    done = run_in(
        partner_python, *CLI, "search", str(model), "--inputs", str(folder / "data.npz"), "--budget", "60", "--out", str(folder / "out"),
        *chosen, *passes, cwd=folder,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    outcome = json.loads((folder / "out" / "outcome.json").read_text())
    reports = [json.loads(path.read_text()) for path in sorted((folder / "out" / "reports").glob("*.json"))]
    return {"outcome": outcome, "reports": reports, "stderr": done.stderr}


def test_a_search_tries_the_packages_pass_and_backend(searched: dict[str, Any]) -> None:
    gates = [report for report in searched["reports"] if report["stage"] == "gate" and report["status"] == "ok"]
    assert "acme_reference" in {report["recipe"]["backend"] for report in gates}
    assert "acme_gemm" in {step["name"] for report in gates for step in report["recipe"]["passes"]}
    assert {report["verdict"] for report in gates} == {"pass"}
    assert "parka-acme 0.1.0" in searched["stderr"]


def test_a_broken_package_is_told_of_with_its_error_and_takes_nothing_down(searched: dict[str, Any]) -> None:
    told = {one["label"]: one["reason"] for one in searched["outcome"]["not_tried"]}
    assert told["broken_import"] == "parka-broken could not be loaded: RuntimeError: no licence server"
    assert told["broken_library"].startswith("parka-broken could not be loaded: ModuleNotFoundError: No module named 'acme_native")
    assert told["broken_driver"].startswith(
        "parka-broken could not be loaded: it failed when asked whether it is available: OSError: no device"
    )
    assert told["broken_contract"].startswith("parka-broken could not be loaded: parka_broken.contract:Pass declares no title")
    assert told["Broken question"] == "It failed when asked what to try: KeyError: 'operators'"
    assert "simplify" not in told


def test_the_agents_doctor_names_both_packages(partner_python: Path, tmp_path: Path) -> None:
    done = run_in(partner_python, "-m", "parka_agent.cli", "doctor", cwd=tmp_path, PARKA_HOME=str(tmp_path / "home"))
    assert "acme_reference" in done.stdout
    assert "parka-broken could not be loaded" in done.stdout
    assert "broken_import" in done.stdout


@pytest.mark.slow
def test_the_platform_runs_an_experiment_with_the_package(partner_python: Path) -> None:
    inside = Path(__file__).parent / "inside_platform.py"
    done = run_in(partner_python, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(inside), cwd=ROOT, timeout_s=500)
    assert done.returncode == 0, done.stdout
