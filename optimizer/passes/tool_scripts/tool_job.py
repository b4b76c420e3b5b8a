"""What driver scripts share. They run in environments that know nothing of Parka: the standard library here, numpy for the examples.

A script is started with one argument, the job as JSON, and answers one JSON line for every way of using its tool: ``label``,
``seconds``, and ``entry`` (the model it wrote, relative to ``out``) or ``error``.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = 100


class Job:
    """What to work on: ``model`` and ``out`` paths, bound ``shapes``, operator counts, ``threads``; ``feeds()`` are real examples.

    ``variant`` names the one way of using the tool that is asked for; empty asks for each.
    """

    def __init__(self) -> None:
        told = json.loads(sys.argv[1])
        self.model, self.out = Path(told["model"]), Path(told["out"])
        self.shapes: dict[str, list[int]] = told["shapes"]
        self.operators: dict[str, int] = told["operators"]
        self.threads = int(told["threads"])
        self.variant = str(told.get("variant", ""))
        self._examples = told["examples"]
        self._indices: list[int] = told.get("indices") or []

    def feeds(self) -> list[dict[str, Any]]:
        """At most 100 examples, one array per input."""
        import numpy as np

        with np.load(self._examples, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in self.shapes}
        indices = self._indices or range(min(len(one) for one in arrays.values()))
        return [{name: array[index] for name, array in arrays.items()} for index in indices[:EXAMPLES]]


def offer(
    label: str, make: Callable[[], Path], *, job: Job, variant: str = "", backend: str = "onnxruntime", precision: str = "f32"
) -> None:
    """Run one way of using the tool, if it is asked for, and tell what came of it."""
    if job.variant and job.variant != variant:
        return
    begin = time.monotonic()
    told: dict[str, Any] = {"label": label, "backend": backend, "precision": precision}
    try:
        told["entry"] = str(make().relative_to(job.out))
    except (Exception, SystemExit) as error:  # the tool's failure is a result
        traceback.print_exc()
        told["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    told["seconds"] = time.monotonic() - begin
    print("\n" + json.dumps(told), flush=True)
