"""``memleak status``: one process's knobs, counters, room and own cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from .. import control, locate, query, recording
from ..records import NOT_SAMPLED, Focus, Header
from . import render
from .common import DOORS, Parser, add_target
from .set import as_json, describe


def main(argv: Sequence[str]) -> int:
    """Print what the header of a recording says."""
    parser = Parser("status", "Show the knobs (requested and effective), counters, room and own cost of a recording.")
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="one JSON list, an object per recording")
    options = parser.parse_args(argv)
    found = [look(path) for path in locate.find(options.target, dead=True)]
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    lines: list[str] = []
    for one in found:
        lines += [*([""] if lines else []), *_words(one)]
    render.write(lines, sys.stdout)
    return 0


def look(path: Any) -> dict[str, Any]:
    """Return one recording's state by name."""
    held = recording.load(path)
    header = held.header
    alive = locate.is_alive(header, path)
    knobs = control.read_knobs(str(path))
    state = "running" if alive else header.state_name if header.ended else "killed"
    return {
        **as_json(knobs),
        "counts_python": knobs.counts_python,
        "counts_native": header.counts_native,
        "command": header.command,
        "host": header.host_name,
        "state": "unknown" if alive is None else state,
        "recorded_s": header.duration_s,
        "max_frames": header.max_frames,
        "room_used": header.room_used,
        "room_backed": header.room_backed,
        "file_bytes": header.file_bytes,
        "limit": limit_facts(header),
        "marks": len(held.marks),
        "counters": dict(header.counters),
        "footer": query.Snapshot(held, alive=[bool(alive)]).footer(),
        "door": header.door_name,
        "python": header.python or None,
        "core_build_id": header.core_build_id.hex(),
    }


def limit_facts(header: Header) -> dict[str, Any]:
    """Return what bounds the memory of a process and how near to it it was seen, by name; None where not known."""
    share = header.limit_share
    return {
        "kind": header.limit_name or None,
        "bytes": header.limit_bytes or None,
        "used_bytes": None if share is None else header.limit_used_bytes,
        "share": share,
        "rss_bytes": header.rss_bytes if header.limit_seen_cs else None,
        "seen": header.started_at + header.limit_seen_cs / 100 if header.limit_seen_cs else None,
    }


def _limit_words(one: dict[str, Any]) -> list[str]:
    limit = one["limit"]
    if limit["share"] is None:
        return []
    marks = f", {render.plural(one['marks'], 'mark')} near it" if one["marks"] else ""
    used = f"{100 * limit['share']:.0f} % used when last looked at{marks}"
    return [f"limit      {render.size(limit['bytes'])} ({limit['kind']}), {used}"]


def _words(one: dict[str, Any]) -> list[str]:
    from ..config import Knobs

    footer = one["footer"]
    cost = footer["cost"]
    governor = footer["governors"][0]["words"]
    lines = [
        f"{one['command']} (pid {one['pid']} on {one['host']}): {one['state']},"
        f" recorded {render.age(one['recorded_s'])}",
        f"recording  {one['path']}",
        *([f"door       {DOORS[one['door']]}"] if one["door"] in DOORS else []),
        *([f"python     {one['python']}"] if one["python"] else []),
        *([] if one["counts_native"] else [f"native     {NOT_SAMPLED}"]),
        f"requested  {describe(Knobs(**one['requested']), python=one['counts_python'])}",
        f"effective  {describe(Knobs(**one['effective']), python=one['counts_python'])}",
        *([f"focus      {Focus(**one['focus'])}"] if one["focus"]["requested"] or one["focus"]["effective"] else []),
        *([f"           {one['note']}"] if one["note"] and one["state"] == "running" else []),
        f"room       {render.size(one['room_used'])} used, {render.size(one['room_backed'])} backed,"
        f" {render.size(one['file_bytes'])} at most",
        *_limit_words(one),
        f"own cost   {cost['cpu_ns'] / 1e6:.1f} ms of CPU for {render.count(cost['samples'])} samples; {governor}",
        f"coverage   {footer['coverage']}",
        *(line.replace("mismatches: ", "mismatch   ", 1) for line in render.mismatches(footer["mismatches"])),
        f"exact      {'yes' if footer['exact'] else 'no: ' + '; '.join(footer['exact_reasons'])}",
    ]
    lines += [f"counter    {name} = {render.count(value)}" for name, value in one["counters"].items() if value]
    return [render.printable(line) for line in lines]
