"""Fidelity of detectors: boxes after suppression, matched by class and overlap, images being the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimizer.formats import inspect_model
from optimizer.measure.detections import Found, Layout, boxes_of, matches, overlaps, reading_of, suppressed
from optimizer.measure.fidelity import FidelityResult, compare_outputs, examples_needed
from optimizer.specs import KpiTarget, Measurement, TaskKind, Verdict
from tests import samples

Array = np.ndarray[Any, Any]
Outputs = list[list[Array]]
Box = tuple[float, float, float, float, float, int]
"""Centre x, centre y, width, height, score, class."""

F1 = "fidelity_detection_f1_fraction"
ANCHORS, CLASSES = 84, 3
PLACES: list[Box] = [(20, 20, 10, 10, 0.9, 0), (60, 60, 20, 10, 0.8, 1), (90, 20, 12, 12, 0.7, 2)]


def anchors_last(boxes: list[Box]) -> list[Array]:
    """[1, 4 + classes, anchors], each box at two anchors beside each other, as detectors do."""
    output = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    for place, (x, y, width, height, score, kind) in enumerate(boxes):
        for double in (0, 1):
            output[0, :4, 2 * place + double] = (x + 0.3 * double, y, width, height)
            output[0, 4 + kind, 2 * place + double] = score - 0.1 * double
    return [output]


def anchors_first(boxes: list[Box]) -> list[Array]:
    """[1, anchors, 5 + classes] with objectness."""
    (last,) = anchors_last(boxes)
    rows = last.swapaxes(1, 2)
    objectness = (rows[..., 4:].max(axis=-1, keepdims=True) > 0).astype(np.float32)
    return [np.concatenate([rows[..., :4], objectness, rows[..., 4:]], axis=-1)]


def corners(boxes: list[Box]) -> Array:
    return np.array([[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h, *_ in boxes], np.float32).reshape(-1, 4)


def finished_rows(boxes: list[Box]) -> list[Array]:
    """[1, 8, 6]: two corners, score, class; the rest is padded."""
    output = np.zeros((1, 8, 6), np.float32)
    output[0, : len(boxes), :4] = corners(boxes)
    output[0, : len(boxes), 4:] = np.array([one[4:] for one in boxes], np.float32).reshape(-1, 2)
    return [output]


def separate(boxes: list[Box]) -> list[Array]:
    """Boxes [n, 4], labels [n], scores [n]: as many as were found."""
    return [corners(boxes), np.array([one[5] for one in boxes], np.int64), np.array([one[4] for one in boxes], np.float32)]


def fixed(boxes: list[Box]) -> list[Array]:
    """Boxes [1, 8, 4], float classes [1, 8], scores [1, 8] and how many count [1]."""
    (rows,) = finished_rows(boxes)
    return [rows[..., :4], rows[..., 5], rows[..., 4], np.array([len(boxes)], np.float32)]


FORMS = [anchors_last, anchors_first, finished_rows, separate, fixed]
LAYOUTS = [Layout.ANCHORS_LAST, Layout.ANCHORS_FIRST, Layout.ROWS, Layout.SEPARATE, Layout.SEPARATE]


def compared(ours: Outputs, theirs: Outputs, *targets: KpiTarget) -> FidelityResult:
    return compare_outputs(TaskKind.DETECTION, ours, theirs, targets=targets)


def f1(result: FidelityResult) -> Measurement:
    return next(one for one in result.measurements if one.kpi == F1)


@pytest.mark.parametrize(("form", "layout"), list(zip(FORMS, LAYOUTS, strict=True)))
def test_every_layout_is_read_as_the_same_boxes(form: Any, layout: Layout) -> None:
    outputs = form(PLACES)
    reading = reading_of(outputs)
    assert reading is not None
    assert reading.layout is layout
    (found,) = boxes_of(outputs, reading)
    np.testing.assert_allclose(found.boxes, corners(PLACES), atol=1e-5)
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7], atol=1e-6)
    assert found.classes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("form", [anchors_last, separate])
def test_boxes_without_change_need_381_images(form: Any) -> None:
    for n, verdict, needed in ((380, Verdict.UNPROVEN, 381), (381, Verdict.PASS, None)):
        result = compared([form(PLACES)] * n, [form(PLACES)] * n)
        assert (result.verdict, result.needed, result.limits) == (verdict, needed, {F1: 0.99})
    assert examples_needed(TaskKind.DETECTION) == 381


@pytest.mark.parametrize("form", FORMS)
def test_boxes_that_are_lost_moved_or_renamed_fail(form: Any) -> None:
    reference = [form(PLACES)] * 400
    moved: list[Box] = [(40, 40, 10, 10, 0.9, 0), *PLACES[1:]]
    renamed: list[Box] = [(20, 20, 10, 10, 0.9, 2), *PLACES[1:]]
    for broken, wanted in ((PLACES[1:], 2 * 2 / 5), (moved, 2 / 3), (renamed, 2 / 3)):
        result = compared(reference, [form(broken)] * 400)
        assert f1(result).value == pytest.approx(wanted)
        assert (result.verdict, result.code) == (Verdict.FAIL, "")


@pytest.mark.parametrize("form", [anchors_first, finished_rows])
def test_boxes_that_shift_a_little_are_the_same_boxes(form: Any) -> None:
    shifted: list[Box] = [(x + 1, y, w, h, score - 0.05, kind) for x, y, w, h, score, kind in PLACES]
    result = compared([form(PLACES)] * 400, [form(shifted)] * 400)
    assert f1(result).value == 1.0
    assert result.verdict is Verdict.PASS
    assert not result.invariant


@pytest.mark.parametrize("form", [anchors_last, anchors_first])
def test_a_cosine_near_one_does_not_save_a_detector_that_lost_its_scores(form: Any) -> None:
    """Boxes are large numbers, scores small ones: the cosine sees the boxes alone."""
    quiet: list[Box] = [(x, y, w, h, 0.2, kind) for x, y, w, h, _, kind in PLACES]
    result = compared([form(PLACES)] * 400, [form(quiet)] * 400)
    cosine = next(one.value for one in result.measurements if "cosine" in one.kpi)
    assert cosine is not None
    assert cosine > 0.99
    assert (f1(result).value, result.verdict) == (0.0, Verdict.FAIL)


@pytest.mark.parametrize("form", [anchors_first, separate, fixed])
def test_images_without_boxes_agree_and_are_no_evidence(form: Any) -> None:
    outputs = [form(PLACES if index % 4 == 3 else []) for index in range(400)]
    result = compared(outputs, outputs)
    assert (f1(result).value, f1(result).n, f1(result).n_eff) == (1.0, 400, 100)
    assert (result.verdict, result.needed) == (Verdict.UNPROVEN, 4 * 381)
    invented = [form(PLACES[:1] if index % 4 == 0 else PLACES if index % 4 == 3 else []) for index in range(400)]
    assert f1(compared(outputs, invented)).value == pytest.approx(6 / 7)


def test_a_detector_that_finds_nothing_at_all_proves_nothing() -> None:
    result = compared([separate([])] * 400, [separate([])] * 400)
    assert result.verdict is Verdict.UNPROVEN
    assert F1 not in {one.kpi for one in result.measurements}


def test_boxes_of_one_image_are_not_independent() -> None:
    outputs = [anchors_last(PLACES)] * 50
    assert (f1(compared(outputs, outputs)).n, f1(compared(outputs, outputs)).n_eff) == (50, 50)


def test_the_users_targets_gate_beside_or_instead() -> None:
    reference, fewer = [finished_rows(PLACES)] * 400, [finished_rows(PLACES[1:])] * 400
    assert compared(reference, fewer, KpiTarget(kpi=F1, value=0.5)).verdict is Verdict.PASS
    both = compared(reference, fewer, KpiTarget(kpi=F1, value=0.5), KpiTarget(kpi="fidelity_snr_db", value=60.0))
    assert both.verdict is Verdict.FAIL


def test_a_shape_that_does_not_count_boxes_must_not_change() -> None:
    wide = [np.concatenate([one, one[..., :1]], axis=-1) for one in anchors_last(PLACES)]
    result = compared([anchors_last(PLACES)] * 4, [wide] * 4)
    assert (result.verdict, result.code) == (Verdict.FAIL, "fidelity.shape_changed")
    assert compared([separate(PLACES)] * 4, [separate(PLACES)[:2]] * 4).code == "fidelity.shape_changed"


def not_boxes() -> list[list[Array]]:
    rng = np.random.default_rng(1)
    centred = rng.normal(size=(1, 7, ANCHORS)).astype(np.float32)
    return [
        [centred],
        [centred.swapaxes(1, 2)],
        [np.abs(centred) * 5],
        [rng.random((1, 4, 9), np.float32)],
        [rng.random((1, 8), np.float32)],
    ]


@pytest.mark.parametrize("outputs", not_boxes())
def test_outputs_whose_values_are_no_boxes_are_judged_as_generic(outputs: list[Array]) -> None:
    assert reading_of(outputs) is None
    result = compared([outputs] * 400, [outputs] * 400)
    assert set(result.limits) == {"fidelity_cosine_p01_ratio", "fidelity_snr_db"}


def found(boxes: list[Box]) -> Found:
    return Found(
        boxes=corners(boxes).astype(float), scores=np.array([one[4] for one in boxes]), classes=np.array([float(one[5]) for one in boxes])
    )


def test_suppression_spares_other_classes_and_neighbours() -> None:
    close: list[Box] = [(20, 20, 10, 10, 0.9, 0), (21, 20, 10, 10, 0.8, 0), (21, 20, 10, 10, 0.7, 1), (28, 20, 10, 10, 0.6, 0)]
    assert suppressed(found(close)).scores.tolist() == [0.9, 0.7, 0.6]


def test_one_box_of_the_original_matches_once() -> None:
    single, double = found([(20, 20, 10, 10, 0.9, 0)]), found([(20, 20, 10, 10, 0.9, 0), (21, 20, 10, 10, 0.8, 0)])
    assert matches(single, double) == matches(double, single) == 1


def test_overlap_is_intersection_over_union() -> None:
    box = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1], [2, 2, 0, 0]], float)
    assert overlaps(box, others).tolist() == pytest.approx([1, 1 / 3, 0, 0, 0])


def detector(path: Path, *, shape: list[int], image: list[int], metadata: dict[str, str] | None = None) -> Path:
    """An image that scales one output of this shape."""
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0), helper.make_node("Mul", ["mean", "anchors"], ["output0"])]
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), "anchors")]
    graph = helper.make_graph(nodes, "detector", [samples.value("images", image)], [samples.value("output0", shape)], tensors)
    samples.save(graph, path)
    if metadata:
        import onnx

        model = onnx.load(path)
        helper.set_model_props(model, metadata)
        onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("shape", "image", "metadata", "task"),
    [
        ([1, 84, 84], [1, 3, 64, 64], None, TaskKind.GENERIC),
        ([1, 7, 84], [1, 3, 64, 64], None, TaskKind.DETECTION),
        ([1, 252, 8], [1, 3, 64, 64], None, TaskKind.DETECTION),
        ([1, 84, 8], [1, 3, 64, 64], None, TaskKind.DETECTION),
        ([1, 7, 83], [1, 3, 64, 64], None, TaskKind.GENERIC),
        ([1, 4, 84], [1, 3, 64, 64], None, TaskKind.GENERIC),
        ([1, 7, 84], [1, 64], None, TaskKind.GENERIC),
        ([1, 300, 6], [1, 3, 64, 64], None, TaskKind.GENERIC),
        ([1, 300, 6], [1, 3, 64, 64], {"task": "detect"}, TaskKind.DETECTION),
        ([1, 300, 6], [1, 3, 64, 64], {"task": "pose"}, TaskKind.GENERIC),
    ],
)
def test_a_detector_is_recognised_only_by_clear_signs(
    tmp_path: Path, shape: list[int], image: list[int], metadata: dict[str, str] | None, task: TaskKind
) -> None:
    assert inspect_model(detector(tmp_path / "m.onnx", shape=shape, image=image, metadata=metadata)).task is task


@pytest.mark.parametrize(
    ("names", "task"),
    [(("boxes", "labels", "scores"), TaskKind.DETECTION), (("boxes", "scores", "masks"), TaskKind.GENERIC)],
)
def test_finished_detections_are_recognised_by_their_names(tmp_path: Path, names: tuple[str, ...], task: TaskKind) -> None:
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0)]
    nodes += [helper.make_node("Mul", ["mean", f"{name}_0"], [name]) for name in names]
    tensors = [numpy_helper.from_array(np.ones([5, 4] if name == "boxes" else [5], np.float32), f"{name}_0") for name in names]
    outputs = [samples.value(name, [5, 4] if name == "boxes" else [5], dtype=TensorProto.FLOAT) for name in names]
    path = samples.save(helper.make_graph(nodes, "d", [samples.value("images", [1, 3, 64, 64])], outputs, tensors), tmp_path / "m.onnx")
    assert inspect_model(path).task is task
