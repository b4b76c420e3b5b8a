"""Run by the interpreter of an environment with the example package: the platform started there knows it and runs with it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.extensions.models import biased
from tests.flows.stack import started_stack

pytestmark = pytest.mark.timeout(600)


def test_an_experiment_on_the_platform_tries_the_packages_pass_and_backend(tmp_path: Path) -> None:
    with started_stack(tmp_path) as live:
        agent = live.wait_for_agent()
        assert agent["hardware"]["runtimes"]["parka-acme"] == "0.1.0"
        version = live.ready_version(biased(tmp_path / "biased.onnx"), name="biased")
        run_id = live.start_run(version, agent, budget_s=45, backends=["onnxruntime", "acme_reference"], passes=["acme_gemm"])
        run = live.wait_for_end(run_id)
        assert run["status"] == "finished", live.tails()
        told = {one["label"]: one["reason"] for one in run["outcome"]["not_tried"]}
        assert told["broken_import"] == "parka-broken could not be loaded: RuntimeError: no licence server"
        recipes = [trial["recipe"] for trial in live.trials(run_id)]
        assert any(recipe["backend"] == "acme_reference" for recipe in recipes)
        assert any(step["name"] == "acme_gemm" for recipe in recipes for step in recipe["passes"])
        assert live.scorecard(run_id)
        page = httpx.get(f"{live.url}/api/v1/agents/{agent['id']}", headers={"Authorization": f"Bearer {live.token}"})
        assert page.json()["hardware"]["runtimes"]["parka-broken"] == "2.0.0"
