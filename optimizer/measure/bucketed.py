"""One session for each shape of the traffic, behind the interface of a single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.backends.base import Feeds, Session
from optimizer.errors import InputError
from optimizer.specs import TensorSpec


class BucketedSession:
    """Finds the session by the shapes of the feeds; all of them are open at once."""

    def __init__(self, sessions: Sequence[tuple[Session, Mapping[str, tuple[int, ...]]]]) -> None:
        first = sessions[0][0]
        self.inputs: Sequence[TensorSpec] = first.inputs
        self.outputs: Sequence[TensorSpec] = first.outputs
        self._names = [tensor.name for tensor in first.inputs]
        self._sessions = [session for session, _ in sessions]
        self._by_shapes = {tuple(shapes[name] for name in self._names): session.run for session, shapes in sessions}

    def run(self, feeds: Feeds) -> list[np.ndarray[Any, Any]]:
        run = self._by_shapes.get(tuple([feeds[name].shape for name in self._names]))
        if run is None:
            raise InputError("input.shape", f"No session was opened for the shapes {[list(feeds[name].shape) for name in self._names]}.")
        return run(feeds)

    def facts(self) -> dict[str, Any]:
        return {**self._sessions[0].facts(), "sessions": len(self._sessions)}

    def close(self) -> None:
        for session in self._sessions:
            session.close()
