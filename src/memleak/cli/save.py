"""``memleak save``: a copy of a recording that is whole, also of one being written."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .. import query
from .common import Parser, add_target


def main(argv: Sequence[str]) -> int:
    """Save the target's recordings and print the files written."""
    parser = Parser("save", "Copy a recording, consistently, to a file; several (a directory) into a directory.")
    add_target(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="where to")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.add_argument("--json", action="store_true", help="one JSON list of the files written")
    options = parser.parse_args(argv)
    written = [str(path) for path in query.open(options.target).save(options.output, force=options.force)]
    print(json.dumps(written) if options.json else "\n".join(written))
    return 0
