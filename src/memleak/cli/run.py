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
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import config
from . import launch, program
from .common import Parser, UsageError, complain, positive
from .preload import environment, loadable_core

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
    takes_value = {"--min", "--min-sample-interval", "--max", "--max-sample-interval", "--mode"}
    takes_value |= {"--sample-bytes", "-o", "--output", "-n", "--top"}
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
    """Return the environment variables that hand the given knobs to the core."""
    found = {}
    if options.mode is not None:
        found["MEMLEAK_MODE"] = options.mode
    for variable, value in (
        ("MEMLEAK_MIN_SAMPLE_INTERVAL", options.min),
        ("MEMLEAK_MAX_SAMPLE_INTERVAL", options.max),
        ("MEMLEAK_SAMPLE_BYTES", options.sample_bytes),
    ):
        if value is not None:
            found[variable] = str(value)
    return found


def _parser() -> Parser:
    parser = Parser(
        "run",
        "Start a program with tracing on; print the stacks that hold the most memory when it ends.",
        usage="memleak run [OPTIONS] [-m MODULE | SCRIPT.py | PROGRAM] ARGS…",
        epilog=EPILOG,
    )
    interval = config.parse_interval
    parser.add_argument(
        "--min",
        "--min-sample-interval",
        dest="min",
        type=_checked(interval),
        metavar="N",
        help="least number of allocations between two samples (16)",
    )
    parser.add_argument(
        "--max", "--max-sample-interval", dest="max", type=_checked(interval), metavar="N", help="greatest number (256)"
    )
    parser.add_argument("--mode", choices=config.MODES, help="off: no samples; full: every allocation; normal")
    parser.add_argument(
        "--sample-bytes",
        type=_checked(lambda text: config.validate_sample_bytes(config.parse_bytes(text))),
        metavar="SIZE",
        help="mean bytes between byte samples (4M)",
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


def _checked(parse: Callable[[str], int]) -> Callable[[str], int]:
    """Let a parser's own words reach the user: argparse drops those of a ValueError."""
    from argparse import ArgumentTypeError

    def checked(text: str) -> int:
        try:
            return int(parse(text))
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return checked


def _check(options: Namespace, words: Sequence[str]) -> None:
    """Find every usage error before anything is started."""
    if not words:
        raise UsageError("what shall be started? memleak run PROGRAM ARGS…")
    knobs, _ = config.from_environment({**os.environ, **knob_variables(options)})
    least = options.min if options.min is not None else knobs.get("min_sample_interval")
    greatest = options.max if options.max is not None else knobs.get("max_sample_interval")
    defaults = config.DEFAULTS
    if options.min is not None or options.max is not None:
        try:
            config.validate_pair(
                defaults.min_sample_interval if least is None else least,
                defaults.max_sample_interval if greatest is None else greatest,
            )
        except ValueError as error:
            raise UsageError(f"--min, --max: {error}") from None
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
        reason = program.obstacle(shutil.which(path) or path, core)
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
