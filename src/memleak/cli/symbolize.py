"""``memleak symbolize``: every stack of a recording, with names."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from .. import query
from . import render
from .common import Parser, add_symbol_options, add_target
from .top import as_json, named, title


def main(argv: Sequence[str]) -> int:
    """Print all stacks, the one that holds most first."""
    parser = Parser("symbolize", "Print every stack with functions, files and lines, as far as the binaries know them.")
    add_target(parser)
    add_symbol_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON list of rows")
    options = parser.parse_args(argv)
    with named(options, options.target) as symbolizer:
        snapshot = query.open(options.target, symbolizer=symbolizer)
        rows = snapshot.rows()
        if options.json:
            print(json.dumps([as_json(row, None) for row in rows], indent=2))
        else:
            render.write([title(snapshot), "", *render.stacks(rows), "", *render.footer(snapshot)], sys.stdout)
        for path, why in snapshot.symbol_problems().items():
            sys.stderr.write(render.printable(f"memleak symbolize: {path}: {why}") + "\n")
    return 0
