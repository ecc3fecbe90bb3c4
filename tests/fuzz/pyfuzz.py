"""Run one of the package's targets as libFuzzer runs one in C: the same words on its command line, the same last line.

Usage: pyfuzz.py TARGET [-max_total_time=S] [-seed=N] [-artifact_prefix=DIRECTORY/] [-runs=0] [CORPUS OR FILE…]
       pyfuzz.py TARGET -merge=1 INTO CORPUS…

With atheris installed it is libFuzzer: what runs new code is kept in the first directory. Without it, inputs are made
of the corpus by chance. An input that breaks the rule of `rule.py` is written to crash-HASH, with status 77.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import importlib.util
import random
import sys
import time
import traceback
from pathlib import Path

CRASHED = 77
FEWEST = 10  # new inputs, however little time there is


def main() -> int:
    """Run the target named first."""
    name, *words = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    flags = dict(word[1:].split("=", 1) for word in words if word.startswith("-"))
    paths = [Path(word) for word in words if not word.startswith("-")]
    if flags.get("merge"):
        return merge(name, paths[0], paths[1:])
    by_atheris = importlib.util.find_spec("atheris") is not None and flags.pop("engine", "") != "random"
    if by_atheris and not all(path.is_file() for path in paths):
        return with_atheris(name, [word for word in words if not word.startswith("-engine")])
    return by_chance(name, flags, paths)


def by_chance(name: str, flags: dict[str, str], paths: list[Path]) -> int:
    """Replay what is given, then go on for the time given with changes to it."""
    import editing
    import pytargets
    import rule

    target = pytargets.TARGETS[name]
    target(b"")  # what is imported late, is now
    faulthandler.dump_traceback_later(float(flags.get("max_total_time", 0)) + 120, exit=True)  # no signal got through
    corpus = [path.read_bytes() for given in paths for path in ([given] if given.is_file() else sorted(given.iterdir()))]
    rng = random.Random(int(flags.get("seed", 1)))
    ends = time.monotonic() + float(flags.get("max_total_time", 0))
    done = 0
    with rule.limited():
        while True:
            replays = done < len(corpus)
            is_over = time.monotonic() >= ends and done >= len(corpus) + FEWEST
            if not replays and (is_over or flags.get("runs") == "0"):
                break
            data = corpus[done] if replays else editing.mutated(rng.choice(corpus or [b""]), corpus, rng)
            try:
                rule.obey(target, data)
            except BaseException:
                traceback.print_exc()
                path = Path(flags.get("artifact_prefix", "") + f"crash-{hashlib.sha1(data).hexdigest()}")
                path.write_bytes(data)
                print(f"{path}: {data.hex()}", file=sys.stderr)
                return CRASHED
            done += 1
    print(f"#{done}\tDONE   corp: {len(corpus)}/{sum(map(len, corpus))}b", file=sys.stderr)
    return 0


def merge(name: str, into: Path, corpora: list[Path]) -> int:
    """Copy the fewest inputs, the short ones first, that run each line of the package that all of them run."""
    import pytargets

    from memleak.errors import MemleakError

    target = pytargets.TARGETS[name]
    target(b"")
    seen: set[tuple[object, int]] = set()
    ran: set[tuple[object, int]] = set()

    def trace(frame, event, _):
        if "/memleak/" not in frame.f_code.co_filename:
            return None
        ran.add((frame.f_code, frame.f_lineno))
        return trace

    for path in sorted((path for corpus in corpora for path in corpus.iterdir()), key=lambda path: path.stat().st_size):
        ran.clear()
        sys.settrace(trace)
        with contextlib.suppress(MemleakError):
            target(path.read_bytes())
        sys.settrace(None)
        if not ran <= seen:
            seen |= ran
            (into / path.name).write_bytes(path.read_bytes())
    return 0


def with_atheris(name: str, words: list[str]) -> int:
    """Let libFuzzer choose the inputs by what they run."""
    import atheris

    with atheris.instrument_imports(include=["memleak", "elftools"]):
        import pytargets
        import rule

        target = pytargets.TARGETS[name]
        target(b"")  # what is imported late, is now
    stack = rule.limited()
    stack.__enter__()
    atheris.Setup([sys.argv[0], "-timeout=60", "-report_slow_units=60", "-rss_limit_mb=0", *words], lambda data: rule.obey(target, data))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
