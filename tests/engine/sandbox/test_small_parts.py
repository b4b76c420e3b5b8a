"""The log that stays small, the frames that are plain, the exit codes that name a signal."""

import signal
from pathlib import Path

import pytest

from optimizer.sandbox import recipe_a
from optimizer.sandbox.layout import python_roots
from optimizer.sandbox.log import CappedLog
from optimizer.sandbox.verdict import parse_frame, signal_of
from optimizer.sandbox.watchdog import folder_bytes


def test_a_short_log_is_kept_whole():
    log = CappedLog(100)
    for part in (b"one ", b"two"):
        log.add(part)
    assert log.text == "one two"


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_long_log_keeps_head_and_tail_and_counts_the_rest(size):
    log, text = CappedLog(100), bytes(range(33, 123)) * 50
    for begin in range(0, len(text), size):
        log.add(text[begin : begin + size])
    head, gap, tail = log.text.partition(f"\n[{len(text) - 100} bytes left out]\n")
    assert gap
    assert head.encode() == text[:50]
    assert tail.encode() == text[-50:]


def test_broken_characters_do_no_harm():
    log = CappedLog(10)
    log.add(b"\xff\xfe")
    assert log.text == "\ufffd\ufffd"


@pytest.mark.parametrize("line", [b'{"reply": {}}', b'{"result": {"a": [1, null]}}', b'{"failure": {"code": "x.y"}}'])
def test_plain_frames_are_read(line):
    assert parse_frame(line) is not None


@pytest.mark.parametrize(
    "line", [b"", b"{", b"\xff", b"{}", b'{"reply": 1}', b'{"other": {}}', b'{"result": {"a": NaN}}', b'{"result": {"a": 1e999}}']
)
def test_anything_else_is_no_frame(line):
    assert parse_frame(line) is None


def test_bubblewraps_exit_codes_name_the_signal_of_its_child():
    assert signal_of(9) == signal.SIGKILL
    assert signal_of((128 + 11) << 8) == signal.SIGSEGV
    assert signal_of(3 << 8) is None
    assert signal_of(0) is None


def test_a_folder_counts_what_its_files_occupy_and_follows_no_link(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    (inside / "small").write_bytes(b"x" * 10_000)
    (inside / "link").symlink_to(tmp_path / "large")
    assert 10_000 <= folder_bytes(inside) < 100_000
    assert folder_bytes(tmp_path / "absent") == 0


def test_the_private_tmp_comes_before_the_interpreter_that_may_lie_below_it(tmp_path: Path) -> None:
    words = recipe_a.command(["true"], environment={}, binds={}, out=tmp_path)
    roots = [number for number, word in enumerate(words) if word in python_roots()]
    assert roots
    assert words.index("--tmpfs") < min(roots)
