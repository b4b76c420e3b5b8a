"""The group that bounds processes: it holds even for root, and leaves nothing behind."""

import os
import subprocess
import sys

import pytest

from optimizer.sandbox import cgroup

FORK_UNTIL_REFUSED = """
import os, sys, time
from pathlib import Path
from optimizer.sandbox import cgroup
if sys.argv[1] == "joined":
    cgroup.join(Path(sys.argv[2]))
made = 0
for _ in range(40):
    try:
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
    except OSError:
        break
    made += 1
print(made)
"""


@pytest.fixture
def group():
    made = cgroup.open_group(processes=10)
    if made is None:
        pytest.skip("this user may not create control groups here")
    yield made
    cgroup.close_group(made)


@pytest.mark.parametrize(("kind", "expected"), [("joined", range(1, 10)), ("alone", range(40, 41))])
def test_a_member_cannot_make_more_processes_than_the_group_allows(group, kind, expected):
    command = [sys.executable, "-c", FORK_UNTIL_REFUSED, kind, str(group)]
    assert int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) in expected


def test_a_closed_group_is_gone_and_a_living_ones_group_is_never_swept(group):
    cgroup.sweep()
    assert group.exists()
    cgroup.close_group(group)
    assert not group.exists()


def test_the_group_of_a_killed_maker_is_swept(group):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True, text=True)
    orphan = group.parent / f"{cgroup.PREFIX}{int(ended.stdout)}"
    orphan.mkdir()
    cgroup.sweep()
    assert not orphan.exists()
    assert os.path.basename(group) == f"{cgroup.PREFIX}{os.getpid()}"  # noqa: PTH119
