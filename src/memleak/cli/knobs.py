"""The options that name knobs, the same for every verb that takes them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import TypeVar

from .. import config

Number = TypeVar("Number", int, float, str)

# Name of the option's value -> the knob.
KNOBS = {
    "min": "min_sample_interval",
    "max": "max_sample_interval",
    "python_min": "python_min_sample_interval",
    "python_max": "python_max_sample_interval",
    "sample_bytes": "sample_bytes",
}


def add_options(parser: ArgumentParser) -> None:
    """Add an option for each knob, and ``--mode``."""
    helps = (
        ("min", "least number of allocations between two samples (16)"),
        ("max", "greatest number (256)"),
        ("python_min", "the same for Python's small objects (256; as --min when that and --max are 1 or 10000)"),
        ("python_max", "greatest number (4096; likewise)"),
    )
    for name, words in helps:
        parser.add_argument(*spellings(name), dest=name, type=_checked(config.parse_interval), metavar="N", help=words)
    parser.add_argument("--mode", choices=config.MODES, help="off: no samples; full: every allocation; normal")
    parser.add_argument(
        *spellings("sample_bytes"),
        dest="sample_bytes",
        type=_checked(lambda text: config.validate_sample_bytes(config.parse_bytes(text))),
        metavar="SIZE",
        help="mean bytes between byte samples (4M)",
    )

    words = "share of the CPU time used that sampling may cost, 0 for any (0.01); intervals widen to keep to it"
    parser.add_argument(
        "--focus",
        type=_checked(lambda text: config.validate_focus(text) or "none"),
        metavar="WHAT",
        help="record all of a part beside what is sampled: module=libfoo.so, label=NAME=VALUE, mod=operator_new; none",
    )
    parser.add_argument("--budget", type=_checked(config.parse_budget), metavar="SHARE", help=words)


def spellings(name: str) -> Sequence[str]:
    """Return what an option may be called on the command line."""
    return list(dict.fromkeys("--" + word.replace("_", "-") for word in (name, KNOBS[name])))


def given(options: Namespace) -> dict[str, int]:
    """Return the knobs that options were given for, by their full names."""
    found = {knob: getattr(options, name) for name, knob in KNOBS.items()}
    return {knob: value for knob, value in found.items() if value is not None}


def _checked(parse: Callable[[str], Number]) -> Callable[[str], Number]:
    """Let a parser's own words reach the user: argparse drops those of a ValueError."""

    def checked(text: str) -> Number:
        try:
            return parse(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return checked
