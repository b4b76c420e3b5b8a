"""How an agent hears of work: its Celery consumer's poke, or the clock."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass

import structlog

from parka_agent.protocol import Broker

log = structlog.get_logger(__name__)
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 60.0
STOP_S = 5.0


class Ear:
    """A pipe that wakes the main loop; with a broker also the consumer process that writes into it, restarted when it dies."""

    def __init__(self, broker: Broker | None) -> None:
        self._broker = broker
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._consumer: Consumer | None = None

    def open(self) -> None:
        """Start listening."""
        if self._broker is not None:
            self._consumer = Consumer(process=start_consumer(self._broker, wake_fd=self._writer), started=time.monotonic())

    def poke(self) -> None:
        """Wake the main loop from another thread or a signal handler."""
        os.write(self._writer, b"p")

    def wait(self, seconds: float) -> bool:
        """Until poked (True) or the time is over (False); restarts a dead consumer on the way."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._revive()
            if select.select([self._reader], [], [], min(left, FIRST_DELAY_S))[0]:
                os.read(self._reader, 4096)
                return True
        return False

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.end()

    def _revive(self) -> None:
        if self._consumer is None or self._broker is None or not self._consumer.is_due():
            return
        log.warning("consumer_restarted", code=self._consumer.process.returncode)
        self._consumer.process = start_consumer(self._broker, wake_fd=self._writer)
        self._consumer.started, self._consumer.died_at = time.monotonic(), None
        self._consumer.delay_s = min(self._consumer.delay_s * 2, LONGEST_DELAY_S)


@dataclass(slots=True, kw_only=True)
class Consumer:
    """The Celery process and when it may be started again."""

    process: subprocess.Popen[bytes]
    started: float
    delay_s: float = FIRST_DELAY_S
    died_at: float | None = None

    def is_due(self) -> bool:
        """Dead, and its delay is over; a minute of life resets the delay."""
        now = time.monotonic()
        if self.process.poll() is None:
            if now - self.started > STEADY_AFTER_S:
                self.delay_s = FIRST_DELAY_S
            return False
        self.died_at = self.died_at or now
        return now - self.died_at >= self.delay_s

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_consumer(broker: Broker, *, wake_fd: int) -> subprocess.Popen[bytes]:
    """A Celery worker on this agent's own queue; it runs nothing but the poke."""
    options = ["-c", "1", "--pool=solo", "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {
        **os.environ,
        "PARKA_AGENT_BROKER": broker.url,
        "PARKA_AGENT_QUEUE": broker.queue,
        "PARKA_AGENT_PREFIX": broker.prefix,
        "PARKA_AGENT_WAKE_FD": str(wake_fd),
    }
    command = [sys.executable, "-m", "celery", "-A", "parka_agent.worker", "worker", *options]
    return subprocess.Popen(command, env=environment, pass_fds=(wake_fd,), stdin=subprocess.DEVNULL)
