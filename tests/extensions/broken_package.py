"""A package whose every part fails: at import, when asked whether it is available, when asked whether it applies."""

from __future__ import annotations

from pathlib import Path

PROJECT = """\
[build-system]
requires = ["uv_build>=0.8"]
build-backend = "uv_build"

[project]
name = "parka-broken"
version = "2.0.0"
requires-python = ">=3.11"

[project.entry-points."parka.passes"]
broken_import = "parka_broken.licence:Pass"
broken_question = "parka_broken.question:Pass"
broken_contract = "parka_broken.contract:Pass"
simplify = "parka_broken.licence:Pass"

[project.entry-points."parka.backends"]
broken_library = "parka_broken.library:Backend"
broken_driver = "parka_broken.driver:Backend"
"""
MODULES = {
    "__init__": "",
    "licence": 'raise RuntimeError("no licence\\nserver")\n',
    "library": "import acme_native_library_that_is_not_there\n",
    "contract": "class Pass:\n    name = 'broken_contract'\n",
    "driver": """\
class Backend:
    name = "broken_driver"
    formats = frozenset({"onnx"})
    def availability(self): raise OSError("no device")
    def variants(self, card, hardware): raise AssertionError("nobody asks a backend that is missing")
    def open(self, artifact, settings, *, shapes=None, cache_dir=None): raise AssertionError("nor opens it")
""",
    "question": """\
from optimizer.passes.simplify import Simplify
class Pass(Simplify):
    name, title = "broken_question", "Broken question"
    def applicable(self, card, hardware): raise KeyError("operators")
""",
}


def write_broken_package(folder: Path) -> Path:
    """The package's sources in ``folder``."""
    module = folder / "src" / "parka_broken"
    module.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    for name, text in MODULES.items():
        (module / f"{name}.py").write_text(text)
    return folder
