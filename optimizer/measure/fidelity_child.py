"""Child entry that runs a model over chosen examples and keeps every output."""

from __future__ import annotations

from typing import Any

from optimizer.backends import backend
from optimizer.codec import from_jsonable, to_jsonable
from optimizer.measure.child import read_feeds
from optimizer.measure.fidelity_outputs import FILE_NAME, OutputWriter
from optimizer.measure.streams import Carried
from optimizer.sandbox.context import ChildContext
from optimizer.specs import BackendSettings


def outputs(context: ChildContext) -> dict[str, Any]:
    """Binds ``model`` (folder), ``inputs`` (folder); params ``entry backend settings shapes indices``.

    Uses the timed code path, each example once. With ``streams`` (``steps``, ``pairs`` of input and output), so many consecutive
    examples are one stream, in which the model's own state is fed back. Writes ``outputs.npz`` (see ``fidelity_outputs``);
    returns ``n names inputs outputs finite sha256 facts``; inputs and outputs are tensor specs as the opened session tells them.
    """
    params = context.params
    shapes = {name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()}
    settings = from_jsonable(BackendSettings, params["settings"])
    session = backend(params["backend"]).open(context.path("model") / params["entry"], settings, shapes=shapes or None)
    names = [one.name for one in session.inputs]
    feeds = read_feeds(context, names=names, indices=[int(index) for index in params["indices"]])
    streams = params.get("streams") or {"steps": 1, "pairs": []}
    carried = Carried(streams["pairs"], outputs=[one.name for one in session.outputs], steps=int(streams["steps"]))
    with OutputWriter(context.out_dir / FILE_NAME) as writer:
        for feed in feeds:
            found = session.run(carried.feed(feed))
            carried.keep(feed, found)
            writer.add(found)
    answer = {"n": writer.examples, "names": [one.name for one in session.outputs], "finite": writer.finite, "sha256": writer.sha256}
    tensors = {"inputs": to_jsonable(tuple(session.inputs)), "outputs": to_jsonable(tuple(session.outputs))}
    facts = session.facts()
    session.close()
    return {**answer, **tensors, "facts": facts}
