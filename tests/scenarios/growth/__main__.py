"""Real programs with a known truth before `memleak verdict`.

Usage: python tests/scenarios/growth [--normal [--minutes N]] [--only WORD] [--seed N] [--jobs N] [--json FILE]
                                       [--keep DIR | --judge DIR]

Each program runs under `memleak run`, is killed (SIGKILL), and is judged from its recording alone. In full mode that
takes two minutes for all; with --normal, at the default knobs, 20 minutes. The table goes to standard output; what was
wrong goes to standard error, and then the status is 1. It needs the package, gcc, and for two of them mariadbd and
mysqlclient.
docs/explanation/verdict.md has the table.
"""

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
sys.dont_write_bytecode = True

from running import Outcome, build, kept_at, rejudge, run  # noqa: E402
from table import as_json, lines  # noqa: E402
from truth import scenarios  # noqa: E402


def main() -> int:
    """Run, print, and say whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--normal", action="store_true", help="at the default knobs instead of full mode")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long each runs with --normal (20)")
    parser.add_argument("--only", default="", metavar="WORD", help="scenarios whose name has it")
    parser.add_argument("--seed", type=int, default=1, help="of the sampling (1)")
    parser.add_argument("--jobs", type=int, default=0, help="programs at once (with --normal all, else 3 a core)")
    parser.add_argument("--json", type=Path, help="keep what was found here, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave recordings and compiled programs there")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="run nothing: judge what --keep has left there")
    options = parser.parse_args()
    mode = "normal" if options.normal else "full"
    chosen = [one for one in scenarios() if mode in one.modes and options.only in one.name]
    if not chosen:
        parser.error(f"no scenario of {mode} mode has {options.only!r} in its name")
    if options.judge:
        chosen = [one for one in chosen if kept_at(one, options.judge).exists()]
        return told(options, mode, [rejudge(one, mode, kept_at(one, options.judge)) for one in chosen])
    jobs = options.jobs or (len(chosen) if options.normal else 3 * (os.cpu_count() or 1))
    with ExitStack() as stack:
        words = {}
        if any(one.needs == "mariadb" for one in chosen):
            import mariadbserver

            missing = mariadbserver.missing()
            if missing is None:
                words["socket"] = stack.enter_context(mariadbserver.serving(1000))
            else:
                print(f"{missing}: its scenarios are left out", file=sys.stderr)
                chosen = [one for one in chosen if one.needs != "mariadb"]
        directory = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memleak-growth-")))
        directory.mkdir(parents=True, exist_ok=True)
        commands = [build(one, directory) for one in chosen]
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        runs = [
            pool.submit(
                run,
                one,
                mode,
                60 * options.minutes if options.normal else one.seconds,
                command,
                words,
                options.seed,
                options.keep,
            )
            for one, command in zip(chosen, commands)
        ]
        outcomes = [one.result() for one in runs]
    return told(options, mode, outcomes)


def told(options: argparse.Namespace, mode: str, outcomes: list[Outcome]) -> int:
    """Print what was found, and return the status."""
    table = lines(outcomes)
    print("\n".join(table))
    for outcome in outcomes:
        for wrong in outcome.wrong:
            print(f"{outcome.scenario.name}: {wrong}", file=sys.stderr)
    if options.json:
        options.json.write_text(
            json.dumps({"mode": mode, "outcomes": as_json(outcomes), "table": table}, indent=1) + "\n"
        )
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


sys.exit(main())
