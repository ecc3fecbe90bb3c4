"""``memleak gauge``: set and list counts of a process's business, and tell memory per unit of them."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import gauging, query
from ..units import size
from . import render
from .common import Parser, UsageError, add_symbol_options, add_target, positive

if TYPE_CHECKING:
    from ..gaugerows import GaugeRow
    from ..scaling import Law, Prediction, Scaling

_FRAMES = 20
_ABOUT = """List the gauges of a process, set them from outside, or tell how its memory follows them.

A gauge is a whole number that counts what the process works on: open tables, sessions. The program sets its own by
memleak.gauge(NAME).set(N) or memleak_gauge_set(); NAME=VALUE here does it for any program. Set it whenever it changes:
memory per unit is read off how live bytes moved with it."""


def main(argv: Sequence[str]) -> int:
    """Set, list, or tell bytes per unit."""
    parser = Parser("gauge", _ABOUT)
    add_target(parser)
    parser.add_argument(
        "values", metavar="NAME=VALUE", nargs="*", help="set this gauge, which is made if the process has none"
    )
    parser.add_argument(
        "--per-unit", action="store_true", help="tell bytes per unit of each stack that follows a gauge"
    )
    parser.add_argument("--gauge", metavar="NAME", help="with --per-unit: by this gauge only")
    parser.add_argument(
        "--what-if", metavar="NAME=VALUE", action="append", default=[], type=_word,
        help="what memory would be at this value; with --per-unit, which it implies (repeatable)",
    )  # fmt: skip
    parser.add_argument("-n", type=positive, default=10, help="how many stacks (10)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_symbol_options(parser)
    options = parser.parse_intermixed_args(argv)
    per_unit = options.per_unit or options.what_if or options.gauge is not None
    if options.values and per_unit:
        raise UsageError("either set gauges or ask for bytes per unit: --per-unit and --what-if go without NAME=VALUE")
    if options.values:
        return _set(options.target, options.values, options.json)
    if not per_unit:
        return _list(options.target, options.json)
    return _per_unit(options)


def _word(text: str) -> tuple[str, int]:
    try:
        return gauging.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _set(target: str, words: Sequence[str], as_json: bool) -> int:
    values: dict[str, int] = {}
    try:
        for name, value in map(gauging.parse, words):
            if name in values:
                raise ValueError(f"{name} is given twice")
            values[name] = value
        path, header = gauging.set_gauges(target, values)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if as_json:
        print(json.dumps({"pid": header.pid, "path": str(path), "set": values}, indent=2))
    else:
        print(f"pid {header.pid}: " + ", ".join(f"{name}={value}" for name, value in values.items()))
    return 0


# -- the list ----------------------------------------------------------------------------------------


def _list(target: str, as_json: bool) -> int:
    rows = query.open(target).gauges()
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
        return 0
    if not rows:
        print("no gauges: memleak.gauge(NAME).set(N) in the program, or memleak gauge PID NAME=N")
        return 0
    width = max(len(row.name) for row in rows)
    several = len({row.svr_port for row in rows}) > 1
    for row in rows:
        prefix = f"pid {row.svr_port}  " if several else ""
        print(f"{prefix}{row.name:<{width}}  {_value_words(row)}")
    return 0


def _value_words(row: GaugeRow) -> str:
    if row.value is None:
        return "not set"
    words = f"{row.value}  set {_ago(row.last_set)}, changed {_ago(row.last_changed)}"
    if row.least != row.greatest:
        words += f"; {row.least} to {row.greatest} since {_ago(row.first_set)}"
    return words + ("; from outside" if row.from_outside else "")


def _ago(moment: float | None) -> str:
    seconds = max(0.0, time.time() - (moment or 0.0))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


# -- bytes per unit ----------------------------------------------------------------------------------


def _per_unit(options: Any) -> int:
    what_if = dict(options.what_if)
    if len(what_if) < len(options.what_if):
        raise UsageError("--what-if is given twice for one gauge")
    from .top import named, opened, title  # the symbolizer takes long to load

    with named(options, options.target) as symbolizer:
        snapshot = opened(options.target, symbolizer)
        found = snapshot.scaling(options.gauge, what_if, n=options.n)
        if options.json:
            print(json.dumps({**as_json(found), "footer": snapshot.footer()}, indent=2))
            return 0
        render.write([title(snapshot), "", *lines(found), "", *render.footer(snapshot)], sys.stdout)
    return 0


def lines(found: Scaling) -> list[str]:
    """Return an answer in words."""
    out = ["ALL STACKS TOGETHER"]
    for law in found.totals:
        out += _law_lines(law)
        out += [f"  {_prediction(one, found)}" for one in law.predictions]
    if found.rows:
        follow = found.rows[0].kind == "slope"
        out += ["", "STACKS THAT FOLLOW A GAUGE" if follow else "THE LARGEST STACKS", ""]
    elif any(law.kind == "slope" for law in found.totals):
        out += ["", "no single stack follows a gauge more closely than by chance"]
    for law in found.rows:
        out += _law_lines(law)
        out += [f"  {_prediction(one, found)}" for one in law.predictions]
        trace = law.row.trace if law.row else ()
        out += [f"    {render.printable(line)}" for line in trace[:_FRAMES]]
        out += [f"    … {len(trace) - _FRAMES} more"] if len(trace) > _FRAMES else []
        out.append("")
    return out[:-1] if out[-1] == "" else out


def _law_lines(law: Law) -> list[str]:
    kind = "" if law.kind == "slope" else " (RATIO)"
    words = f"{_bytes(law.bytes_per_unit)} per unit of {law.gauge}{kind}  {_interval(law.low, law.high)}"
    if law.r_squared is not None:
        words += f"  R² {law.r_squared:.3f}"
    if law.kind == "slope" and law.count_per_unit is not None and law.block_bytes is not None:
        words += f"  = {law.count_per_unit:.3g} blocks x {_bytes(law.block_bytes)}"
    seen = f"{law.least} to {law.greatest}" if law.least != law.greatest else f"{law.value}"
    now = f"  now {size(law.est_bytes)} at {law.gauge}={law.value}; seen {seen}"
    now += f", {law.moments} moments in {law.span_s:.0f} s"
    return [words, f"{now}; {law.samples} live samples", *(f"  {note}" for note in law.notes)]


def _prediction(one: Prediction, found: Scaling) -> str:
    words = f"at {one.gauge}={one.value}: {size(one.bytes)} {_interval(one.low, one.high)}"
    if one.used_bytes is None or found.limit_bytes is None:
        return words
    words += f"; with what else is used {size(one.used_bytes)} of {found.limit_name}, {size(found.limit_bytes)}: "
    if (one.used_bytes if one.used_low is None else one.used_low) > found.limit_bytes:
        return words + "TOO MUCH"
    if (one.used_bytes if one.used_high is None else one.used_high) > found.limit_bytes:
        return words + "perhaps too much"
    return words + "fits"


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "[error not known]"
    return f"[{_bytes(low)}, {_bytes(high)}]" if abs(high) < 1 << 20 else f"[{size(low)}, {size(high)}]"


def _bytes(number: float) -> str:
    return f"{number:,.0f} B" if abs(number) < 1 << 20 else size(number)


def as_json(found: Scaling) -> dict[str, Any]:
    """Return an answer by name."""
    return {
        "totals": [_law_json(law) for law in found.totals],
        "rows": [_law_json(law) for law in found.rows],
        "limit_bytes": found.limit_bytes,
        "limit_name": found.limit_name,
    }


def _law_json(law: Law) -> dict[str, Any]:
    row = law.row
    stack = None if row is None else {"mod_name": row.mod_name, "back_trace": row.back_trace, "trace": list(row.trace)}
    return {**law._asdict(), "row": stack, "predictions": [one._asdict() for one in law.predictions]}
