"""Entry of every child: ``python -I .../optimizer/sandbox/child.py --job-fd 3``. Kept small: each start pays for it."""

from __future__ import annotations

import os
import sys


def _adopt_own_package() -> None:
    """Make ``optimizer`` importable from where this file lies, though the folder above it may be unreadable here."""
    from importlib.util import module_from_spec, spec_from_file_location

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    initial = os.path.join(package, "__init__.py")  # noqa: PTH118
    spec = spec_from_file_location("optimizer", initial, submodule_search_locations=[package])
    if spec is None or spec.loader is None:
        raise ImportError(f"{initial} cannot be loaded")
    module = module_from_spec(spec)
    sys.modules["optimizer"] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Read the job from its descriptor, run its function, answer, and leave without waiting for anybody's clean-up."""
    _adopt_own_package()
    from optimizer.sandbox.context import serve

    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    serve(int(arguments["--job-fd"]), started_ns=int(arguments["--started-ns"]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
