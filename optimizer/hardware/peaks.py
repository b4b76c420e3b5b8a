"""Peak FLOP/s per precision as the inference runtimes reach it; runs inside a sandboxed child."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.hardware.bandwidth import best_seconds, gemm_flops_per_s, triad_bytes, triad_bytes_per_s
from optimizer.sandbox.context import ChildContext

SIDE = 1024
BUDGET_S = 20.0


def measure(context: ChildContext) -> dict[str, Any]:
    """Child entry: params ``last_level_cache_bytes memory_bytes cores precisions`` -> ``{"peaks_flops", "bandwidth"}``."""
    begin = time.monotonic()
    size = triad_bytes(last_level_cache_bytes=context.params["last_level_cache_bytes"], memory_bytes=context.params["memory_bytes"])
    peaks = {"f32_numpy": gemm_flops_per_s()}
    model = context.out_dir / "gemm.onnx"
    write_gemm(model)
    for precision in context.params["precisions"]:
        if time.monotonic() - begin < BUDGET_S:
            peaks.update(openvino_peak(model, precision=precision, threads=context.params["cores"]))
    peaks.update(int8_peak(context.out_dir / "int8.onnx", threads=context.params["cores"]))
    return {"peaks_flops": peaks, "bandwidth": triad_bytes_per_s(array_bytes=size)}


def write_gemm(path: Path) -> None:
    """Eight chained float32 matrix products of side 1024, weights inside."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    weights = [numpy_helper.from_array((rng.random((SIDE, SIDE)) / SIDE).astype(np.float32), f"w{i}") for i in range(8)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(8)]
    side = [SIDE, SIDE]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, side) for name in ("x0", "x8")]
    graph = helper.make_graph(nodes, "gemm", ends[:1], ends[1:], initializer=weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def openvino_peak(model: Path, *, precision: str, threads: int) -> dict[str, float]:
    """FLOP/s of the chain in one precision; empty when OpenVINO is absent or refuses."""
    try:
        import openvino as ov

        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        request = ov.Core().compile_model(str(model), "CPU", options).create_infer_request()
    except (ImportError, RuntimeError):
        return {}
    feed = {0: np.ones((SIDE, SIDE), np.float32)}
    return {precision: float(8 * 2 * SIDE**3 / best_seconds(lambda: request.infer(feed)))}


def int8_peak(path: Path, *, threads: int) -> dict[str, float]:
    """Operations/s of one u8 x s8 product in ONNX Runtime, 2·n³ operations; empty when it is absent or refuses."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from optimizer.ort import load_onnxruntime

    weight = numpy_helper.from_array(np.random.default_rng(1).integers(-64, 64, (SIDE, SIDE)).astype(np.int8), "w")
    ends = [helper.make_tensor_value_info(name, kind, [SIDE, SIDE]) for name, kind in (("x", TensorProto.UINT8), ("y", TensorProto.INT32))]
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "int8", ends[:1], ends[1:], initializer=[weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    try:
        ort = load_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {"x": np.ones((SIDE, SIDE), np.uint8)}
        return {"int8": float(2 * SIDE**3 / best_seconds(lambda: session.run(None, feed)))}
    except Exception:  # a runtime that cannot do it, in whatever way it says so, has no peak
        return {}
