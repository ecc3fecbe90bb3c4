"""The command line: ``memleak VERB …`` and ``python -m memleak VERB …``.

One module per verb, imported only when it is the verb asked for. A verb module has one entry,
``main(argv) -> int``. Exit status: 0 fine, 1 error, 2 usage; `run` returns its program's own.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

VERBS = {
    "run": "start a program with tracing on",
    "ps": "list recordings of living and dead processes",
    "top": "show the stacks that hold the most memory",
    "pools": "show the program's own allocators: capacity, fragmentation, what keeps nearly empty regions",
    "mismatches": "show blocks that were freed another way than they were allocated, with both stacks",
    "threads": "show what each thread was last seen at, and under which labels",
    "diff": "show what became of each stack between two recordings: two times, or two versions",
    "verdict": "say which stacks leak, how fast, and when that meets the limit; 3 when one does",
    "postmortem": "say what a process that has ended held, and what it died near",
    "ledger": "say what the resident memory of a process is, and what would give it back",
    "set": "change the sampling of a running process",
    "gauge": "set and list counts of a process's business; memory per unit of them",
    "status": "show one process's knobs, counters and own cost",
    "save": "copy a recording, consistently, to a file",
    "bundle": "pack recordings with the names they need, for a machine without the binaries",
    "sql": "query malloc_sample_info and its companions with SQL",
    "serve": "answer MySQL clients over all recordings of this user",
    "symbolize": "print every stack of a recording with names",
    "addr2line": "print source lines of addresses, as GNU addr2line does, or of tokens of a back_trace",
    "doctor": "say what would stop tracing here, or in one process",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from .. import __version__

        sys.stdout.write(f"memleak {__version__}\n")
        return 0
    verb = words[0]
    if verb not in VERBS:
        sys.stderr.write(f"memleak: there is no verb {verb!r}; memleak --help lists them\n")
        return 2
    from .common import guard

    # A verb makes a million small objects, keeps them and ends: looking for cycles takes 40 % of the time of a large `top`.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return guard(verb, words[1:])
    finally:
        if collecting:
            gc.enable()


def _overview() -> str:
    lines = ["usage: memleak VERB …", "", "An always-on sampling allocation tracer for Linux services.", ""]
    lines += [f"  {verb:<12}{summary}" for verb, summary in VERBS.items()]
    lines += ["", "memleak VERB --help explains one verb. TARGET: a pid, a recording or a bundle, a directory of recordings.", ""]
    return "\n".join(lines)
