"""Sounds made from a seed: something like speech in noise, and harmonic tones. No recording is needed or read.

Speech is syllables of a pulse train with a wandering pitch through three resonances (source and filter, as in Klatt's
synthesiser), with hissed bursts between them, pauses, and noise over everything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import lfilter

RATE_HZ = 16_000
VOWELS_HZ = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410], [660, 1720, 2410]])
"""First three resonances of English vowels (Peterson and Barney 1952)."""

BANDWIDTHS_HZ = (80.0, 100.0, 150.0)
Array = np.ndarray[Any, Any]


def speech(samples: int, *, rng: np.random.Generator) -> Array:
    """Speech-like sound in noise at 0 to 25 dB: float32 [samples] within -1 to 1."""
    voice, pitch = np.zeros(0), rng.uniform(90, 240)
    while len(voice) < samples:
        voice = np.concatenate([voice, _syllable(pitch, rng=rng), np.zeros(int(rng.choice([0, 0, 400, 6_000])))])
    start = int(rng.integers(len(voice) - samples + 1))
    voice = voice[start : start + samples]
    noise = lfilter([1.0], [1.0, -rng.uniform(0, 0.95)], rng.normal(size=samples))
    noise *= (voice.std() + 1e-3) / noise.std() * 10 ** (-rng.uniform(0, 25) / 20)
    return _at_level(voice + noise, rng=rng)


def noise(samples: int, *, rng: np.random.Generator) -> Array:
    """Coloured noise: float32 [samples]."""
    return _at_level(lfilter([1.0], [1.0, -rng.uniform(-0.5, 0.98)], rng.normal(size=samples)), rng=rng)


def tones(samples: int, rate_hz: int, *, rng: np.random.Generator) -> Array:
    """One to four notes with overtones that begin and fade at their own times, in faint noise: float32 [samples]."""
    time = np.arange(samples) / rate_hz
    mixed = rng.normal(0, 10 ** rng.uniform(-4, -1.5), samples)
    for _ in range(int(rng.integers(1, 5))):
        pitch, begin, fade = 440 * 2 ** ((int(rng.integers(36, 84)) - 69) / 12), rng.uniform(0, 1.5), rng.uniform(0.2, 2)
        envelope = np.where(time >= begin, np.exp(-(time - begin) / fade), 0) * np.clip((time - begin) / 0.01, 0, 1)
        strength = rng.uniform(0.4, 1.0)
        for overtone in range(1, int(rng.integers(3, 9))):
            mixed += envelope * strength**overtone * np.sin(2 * np.pi * pitch * overtone * time + rng.uniform(0, 2 * np.pi))
    return _at_level(mixed, rng=rng)


def _syllable(pitch_hz: float, *, rng: np.random.Generator) -> Array:
    """A hissed burst, perhaps, and a vowel."""
    vowel = _vowel(pitch_hz * rng.uniform(0.85, 1.2), int(rng.integers(1_500, 4_500)), rng=rng)
    if rng.random() < 0.4:
        return vowel
    burst = np.diff(rng.normal(size=int(rng.integers(300, 1_600)) + 1))
    return np.concatenate([0.15 * burst * np.hanning(len(burst)), vowel])


def _vowel(pitch_hz: float, samples: int, *, rng: np.random.Generator) -> Array:
    """Pulses at a drifting pitch through the resonances of one vowel."""
    pitch = pitch_hz * (1 + 0.05 * np.cumsum(rng.normal(size=samples)) / np.sqrt(samples))
    sound = lfilter([1.0], [1.0, -0.95], np.diff(np.floor(np.cumsum(pitch) / RATE_HZ), prepend=0.0))
    for centre, bandwidth in zip(VOWELS_HZ[int(rng.integers(len(VOWELS_HZ)))], BANDWIDTHS_HZ, strict=True):
        radius = np.exp(-np.pi * bandwidth / RATE_HZ)
        sound = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE_HZ), radius**2], sound)
    return sound / (np.abs(sound).max() + 1e-9) * np.hanning(samples)


def _at_level(sound: Array, *, rng: np.random.Generator) -> Array:
    return (sound / (np.abs(sound).max() + 1e-9) * rng.uniform(0.1, 0.9)).astype(np.float32)
