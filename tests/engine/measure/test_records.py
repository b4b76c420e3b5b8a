"""Raw samples survive the round trip and are named by their content."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from optimizer.errors import EngineFault
from optimizer.measure import records
from optimizer.measure.records import StartSamples, read_samples, write_samples


def start(start_id, *, block_id=0, count=5, calls=1):
    issued = np.arange(count, dtype=np.int64) * 1000
    return StartSamples(start_id=start_id, block_id=block_id, issued_ns=issued, completed_ns=issued + 500, calls_per_sample=calls)


def test_starts_come_back_as_they_were_written(tmp_path):
    starts = [start(0), start(1, block_id=1, count=3), start(2, block_id=2, calls=10)]
    reference = write_samples(starts, folder=tmp_path)
    back = read_samples(Path(reference.path))
    assert [(one.start_id, one.block_id, len(one.issued_ns), one.calls_per_sample) for one in back] == [
        (0, 0, 5, 1),
        (1, 1, 3, 1),
        (2, 2, 5, 10),
    ]
    assert np.array_equal(back[1].completed_ns, starts[1].completed_ns)
    assert back[2].durations_ns[0] == 50


def test_the_file_is_named_by_its_own_hash(tmp_path):
    reference = write_samples([start(0)], folder=tmp_path)
    assert hashlib.sha256(Path(reference.path).read_bytes()).hexdigest() == reference.sha256
    assert Path(reference.path).stat().st_size == reference.size_bytes


def test_no_start_gives_an_empty_record(tmp_path):
    assert read_samples(Path(write_samples([], folder=tmp_path).path)) == []


def test_more_rows_than_a_record_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROWS_MOST", 9)
    with pytest.raises(EngineFault) as refusal:
        write_samples([start(0), start(1)], folder=tmp_path)
    assert refusal.value.code == "samples.too_many"
