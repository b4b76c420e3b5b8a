"""What the scripts share. They run in environments that know nothing of Parka: only numpy and the standard library here."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = 100


class Job:
    """What to work on: ``model`` and ``out`` paths, bound ``shapes``, operator counts, ``threads``; ``feeds()`` are real examples."""

    def __init__(self) -> None:
        told = json.loads(sys.argv[1])
        self.model, self.out = Path(told["model"]), Path(told["out"])
        self.shapes: dict[str, list[int]] = told["shapes"]
        self.operators: dict[str, int] = told["operators"]
        self.threads = int(told["threads"])
        self._examples = Path(told["examples"])

    def feeds(self) -> list[dict[str, np.ndarray[Any, Any]]]:
        with np.load(self._examples, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in self.shapes}
        return [{name: array[index] for name, array in arrays.items()} for index in range(min(EXAMPLES, len(next(iter(arrays.values())))))]


def offer(label: str, make: Callable[[], Path], *, job: Job, backend: str, precision: str = "f32") -> None:
    """Run one way of using the tool and tell what came of it."""
    begin = time.monotonic()
    told: dict[str, Any] = {"label": label, "backend": backend, "precision": precision}
    try:
        told["entry"] = str(make().relative_to(job.out))
    except Exception as error:  # the tool's failure is a result
        traceback.print_exc()
        told["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    told["seconds"] = time.monotonic() - begin
    print(json.dumps(told), flush=True)
