"""How well growth is judged: twelve simulated shapes, at the default knobs.

Usage: python benchmarks/growth [--seeds N] [--json FILE]

It runs where the package and numpy are installed, in a few minutes with 200 seeds, and keeps what it finds in
benchmarks/results/growth.json. docs/explanation/verdict.md has the tables.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

from growth.shapes import SHAPES  # noqa: E402
from growth.simulation import figures, fill, level_table, table, watch  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200, help="stacks of each shape (200)")
    parser.add_argument("--json", type=Path, default=HERE.parent / "results/growth.json")
    options = parser.parse_args()
    seeds = range(options.seeds)
    with ProcessPoolExecutor() as pool:
        numbers = [number for number in range(len(SHAPES)) for _ in seeds]
        outcomes = list(pool.map(watch, numbers, [*seeds] * len(SHAPES), chunksize=8))
        levels = [level for each in pool.map(fill, seeds, chunksize=8) for level in each]
    lines = [*table(outcomes), "", *level_table(levels)]
    found = figures(outcomes, levels)
    print("\n".join([*lines, "", *(f"{name}: {100 * value:.2f} %" for name, value in found.items())]))
    options.json.write_text(json.dumps({"seeds": options.seeds, "figures": found, "tables": lines}, indent=1) + "\n")
