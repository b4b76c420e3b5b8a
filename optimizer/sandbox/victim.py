"""A supervisor made to be killed: opens a child with a grandchild in its own session, says where it beats, and waits."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from optimizer.sandbox.job import ChildJob, Level
from optimizer.sandbox.supervisor import Sandbox


def main() -> None:
    level, root = sys.argv[1:]
    sandbox = Sandbox(root=Path(root), level=Level(level))
    session = sandbox.open(ChildJob(entry="optimizer.sandbox.probes:daemon"))
    sys.stdout.write(f"{session.out_dir}\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main()
