"""``memleak set``: change the sampling of a running process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .. import config, control
from .common import Parser, UsageError, add_target

_SHORT = {"min": "min", "max": "max", "min_sample_interval": "min", "max_sample_interval": "max"}


def main(argv: Sequence[str]) -> int:
    """Write the knobs and say whether the process has adopted them."""
    parser = Parser("set", "Change the sampling of a running process. Nothing is changed when a value is refused.")
    add_target(parser)
    parser.add_argument(
        "knobs",
        metavar="KNOB=VALUE",
        nargs="+",
        help="min=16 max=256 (allocations), mode=off|normal|full, sample_bytes=4M or 0",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    try:
        change = control.set_knobs(options.target, **parse(options.knobs))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.json:
        print(json.dumps(as_json(change), indent=2))
        return 0
    print(f"pid {change.pid}: {describe(change.requested)}")
    if change.note:
        print(change.note)
    return 0


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Return the keyword arguments for `control.set_knobs` that KEY=VALUE words mean.

    Raises:
        ValueError: an unknown knob, one given twice, or a value of the wrong kind.
    """
    found: dict[str, Any] = {}
    value: Any
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r}: expected KNOB=VALUE, for example mode=full")
        if key == "mode":
            name, value = "mode", text
        elif config.ALIASES.get(key, key) == "sample_bytes":
            name, value = "sample_bytes", config.parse_bytes(text)
        else:
            full = config.ALIASES.get(key, key)
            if full not in _SHORT:
                raise ValueError(f"unknown knob {key!r}: the knobs are min, max, mode and sample_bytes")
            name, value = _SHORT[full], config.parse_interval(text)
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return found


def describe(knobs: config.Knobs) -> str:
    """Return knobs in words: normal, min 16 max 256, sample_bytes 4194304."""
    return (
        f"{knobs.mode}, min {knobs.min_sample_interval} max {knobs.max_sample_interval},"
        f" sample_bytes {knobs.sample_bytes}"
    )


def as_json(change: control.Change) -> dict[str, Any]:
    """Return a change by name."""
    return {
        "pid": change.pid,
        "path": str(change.path),
        "requested": change.requested._asdict(),
        "effective": change.effective._asdict(),
        "adopted": change.adopted,
        "note": change.note,
    }
