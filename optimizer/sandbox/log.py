"""A child's combined output, bounded: its head and its tail stay, the middle is counted."""

from __future__ import annotations

from collections import deque


class CappedLog:
    """Keeps at most ``limit`` bytes however much is written."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._cut_bytes = 0

    def add(self, part: bytes) -> None:
        room = self._half - len(self._head)
        self._head += part[:room]
        if rest := part[room:]:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail_bytes > self._half:
            self._trim()

    def _trim(self) -> None:
        excess = self._tail_bytes - self._half
        first = self._tail.popleft()
        cut = min(excess, len(first))
        if cut < len(first):
            self._tail.appendleft(first[cut:])
        self._tail_bytes -= cut
        self._cut_bytes += cut

    @property
    def text(self) -> str:
        """UTF-8, broken bytes replaced; a line says how much was left out."""
        gap = f"\n[{self._cut_bytes} bytes left out]\n".encode() if self._cut_bytes else b""
        return (bytes(self._head) + gap + b"".join(self._tail)).decode("utf-8", "replace")
