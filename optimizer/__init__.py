"""The engine: inspect, optimise, measure and compare neural networks; usable without the platform."""

__version__ = "0.1.0"
