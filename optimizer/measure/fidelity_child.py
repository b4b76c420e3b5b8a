"""Child entry that runs a model over chosen examples and keeps every output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from optimizer.backends.base import Feeds, Session, lanes_of
from optimizer.codec import from_jsonable, to_jsonable
from optimizer.measure.batches import in_batches, parted
from optimizer.measure.child import open_session, read_buckets, read_feeds
from optimizer.measure.fidelity_outputs import FILE_NAME, OutputWriter
from optimizer.measure.streams import Carried
from optimizer.measure.traffic import cut, placed
from optimizer.sandbox.context import ChildContext
from optimizer.specs import BackendSettings

Outputs = list[np.ndarray[Any, Any]]


def outputs(context: ChildContext) -> dict[str, Any]:
    """Binds ``model`` (folder), ``inputs`` (folder); params ``entry backend settings shapes indices``.

    Uses the timed code path, each example once: batches and requests in flight as the settings say, shapes as the traffic's. With ``streams`` (``steps``, ``pairs`` of input and output), so many consecutive
    examples are one stream, in which the model's own state is fed back. Writes ``outputs.npz`` (see ``fidelity_outputs``);
    returns ``n names inputs outputs finite sha256 facts``; inputs and outputs are tensor specs as the opened session tells them.
    """
    params = context.params
    shapes = {name: tuple(shape) for name, shape in (params.get("shapes") or {}).items()}
    settings = from_jsonable(BackendSettings, params["settings"])
    buckets = read_buckets(params)
    session = open_session(context, settings, shapes, buckets)
    names = [one.name for one in session.inputs]
    feeds = read_feeds(context, names=names, indices=[int(index) for index in params["indices"]])
    if buckets:
        feeds = [cut(feed, buckets[place].shapes) for feed, place in zip(feeds, placed(feeds, buckets), strict=True)]
    streams = params.get("streams") or {"steps": 1, "pairs": []}
    carried = Carried(streams["pairs"], outputs=[one.name for one in session.outputs], steps=int(streams["steps"]))
    with OutputWriter(context.out_dir / FILE_NAME) as writer:
        for found in one_by_one(session, feeds, carried) if streams["pairs"] else as_timed(session, feeds, batch=settings.batch):
            writer.add(found)
    answer = {"n": writer.examples, "names": [one.name for one in session.outputs], "finite": writer.finite, "sha256": writer.sha256}
    tensors = {"inputs": to_jsonable(tuple(session.inputs)), "outputs": to_jsonable(tuple(session.outputs))}
    facts = session.facts()
    session.close()
    return {**answer, **tensors, "facts": facts}


def one_by_one(session: Session, feeds: Sequence[Feeds], carried: Carried) -> Iterator[Outputs]:
    """Each example in its turn, with the state of the one before."""
    for feed in feeds:
        found = session.run(carried.feed(feed))
        carried.keep(feed, found)
        yield found


def as_timed(session: Session, feeds: Sequence[Feeds], *, batch: int) -> Iterator[Outputs]:
    """The outputs of each example in order, from calls of whole batches with every request in flight."""
    lanes = lanes_of(session)
    calls = in_batches(feeds, batch)
    with ThreadPoolExecutor(len(lanes)) as pool:
        groups = (pool.map(lambda run, feed: run(feed), lanes, calls[first:]) for first in range(0, len(calls), len(lanes)))
        found = (example for group in groups for outputs in group for example in parted(outputs, batch))
        yield from islice(found, len(feeds))
