"""``memleak verdict``: which stacks leak, which only fill up, and when the limit is met."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..verdict import TOO_FEW
from . import materialised, per_call, render
from .common import Parser, add_stack_options, add_target, positive
from .top import as_json, named, opened, title

if TYPE_CHECKING:
    from ..query import Snapshot
    from ..suspects import Found
    from ..verdict import Forecast, Verdict

SHOWN_FRAMES = 20
FOUND_LEAK = 3


def main(argv: Sequence[str]) -> int:
    """Print the verdicts of a target; return 3 when one is `leak`."""
    parser = Parser(
        "verdict",
        "Say which stacks leak, how fast, and when that meets the limit. The status is 3 when there is a leak, else 0.",
    )
    add_target(parser)
    parser.add_argument("-n", type=positive, default=10, metavar="N", help="stacks to show (10)")
    parser.add_argument("--all", action="store_true", help="also stacks that do not grow")
    add_stack_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: verdicts, whole, forecast, per_call, …")
    options = parser.parse_args(argv)
    with named(options, options.target) as symbolizer:
        snapshot = opened(options.target, symbolizer)
        found = snapshot.verdicts(options.n, growing=not options.all, side=options.side)
        if options.json:
            print(json.dumps(_as_json(snapshot, found), indent=2))
        else:
            render.write(_lines(snapshot, found, options.n, options.all), sys.stdout)
        return FOUND_LEAK if snapshot.judged.leaks else 0


def _lines(snapshot: Snapshot, found: Sequence[Found], most: int, everything: bool) -> list[str]:
    judged = snapshot.judged
    lines = [title(snapshot), "", summary(snapshot)]
    if judged.forecast is not None:
        lines.append(in_words(judged.forecast, snapshot.recordings[0].header.limit_name))
    for number, one in enumerate(found, 1):
        row, verdict = one.row, one.verdict
        under = f"; {render.printable(render.labels(row))}" if row.labels else ""
        lines += [
            "",
            f"#{number}  {verdict.verdict}{_how_fast(verdict)}; {render.size(row.est_bytes)} live"
            f" ({render.interval(row)}; {row.mod_name or 'several'}{under})",
            f"    {verdict.evidence}",
        ]
        if verdict.level is not None:
            lines.append(f"    {_level(verdict)}")
        lines += render.trace(row, most=SHOWN_FRAMES)
    lines += per_call.lines(snapshot.per_call(), most, everything)
    lines += materialised.lines(snapshot.materialised(), most)
    if judged.left_out:
        lines += [
            "",
            f"note: not judged: {render.plural(judged.left_out, 'recording')} of processes that have ended",
        ]
    return [*lines, "", *render.footer(snapshot)]


def summary(snapshot: Snapshot) -> str:
    """Return how many stacks got which verdict, in one line."""
    judged = snapshot.judged
    counts = judged.counts
    if not counts:
        return "no live samples: nothing to judge"
    words = [f"{render.plural(number, 'stack')}: {name}" for name, number in counts.items()]
    whole = judged.whole
    # Who asks too early is told when to ask again, though no stack is shown.
    why = f": {whole.evidence}" if whole.verdict == TOO_FEW else ""
    return f"{'; '.join(words)}. All together: {whole.verdict}{_how_fast(whole)}{why}"


def _how_fast(verdict: Verdict) -> str:
    rate = verdict.rate
    if rate is None:
        return ""
    per_minute = [None if value is None else 60 * value for value in (rate.value, rate.low, rate.high)]
    value, low, high = per_minute
    limits = f" [{render.size(low)}, {render.size(high)}]" if low is not None and high is not None else ""
    return f", {render.size(value or 0.0)}/min{limits}"


def _level(verdict: Verdict) -> str:
    level = verdict.level
    assert level is not None
    low = render.size(level.low or 0.0)
    high = "no upper limit yet" if level.high is None else render.size(level.high)
    return f"levels at {render.size(level.value)} [{low}, {high}] (90 %)"


def in_words(found: Forecast, limit_name: str) -> str:
    """Return a forecast as a sentence."""
    rate, low, high = (render.size(60 * value) for value in found.rate)
    grows = f"grows by {rate}/min [{low}, {high}]; {render.size(found.headroom_bytes)} left of {limit_name},"
    grows += f" {render.size(found.limit_bytes)}"
    expected, soonest, latest = found.seconds
    if expected is None:
        early = f"; at the soonest in {render.age(soonest)}" if soonest is not None else ""
        return f"forecast: {grows}: will not meet the limit as it grows now{early}"
    until = "no upper limit" if latest is None else render.age(latest)
    over = ""
    if found.levels_above is not None:
        over = f"; not a leak, but it would level {render.size(found.levels_above)} above the limit"
    return f"forecast: {grows}: meets the limit in {render.age(expected)} [{render.age(soonest)}, {until}]{over}"


def _as_json(snapshot: Snapshot, found: Sequence[Found]) -> dict[str, Any]:
    judged = snapshot.judged
    return {
        "verdicts": [{**_verdict(one.verdict), "row": as_json(one.row, None)} for one in found],
        "counts": judged.counts,
        "leaks": judged.leaks,
        "growing": sum(verdict.grows for _, verdict in judged.stacks),
        "whole": _verdict(judged.whole),
        "forecast": judged.forecast._asdict() if judged.forecast is not None else None,
        "left_out": judged.left_out,
        "per_call": [per_call.as_json(one) for one in snapshot.per_call()],
        "materialised": [materialised.as_json(one) for one in snapshot.materialised()],
        "footer": snapshot.footer(),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    found = verdict._asdict()
    for name in ("rate", "level"):
        found[name] = found[name]._asdict() if found[name] is not None else None
    return found
