"""What the verbs share: the argument parser, one-line errors, targets and conditions."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import MemleakError

# How the core came into a process -> in words.
DOORS = {"preload": "preload (the loader brought the core in)", "import": "import (memleak was imported)"}


class UsageError(Exception):
    """Words on the command line that cannot be meant; exit status 2."""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """One is made for each option, if only to look at its words: finding the width by shutil takes 3 ms to load."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    with contextlib.suppress(ValueError, OSError):
        return int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns
    return 80


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints take one line."""

    def __init__(self, verb: str, description: str, **options: Any) -> None:
        super().__init__(
            prog=f"memleak {verb}",
            description=description,
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` where argparse would print its usage and exit."""
        raise UsageError(f"{message}; {self.prog} --help shows the options")


def guard(verb: str, argv: Sequence[str]) -> int:
    """Run a verb's ``main`` and turn what it raises into one line and an exit status."""
    try:
        status = importlib.import_module(f".{verb}", __package__).main(list(argv))
        sys.stdout.flush()
        return int(status)
    except UsageError as error:
        complain(verb, error)
        return 2
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Nothing is left to be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return 130
    except (MemleakError, OSError) as error:
        complain(verb, error)
        return 1


def complain(verb: str, what: object) -> None:
    """Write one line to standard error; never raise."""
    text = " ".join(describe(what).split())
    try:
        sys.stderr.write(f"memleak {verb}: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def describe(what: object) -> str:
    """Return the words for an exception, with the file name of an `OSError` in front."""
    if isinstance(what, OSError) and what.strerror:
        return f"{os.fsdecode(what.filename)}: {what.strerror}" if what.filename is not None else what.strerror
    return str(what) or type(what).__name__


def positive(text: str) -> int:
    """Parse an option's value that must be a whole number above zero."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


positive.__name__ = "whole number above 0"  # argparse puts it in "invalid … value"


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the positional TARGET of a reading verb."""
    parser.add_argument("target", metavar="TARGET", help="a pid, a recording, a bundle, or a directory of recordings")


def add_symbol_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where binaries and debug files stand."""
    parser.add_argument("--sysroot", metavar="DIR", help="look for the program's files below DIR")
    parser.add_argument(
        "--debug-dir", metavar="DIR", action="append", default=[], help="also look for debug files in DIR (repeatable)"
    )
    parser.add_argument("--no-cache", action="store_true", help="neither read nor keep names found before")
    parser.add_argument(
        "--debuginfod", action="store_true", help="fetch missing debug information from the servers of $DEBUGINFOD_URLS"
    )


def add_name_options(parser: argparse.ArgumentParser) -> None:
    """Add whether addresses get names, and where these come from."""
    parser.add_argument("--no-symbols", action="store_true", help="addresses only; reads no binaries")
    add_symbol_options(parser)


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Add which frames of stacks are shown, `side`, and where their names come from."""
    side = parser.add_mutually_exclusive_group()
    side.add_argument(
        "--native", action="store_const", dest="side", const="native", default="mixed", help="native frames only"
    )
    side.add_argument("--python", action="store_const", dest="side", const="python", help="Python frames only")
    add_name_options(parser)


def conditions(words: Sequence[str]) -> dict[str, str]:
    """Parse repeated ``--where key=value`` options."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--where {word}: expected KEY=VALUE, for example --where mod_name=mmap")
        found[key] = value
    return found
