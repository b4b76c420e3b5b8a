"""A histogram of request shapes: what is accepted, how examples are placed and cut, and in which order they come."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import InputError
from optimizer.formats import inspect_model
from optimizer.measure.harness import StreamPlan, draw_order
from optimizer.measure.traffic import Bucket, buckets_of, cut, groups_of, in_turns, mixed_order, open_shapes, placed, pools
from optimizer.specs import Scenario, SearchSpec, TrafficShare
from optimizer.traffic_table import parse_traffic, read_traffic, resolved, traffic_text
from tests.samples import mlp, sample_path

SHORT, LONG = TrafficShare(bindings={"s": 4}, weight=3), TrafficShare(bindings={"s": 8}, weight=1)
BUCKETS = [Bucket(share=0.75, shapes={"ids": (1, 4), "mask": (1, 4)}), Bucket(share=0.25, shapes={"ids": (1, 8), "mask": (1, 8)})]


def text(length: int) -> dict[str, np.ndarray]:
    mask = (np.arange(8) < length).astype(np.int64)[None]
    return {"ids": mask * 7, "mask": mask}


def refused(*shares: TrafficShare, **changes: object) -> str:
    with pytest.raises(InputError) as refusal:
        SearchSpec(traffic=shares, **changes)  # type: ignore[arg-type]
    return refusal.value.code


def test_a_histogram_that_cannot_be_is_refused() -> None:
    assert refused(SHORT, TrafficShare(bindings={"other": 4})) == "traffic.bindings"
    assert refused(SHORT, SHORT) == "traffic.bindings"
    assert refused(TrafficShare(bindings={})) == "traffic.bindings"
    assert refused(TrafficShare(bindings={"s": 0})) == "traffic.bindings"
    assert refused(SHORT, TrafficShare(bindings={"s": 8}, weight=0)) == "traffic.weight"
    assert refused(SHORT, TrafficShare(bindings={"s": 8}, weight=float("nan"))) == "traffic.weight"
    assert refused(*(TrafficShare(bindings={"s": size}) for size in range(1, 40))) == "traffic.too_many"
    assert refused(SHORT, LONG, objective="throughput_per_s", scenario=Scenario.OFFLINE) == "traffic.offline"


def test_traffic_is_measured_one_request_at_a_time_and_examples_are_kept_at_the_widest() -> None:
    spec = SearchSpec(traffic=(SHORT, LONG), objective="throughput_per_s", bindings={"b": 1, "s": 2})
    assert spec.scenario is Scenario.SINGLE_STREAM
    assert spec.widest == {"b": 1, "s": 8}
    assert SearchSpec(bindings={"s": 2}).widest == {"s": 2}


def test_buckets_are_the_models_shapes_and_what_differs_stays_open() -> None:
    card = inspect_model(sample_path("S1"))
    shares = tuple(TrafficShare(bindings={"sequence_length": size}, weight=weight) for size, weight in ((16, 3), (64, 1)))
    buckets = buckets_of(card, SearchSpec(traffic=shares, bindings={"batch_size": 1}))
    assert [one.share for one in buckets] == [0.75, 0.25]
    assert buckets[1].shapes == {"input_ids": (1, 64), "attention_mask": (1, 64)}
    assert open_shapes(buckets) == {"input_ids": (1, -1), "attention_mask": (1, -1)}
    assert buckets_of(card, SearchSpec()) == ()


def test_several_batch_sizes_and_unknown_dimensions_are_refused(tmp_path: Path) -> None:
    card = inspect_model(mlp(tmp_path / "m.onnx", batch="n"))
    for name, code in (("n", "traffic.batch"), ("nothing", "input.refused")):
        shares = tuple(TrafficShare(bindings={name: size}) for size in (1, 8))
        with pytest.raises(InputError) as refusal:
            buckets_of(card, SearchSpec(traffic=shares))
        assert refusal.value.code == code


def test_text_goes_to_the_smallest_bucket_that_holds_it_and_other_examples_take_turns() -> None:
    assert placed([text(3), text(4), text(5), text(8)], BUCKETS) == [0, 0, 1, 1]
    unmasked = [{"ids": text(8)["ids"]} for _ in range(8)]
    bare = [Bucket(share=one.share, shapes={"ids": one.shapes["ids"]}) for one in BUCKETS]
    assert Counter(placed(unmasked, bare)) == {0: 6, 1: 2}


def test_a_bucket_without_own_examples_gets_all_of_them_cut_to_it() -> None:
    short, long = pools([text(8), text(7)], BUCKETS)
    assert [one["ids"].shape for one in short] == [(1, 4)] * 2
    assert [one["ids"].shape for one in long] == [(1, 8)] * 2
    assert cut(text(3), BUCKETS[0].shapes)["mask"].tolist() == [[1, 1, 1, 0]]


def test_every_stretch_of_calls_follows_the_shares() -> None:
    shares = [0.5, 0.3, 0.2]
    order = in_turns(shares, 300)
    for first in range(0, 280, 7):
        counts = Counter(order[first : first + 20])
        assert all(abs(counts[index] - 20 * share) <= 1.5 for index, share in enumerate(shares))


def test_the_order_of_inputs_is_seeded_and_stays_in_its_buckets() -> None:
    groups = ((3, 0.75), (5, 0.25))
    first, again, other = (mixed_order(groups, seed=seed, length=400) for seed in (1, 1, 2))
    assert first == again != other
    assert set(first) == set(range(8))
    counts = Counter(groups_of(first, groups).tolist())
    assert counts[0] == pytest.approx(300, abs=2)
    assert draw_order(StreamPlan(inputs=8, seed=1, groups=groups))[:5] != draw_order(StreamPlan(inputs=8, seed=1))[:5]


@pytest.mark.parametrize(
    "content",
    ['[{"bindings": {"s": 4}, "weight": 3}, {"bindings": {"s": 8}}]', "s, weight\n4, 3\n8, 1\n", "\ufeffs,weight\n4,3.0\n8,1\n"],
)
def test_json_and_csv_give_the_same_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "traffic").write_text(content, encoding="utf-8")
    assert read_traffic(tmp_path / "traffic") == (SHORT, LONG)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "traffic.syntax"),
        ("{", "traffic.syntax"),
        ('{"s": 4}', "traffic.syntax"),
        ("[1]", "traffic.syntax"),
        ("s,weight\nfour,1\n", "traffic.syntax"),
        ("s,weight\n4,1,9\n", "traffic.syntax"),
        ("weight\n4\n", "traffic.bindings"),
        ("s,weight\n4,-1\n", "traffic.weight"),
    ],
)
def test_a_file_that_is_no_histogram_is_refused_with_an_example(tmp_path: Path, content: str, code: str) -> None:
    (tmp_path / "traffic").write_text(content)
    with pytest.raises(InputError) as refusal:
        read_traffic(tmp_path / "traffic")
    assert refusal.value.code == code


def test_a_missing_file_is_told_and_names_are_completed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read_traffic(tmp_path / "absent")
    assert refusal.value.code == "traffic.unreadable"
    assert resolved((TrafficShare(bindings={"seq": 4}),), ("batch", "sequence_length"))[0].bindings == {"sequence_length": 4}
    for name in ("width", " "):
        with pytest.raises(InputError, match="names 0 of the model's open dimensions; it has: sequence_length"):
            resolved((TrafficShare(bindings={name: 4}),), ("sequence_length",))


def test_a_table_reads_back_as_it_was_written() -> None:
    assert parse_traffic(traffic_text((SHORT, LONG)), source="it") == (SHORT, LONG)
    assert traffic_text(()) == ""
