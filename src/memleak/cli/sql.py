"""``memleak sql``: SELECT over malloc_sample_info and its companions."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence

from .. import sql
from . import render
from .common import Parser, add_symbol_options, add_target
from .top import named, opened


def main(argv: Sequence[str]) -> int:
    """Run one query and print its result."""
    parser = Parser("sql", _description())
    add_target(parser)
    example = "SELECT mod_name, sum(est_bytes) FROM malloc_sample_info GROUP BY 1"
    parser.add_argument("query", metavar="QUERY", help=f"for example: {example}")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="comma-separated values with a header line")
    form.add_argument("--json", action="store_true", help="one JSON list of objects")
    form.add_argument("--vertical", action="store_true", help="one column per line, as a query that ends in \\G")
    parser.add_argument(
        "--no-symbols", action="store_true", help="native_trace and mixed_trace are NULL; reads no binaries"
    )
    add_symbol_options(parser)
    options = parser.parse_args(argv)

    query, ends_vertical = _without_terminator(options.query)
    sql.limit_heap()
    with named(options, options.target) as symbolizer:
        result = opened(options.target, symbolizer).sql(query)
    columns, rows = list(result.columns), [list(row) for row in result.rows]
    if options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    elif options.json:
        print(json.dumps([dict(zip(columns, row)) for row in rows], indent=2, default=str))
    elif options.vertical or ends_vertical:
        render.write(_vertical(columns, rows), sys.stdout)
    else:
        cells = [[_cell(value) for value in row] for row in rows]
        numeric = {i for i in range(len(columns)) if rows and all(isinstance(row[i], (int, float)) for row in rows)}
        render.write(render.table(columns, cells, left=set(range(len(columns))) - numeric), sys.stdout)
    return 0


def _description() -> str:
    tables = "\n".join(f"  {name:<20}{table.about}" for name, table in sql.TABLES.items())
    return (
        f"Query a target with SQL, sqlite's. The tables:\n\n{tables}\n\n"
        f"{sql.ALIAS} is another name of the first. Functions: addr2line(build_id, vaddr),\n"
        "symbol(build_id, vaddr), human(bytes). docs/reference/sql.md lists the columns."
    )


def _without_terminator(query: str) -> tuple[str, bool]:
    r"""Return the query without the `\G` or `\g` of MySQL's client, and whether it asked for vertical output."""
    bare = query.rstrip()
    return (bare[:-2], bare.endswith("\\G")) if bare.endswith(("\\G", "\\g")) else (query, False)


def _vertical(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = []
    width = max((len(column) for column in columns), default=0)
    for number, row in enumerate(rows, 1):
        lines.append(f"*************************** {number}. row ***************************")
        for column, value in zip(columns, row):
            first, *rest = str("NULL" if value is None else value).split("\n")
            lines.append(f"{column.rjust(width)}: {render.printable(first)}")
            lines += [" " * (width + 2) + render.printable(line) for line in rest]
    return lines


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    return render.printable(str(value).replace("\n", " < "))
