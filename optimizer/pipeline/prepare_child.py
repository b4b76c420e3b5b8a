"""Child entry that lets a runtime prepare starts of a model: the model's files again, with the start cache beside them."""

from __future__ import annotations

import shutil
from typing import Any

from optimizer.backends import backend
from optimizer.backends.errors import SettingRefused
from optimizer.backends.start_cache import FOLDER, PreparesStarts
from optimizer.codec import from_jsonable
from optimizer.measure.batches import batched_shapes
from optimizer.sandbox.context import ChildContext
from optimizer.specs import BackendSettings


def prepare(context: ChildContext) -> dict[str, Any]:
    """Bind ``model`` (folder); params ``entry backend settings shapes``. Writes ``model/`` with ``start-cache/`` in it."""
    params = context.params
    runtime = backend(params["backend"])
    if not isinstance(runtime, PreparesStarts):
        raise SettingRefused(f"{params['backend']} can prepare no starts: ask for a recipe without a start cache.")
    settings = from_jsonable(BackendSettings, params["settings"])
    shapes = batched_shapes({name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()}, settings.batch)
    target = context.out_dir / "model"
    shutil.copytree(context.path("model"), target, ignore=shutil.ignore_patterns(FOLDER))
    (target / FOLDER).mkdir()
    runtime.prepare(target / params["entry"], settings, shapes=shapes or None, folder=target / FOLDER)
    files = {one.name: one.stat().st_size for one in sorted((target / FOLDER).iterdir())}
    return {"files": files}
