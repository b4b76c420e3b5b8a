"""Probe and micro-benchmark the host."""

from optimizer.hardware.cores import allowed_cores
from optimizer.hardware.probe import probe

__all__ = ["allowed_cores", "probe"]
