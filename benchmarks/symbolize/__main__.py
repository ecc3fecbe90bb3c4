"""Compare our names and lines with those of other tools, and the time and memory that they take.

Usage: python benchmarks/symbolize [--big PATH] [--part agreement|speed] [--addresses N] [--rounds N] [--json FILE]
       python benchmarks/symbolize --page [FILE]

Without options both parts are measured and kept in benchmarks/results/symbolize.json, from which --page makes
docs/symbolization-report.md. It runs where the package is installed, and compiles a small program in every way that
debug information comes in; what a tool is missing for is left out, and said.

--big is a large binary with debug information; the numbers that are published are of libtriton.so, 535 MB:

    pip download --no-deps --python-version 3.11 --only-binary=:all: triton==3.2.0
    unzip triton-3.2.0-*.whl triton/_C/libtriton.so

Agreement: addresses at random, the same each time, against llvm-symbolizer (lines, depth, chains), GNU addr2line (its
text, byte by byte; each difference is one of the kinds that the report explains) and, for what files share,
eu-addr2line.
Speed: whole processes on one core, page cache warm, one tool after the other in each round; medians.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "tests/builders")]
sys.dont_write_bytecode = True

from symbolize import command  # noqa: E402

if __name__ == "__main__":
    sys.exit(command.main(__doc__))
