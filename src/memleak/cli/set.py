"""``memleak set``: change the sampling of a running process."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from .. import config, control
from . import knobs
from .common import Parser, UsageError, add_target

# What a knob may be called -> the argument of `control.set_knobs`.
_ARGUMENTS = {**{name: name for name in knobs.KNOBS}, **{knob: name for name, knob in knobs.KNOBS.items()}}


def main(argv: Sequence[str]) -> int:
    """Write the knobs and say whether the process has adopted them."""
    parser = Parser("set", "Change the sampling of a running process. Nothing is changed when a value is refused.")
    add_target(parser)
    parser.add_argument(
        "knobs",
        metavar="KNOB=VALUE",
        nargs="*",
        help="min=16 max=256 python_min=256 python_max=4096 (allocations), mode=off|normal|full,"
        " sample_bytes=4M or 0, budget=0.01 (share of the CPU time used, 0: any), focus=module=libfoo.so (all of it is recorded;"
        " label=NAME=VALUE, mod=NAME, none); or as options",
    )
    knobs.add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_intermixed_args(argv)
    try:
        asked = parse([*options.knobs, *_words(options)])
        if not asked:
            raise ValueError("nothing to change: which knob? memleak set PID mode=full")
        change = control.set_knobs(options.target, **asked)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.json:
        print(json.dumps(as_json(change), indent=2))
        return 0
    print(f"pid {change.pid}: {describe(change.requested, python=change.counts_python)}; {change.governor}")
    if change.focus.requested or change.focus.effective:
        print(f"focus {change.focus}")
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
        elif key == "sample_bytes":
            name, value = key, config.parse_bytes(text)
        elif key == "budget":
            name, value = key, config.parse_budget(text)
        elif key == "focus":
            name, value = key, config.validate_focus(text) or "none"
        else:
            full = config.ALIASES.get(key, key)
            if full not in _ARGUMENTS:
                raise ValueError(
                    f"unknown knob {key!r}: the knobs are {', '.join(knobs.KNOBS)}, budget, focus and mode"
                )
            name, value = _ARGUMENTS[full], config.parse_interval(text)
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return found


def _words(options: Namespace) -> list[str]:
    """Return the options as KNOB=VALUE words."""
    found = [f"{knob}={value}" for knob, value in knobs.given(options).items()]
    found += [] if options.budget is None else [f"budget={options.budget:f}"]
    found += [] if options.focus is None else [f"focus={options.focus}"]
    return found if options.mode is None else [*found, f"mode={options.mode}"]


def describe(values: config.Knobs, *, python: bool) -> str:
    """Return knobs in words, Python's if asked to: normal, min 16 max 256, sample_bytes 4194304."""
    of_python = (
        f" python_min {values.python_min_sample_interval} python_max {values.python_max_sample_interval},"
        if python
        else ""
    )
    return (
        f"{values.mode}, min {values.min_sample_interval} max {values.max_sample_interval},{of_python}"
        f" sample_bytes {values.sample_bytes}"
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
        "focus": change.focus._asdict(),
        "governor": {**change.governor._asdict(), "words": str(change.governor)},
    }
