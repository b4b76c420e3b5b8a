"""Chart specs compiled to SVG: cached by content, checked before they reach a page."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from functools import cache
from importlib.metadata import version
from typing import Any
from xml.etree import ElementTree as ET

import structlog
from django.core.cache import cache as shared
from django.utils.html import escape
from django.utils.safestring import SafeString
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)
KEEP_S = 7 * 24 * 3600
PART_ROLES = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
FORBIDDEN_TAGS = {"script", "style", "foreignObject", "image", "a", "use", "animate", "set"}


class UnsafeChart(ValueError):
    """The compiled chart holds something that our policy forbids."""


@cache
def versions() -> str:
    """What else decides how a spec is drawn."""
    return f"{version('altair')}/{version('vl-convert-python')}"


def checked(svg: str) -> SafeString:
    """The SVG as safe markup once it has no script, style, handler or outside address. Raises UnsafeChart."""
    root = ET.fromstring(svg)  # noqa: S314 - our own converter's output
    for element in root.iter():
        tag = element.tag.rsplit("}", 1)[-1]
        if tag in FORBIDDEN_TAGS:
            raise UnsafeChart(f"<{tag}> in a chart")
        for name, value in element.attrib.items():
            plain = name.rsplit("}", 1)[-1].lower()
            if plain in {"style", "href"} or plain.startswith("on") or "url(" in value.replace("url(#", ""):
                raise UnsafeChart(f"{plain} in a chart")
    return SafeString(svg)


def labelled(svg: str, *, label: str) -> str:
    """The SVG as one image with a name; its parts are no images of their own."""
    svg = PART_ROLES.sub("", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def compile_chart(spec: dict[str, Any], *, label: str) -> SafeString | None:
    """Vega-Lite to SVG, kept in the cache; None when it cannot be drawn, so that the page shows its data table alone."""
    key = "chart:" + hashlib.sha256(json.dumps([spec, label, versions()], sort_keys=True).encode()).hexdigest()
    kept = _kept(key)
    if kept:
        return SafeString(kept)
    try:
        svg = checked(labelled(_convert(spec), label=label))
    except (ValueError, ET.ParseError) as error:
        log.error("chart.failed", error=str(error)[:500])
        return None
    _keep(key, svg)
    return svg


def _kept(key: str) -> str:
    """The chart as it was drawn before; empty when it was not, or when the cache does not answer."""
    try:
        return str(shared.get(key) or "")
    except (RedisError, OSError):
        return ""


def _keep(key: str, svg: str) -> None:
    try:
        shared.set(key, str(svg), KEEP_S)
    except (RedisError, OSError) as error:
        log.warning("chart.not_kept", error=str(error)[:200])


def warm_up() -> None:
    """Load the converter in the background: the first chart of a process then costs what every other does."""
    threading.Thread(target=_convert, args=[{"data": {"values": [{}]}, "mark": "point"}], name="chart-warm-up", daemon=True).start()


def _convert(spec: dict[str, Any]) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))
