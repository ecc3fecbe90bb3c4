"""``memleak bundle``: recordings with the names they need, to be read where the binaries are not."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__, bundling, query
from . import render
from .common import Parser, add_symbol_options, add_target
from .top import named


def main(argv: Sequence[str]) -> int:
    """Write the bundle and print what is in it."""
    parser = Parser(
        "bundle",
        "Pack a recording, or all of a directory, with the functions, files and lines of its stacks. Every reading verb"
        " takes the bundle, and needs no binaries then.",
    )
    add_target(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="where to; FILE.mlz by custom")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    add_symbol_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: the file and each object's names")
    options = parser.parse_args(argv)
    path = Path(options.output)
    with named(options, options.target) as symbolizer:
        snapshot = query.open(options.target, symbolizer=symbolizer)
        modules = bundling.write(
            snapshot.recordings,
            snapshot.alive,
            snapshot.symbolizer,
            path,
            made_by=f"memleak {__version__}",
            force=options.force,
        )
    size = os.stat(path).st_size
    if options.json:
        answer = {
            "file": str(path),
            "bytes": size,
            "recordings": len(snapshot.recordings),
            "modules": [module._asdict() for module in modules],
            "problems": list(snapshot.problems),
        }
        print(json.dumps(answer, indent=2))
        return 0
    named_places = sum(module.addresses for module in modules)
    words = f"{render.plural(len(snapshot.recordings), 'recording')}, names of {render.plural(named_places, 'place')}"
    render.write([f"{path}: {words} in {render.plural(len(modules), 'object')}, {render.size(size)}"], sys.stdout)
    problems = [*snapshot.problems, *(f"{one.path}: {one.problem}" for one in modules if one.problem is not None)]
    for problem in problems:
        sys.stderr.write(render.printable(f"memleak bundle: {problem}") + "\n")
    return 0
