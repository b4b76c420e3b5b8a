"""Build exhibits and say what they are.

    python -m tests.benchmarks.optimizer_zoo --cache DIR [NAMES...]

One line each. Times are of ONNX Runtime as it comes, on one thread: to know sizes by, not to compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np

from optimizer.ort import load_onnxruntime
from tests.benchmarks.optimizer_zoo import NAMES, Exhibit, exhibit

CALLS, WARM_UPS = 100, 10


def line(shown: Exhibit) -> str:
    """Name, size of the model, inputs, examples, ONNX Runtime's median on one thread, and how well it does its task where known."""
    with np.load(shown.inputs) as opened:
        arrays = {name: opened[name] for name in opened.files if name != shown.labels}
    files = [path for path in shown.model.rglob("*") if path.is_file()] if shown.model.is_dir() else [shown.model]
    size = sum(path.stat().st_size for path in files) / 2**20
    ports = ", ".join(f"{name} {array.dtype}{list(array.shape[1:])}" for name, array in arrays.items())
    facts = shown.model.parent / "facts.json"
    quality = facts.read_text().strip("{}") if facts.exists() else ""
    count = len(next(iter(arrays.values())))
    return f"{shown.name:<14} {size:7.2f} MiB  {count:>5,} x {ports}  {_median_ms(shown, arrays)}  {quality}"


def _median_ms(shown: Exhibit, arrays: dict[str, np.ndarray]) -> str:
    if shown.model.is_dir():
        return "no ONNX file"
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(shown.model), options, providers=["CPUExecutionProvider"])
    durations = []
    for call in range(WARM_UPS + CALLS):
        feeds = {name: np.asarray(array[call]) for name, array in arrays.items()}
        begin = perf_counter_ns()
        session.run(None, feeds)
        durations.append(perf_counter_ns() - begin)
    return f"{median(durations[WARM_UPS:]) / 1e6:.3f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where exhibits are kept")
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"default: all of {' '.join(NAMES)}")
    options = parser.parse_args()
    for name in options.names or NAMES:
        print(line(exhibit(name, cache=options.cache)), flush=True)


if __name__ == "__main__":
    main()
