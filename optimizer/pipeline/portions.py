"""Parts of an input set as folders of their own: a child sees the examples it works on, and no sealed one before its turn."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from optimizer.codec import digest, to_jsonable
from optimizer.measure.input_files import ARRAYS, DESCRIPTION, LABEL, example_digests, load_feeds, load_label, write_arrays, write_digests
from optimizer.measure.inputs import InputSet


def portion(inputs: InputSet, indices: tuple[int, ...], *, root: Path) -> InputSet:
    """The chosen examples, in this order, as an input set below ``root``; made once."""
    folder = root / digest([inputs.digest, list(indices)])[:32]
    if not (folder / DESCRIPTION).exists():
        _write(inputs, indices, folder)
    described = json.loads((folder / DESCRIPTION).read_text())
    return replace(inputs, folder=folder, n=len(indices), digest=described["digest"])


def _write(inputs: InputSet, indices: tuple[int, ...], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
    source = inputs.folder / ARRAYS
    feeds = [load_feeds(source, index) for index in indices]
    arrays = {name: np.stack([feed[name] for feed in feeds]) for name in (feeds[0] if feeds else ())}
    labels = {LABEL: np.array([load_label(source, index) for index in indices])} if inputs.has_labels else {}
    write_arrays(draft, {**arrays, **labels})
    whole = write_digests(draft, example_digests(arrays))
    stored = replace(inputs, folder=folder, n=len(indices), digest=whole)
    (draft / DESCRIPTION).write_text(json.dumps(to_jsonable(stored)))
    try:
        draft.rename(folder)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
