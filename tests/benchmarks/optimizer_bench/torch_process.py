"""A module of the zoo in a process of its own, timed and judged as the engine times and judges: called with one JSON argument.

The first line of its output tells that it is warm; then a number of seconds per line of input is answered with a round's median in ns.
With ``outputs`` it runs every example once, writes them there and ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.measure.child import one_round
from optimizer.measure.fidelity_outputs import OutputWriter
from optimizer.measure.harness import StreamPlan, draw_order, warm_up

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]


def opened(job: dict[str, Any]) -> Callable[[Feeds], list[Array]]:
    """The module as one call, eager or compiled, in float32 or with bf16 autocast."""
    import torch

    torch.set_num_threads(job["threads"])
    module_name, function = job["torch_form"].split(":")
    module, names = getattr(importlib.import_module(module_name), function)(Path(job["model"]))
    if job["compiled"]:
        module = torch.compile(module, dynamic=False)

    def call(feeds: Feeds) -> list[Array]:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=job["precision"] == "bf16"):
            answer = module(*(torch.from_numpy(feeds[name]) for name in names))
        return [one.to(torch.float32).numpy() for one in (answer if isinstance(answer, tuple) else (answer,))]

    return call


def examples_of(path: str) -> list[Feeds]:
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    count = min(map(len, columns.values()))
    return [{name: np.asarray(column[index], order="C") for name, column in columns.items()} for index in range(count)]


def main() -> None:
    job = json.loads(sys.argv[1])
    call, examples = opened(job), examples_of(job["examples"])
    if job.get("outputs"):
        with OutputWriter(Path(job["outputs"])) as writer:
            for feeds in examples:
                writer.add(call(feeds))
        return
    plan = StreamPlan(inputs=len(examples), seed=0, warmup_max_s=60.0)
    order = draw_order(plan)

    def numbered(number: int) -> object:
        return call(examples[number])

    warm_up(numbered, plan, order=order, clock=time.perf_counter_ns)
    gc.collect()
    gc.disable()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(one_round(numbered, order, seconds=float(line))["median_ns"]), flush=True)


if __name__ == "__main__":
    main()
