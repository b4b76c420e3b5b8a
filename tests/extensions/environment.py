"""An environment of its own with Parka and packages that extend it, made without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTNER = ROOT / "examples" / "partner_package"


def copied_environment(folder: Path) -> Path:
    """This environment again, its files linked or copied into ``folder``; the new interpreter."""
    shutil.copytree(sys.prefix, folder, symlinks=True, copy_function=_link)
    return folder / "bin" / "python"


def _link(source: str, target: str) -> None:
    """A hard link where both lie on one disk. Installing replaces files and never writes into one, so the original stays."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def built_wheel(project: Path, folder: Path) -> Path:
    """The project's wheel, built by uv's own backend from a copy of its sources."""
    sources = shutil.copytree(project, folder / project.name, ignore=shutil.ignore_patterns("__pycache__", "dist"))
    uv("build", "--wheel", "--offline", "--no-config", "--out-dir", str(folder), str(sources))
    return next(folder.glob("*.whl"))


def install(wheel: Path, python: Path) -> None:
    uv("pip", "install", "--python", str(python), "--no-deps", "--no-index", "--offline", "--no-config", str(wheel))


def uv(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).parent / "uv"), *arguments], check=True, capture_output=True, text=True, timeout=120)


def run_in(python: Path, *arguments: str, cwd: Path, timeout_s: float = 240, **variables: str) -> subprocess.CompletedProcess[str]:
    """The environment's interpreter with these arguments, away from the checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PARKA_HOME", "DJANGO_SETTINGS_MODULE")}
    return subprocess.run(
        [str(python), *arguments], cwd=cwd, env={**kept, **variables}, capture_output=True, text=True, timeout=timeout_s, check=False
    )
