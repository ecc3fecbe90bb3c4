"""``memleak run``: start a program with tracing on, wait for it, say what held memory.

Only usage errors stop it. A program that cannot be traced is started all the same, with one line
that says so, and nothing that goes wrong with the summary changes the program's status.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from .. import config
from ..replaceable import is_replaceable
from . import knobs, launch, program
from .common import Parser, UsageError, complain, positive
from .preload import environment, limit_obstacle, loadable_core

EPILOG = """\
The program is a module (-m MOD), a file that ends in .py, or anything found as a shell finds it.
Its status is returned; 128 + N when signal N killed it, 127 when it was not found, 126 when it
could not be executed. MEMLEAK_DIR chooses the directory for recordings."""

DEFAULT_TOP = 5


def main(argv: Sequence[str]) -> int:
    """Start the program that *argv* names and return its status."""
    own, words = split(argv)
    options = _parser().parse_args(own)
    _check(options, words)
    arguments = command(words)
    try:
        path = program.find(arguments[0])
    except program.NotFoundError as error:
        complain("run", error)
        return 127
    except program.NotExecutableError as error:
        complain("run", error)
        return 126

    run_id = secrets.token_hex(8)
    variables = dict(os.environb)
    core = _traceable(path, options)
    if core is not None:
        variables = environment(variables, core, run_id, knob_variables(options), follow=options.follow)
    try:
        pid = launch.start(path, arguments, variables)
    except OSError as error:
        complain("run", f"{path}: {error.strerror}; it could not be executed")
        return 126
    ticks = launch.start_ticks(pid)
    status = launch.wait(pid)
    if core is not None:
        _afterwards(options, pid, ticks, run_id)
    return status


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate our options from the program's words, which we never look into."""
    takes_value = {"--mode", "--budget", "--focus", "-o", "--output", "-n", "--top"}
    takes_value.update(word for name in knobs.KNOBS for word in knobs.spellings(name))
    position = 0
    while position < len(argv):
        word = argv[position]
        if word == "--":
            return list(argv[:position]), list(argv[position + 1 :])
        if word.startswith("-m") or not word.startswith("-"):
            break
        position += 2 if word in takes_value else 1
    return list(argv[:position]), list(argv[position:])


def command(words: Sequence[str]) -> list[str]:
    """Return the program and arguments that the words after our options mean."""
    if words[0] == "-m":
        if len(words) < 2:
            raise UsageError("-m: which module? memleak run -m MODULE ARGS…")
        return [sys.executable, *words]
    if words[0].startswith("-m"):
        return [sys.executable, "-m", words[0][2:], *words[1:]]
    if words[0].endswith(".py"):
        return [sys.executable, *words]
    return list(words)


def knob_variables(options: Namespace) -> dict[str, str]:
    """Return the environment variables that hand the given options to the core."""
    found = mode_variable(options)
    found.update((f"MEMLEAK_{knob.upper()}", str(value)) for knob, value in knobs.given(options).items())
    found.update(sides(options))
    if options.budget is not None:
        found["MEMLEAK_BUDGET"] = f"{options.budget:f}"
    if options.focus is not None:
        found["MEMLEAK_FOCUS"] = "" if options.focus == "none" else options.focus
    return found


def sides(options: Namespace) -> dict[str, str]:
    """Return the environment variables that leave out a side that the options leave out."""
    return {f"MEMLEAK_{name.upper()}": "0" for name in ("native", "python") if not getattr(options, name)}


def mode_variable(options: Namespace) -> dict[str, str]:
    """Return the environment variable that hands the given mode to the core."""
    return {} if options.mode is None else {"MEMLEAK_MODE": options.mode}


def _parser() -> Parser:
    parser = Parser(
        "run",
        "Start a program with tracing on; print the stacks that hold the most memory when it ends.",
        usage="memleak run [OPTIONS] [-m MODULE | SCRIPT.py | PROGRAM] ARGS…",
        epilog=EPILOG,
    )
    knobs.add_options(parser)
    parser.add_argument(
        "--no-python",
        dest="python",
        action="store_false",
        help="do not read Python's frames, do not sample its small objects",
    )
    parser.add_argument(
        "--no-native",
        dest="native",
        action="store_false",
        help="sample only what is asked for through Python's allocators",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE|DIR/",
        help="copy the recording to FILE (others: FILE.PID-START), or each into DIR/",
    )
    parser.add_argument(
        "-n", "--top", type=positive, default=DEFAULT_TOP, metavar="N", help="stacks in the summary (5)"
    )
    parser.add_argument("--quiet", action="store_true", help="no summary")
    parser.add_argument("--no-follow", dest="follow", action="store_false", help="do not trace programs it executes")
    return parser


def _check(options: Namespace, words: Sequence[str]) -> None:
    """Find every usage error before anything is started."""
    if not words:
        raise UsageError("what shall be started? memleak run PROGRAM ARGS…")
    given = knobs.given(options)
    if given:
        surroundings = environment(os.environb, "", "", mode_variable(options), follow=False)
        found, _ = config.from_environment({os.fsdecode(k): os.fsdecode(v) for k, v in surroundings.items()})
        try:
            chosen = config.changed(config.DEFAULTS, {**found, **given})
        except ValueError as error:
            raise UsageError(str(error)) from None
        if options.mode is not None and chosen.mode != options.mode and not given.keys().isdisjoint(config.NATIVE_PAIR):
            pair = f"min {chosen.min_sample_interval} max {chosen.max_sample_interval}"
            raise UsageError(f"--mode {options.mode} contradicts the intervals, which are {pair}: give either")
    if sides(options) and config.sides({**os.environ, **sides(options)}, None, None)[2]:
        native, python = (
            f"MEMLEAK_{name.upper()}=0" if getattr(options, name) else f"--no-{name}" for name in ("native", "python")
        )
        raise UsageError(f"{native} and {python}: nothing would be recorded; leave out one of them")
    if options.output is not None:
        _check_output(options.output)


def _check_output(output: str) -> None:
    if output.endswith("/") or os.path.isdir(output):
        try:
            os.makedirs(output, exist_ok=True)
        except OSError as error:
            _refuse_output(output, error.strerror)
        directory = output
    else:
        directory = os.path.dirname(output) or "."
        if not os.path.isdir(directory):
            _refuse_output(output, f"there is no directory {directory}")
        if not is_replaceable(output):
            _refuse_output(output, "is not a regular file")
    if not os.access(directory, os.W_OK | os.X_OK):
        _refuse_output(output, f"{directory} is not writable")


def _refuse_output(output: str, why: str | None) -> NoReturn:
    raise UsageError(f"-o {output}: {why}; name a place you can write to")


def _traceable(path: str, options: Namespace) -> str | None:
    """Return the path to preload, or None after one line that says why there is none."""
    if os.environ.get("MEMLEAK_DISABLE", "0") not in ("", "0"):
        return None
    core, reason = loadable_core()
    if core is not None:
        reason = program.obstacle(shutil.which(path) or path, core) or limit_obstacle()
    if reason is None:
        return core
    complain("run", f"{reason}; it runs without tracing")
    return None


def _afterwards(options: Namespace, pid: int, ticks: int | None, run_id: str) -> None:
    """Copy and summarise the run's recordings. Never raises: the status is the program's."""
    try:
        from . import summary

        run = summary.Run.collect(pid, ticks, int(run_id, 16))
        if options.output is not None:
            summary.copy(run, options.output)
        if not options.quiet:
            summary.show(run, options.top, sys.stderr)
    except Exception as error:  # whatever it is, the program's status goes on
        complain("run", f"summary: {error or type(error).__name__}; memleak ps --dead lists the recordings")
    except KeyboardInterrupt:
        pass
