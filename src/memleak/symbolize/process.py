"""A helper program that answers lines with lines, kept running; killed when it hangs.

Symbolizers and demanglers read untrusted files and names, and each has had endless loops and
gigabytes of output. They run apart from us, with bounded memory, and may be lost at any time.

No thread is used: the reader may run in the traced service, and a single-threaded program
stays single-threaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Callable

MAX_PENDING_BYTES = 16 << 20  # of one answer

# What a helper must not inherit: being traced itself, asking the network, changed output.
_DROPPED_PREFIXES = ("MEMLEAK", "LD_PRELOAD", "LD_AUDIT", "DEBUGINFOD_", "LLVM_SYMBOLIZER_OPTS")


class ToolError(Exception):
    """The helper died, hung or answered nonsense.

    Attributes:
        lines: complete lines it gave before, in order: what comes after them is to blame.
    """

    def __init__(self, reason: str, lines: Sequence[bytes] = ()) -> None:
        super().__init__(reason)
        self.lines = list(lines)


def helper_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for helper programs: ours, without what would change them."""
    source = os.environ if environ is None else environ
    kept = {k: v for k, v in source.items() if not k.startswith(_DROPPED_PREFIXES)}
    kept["LC_ALL"] = "C"
    return kept


def find_program(name: str) -> str | None:
    """Return the path of an installed program, or None."""
    import shutil  # not at the top: it loads four compression libraries

    return shutil.which(name)


class LineServer:
    """One running helper: request lines in, answer lines out.

    Args:
        command: program and arguments.
        timeout_s: longest wait between two answers.
        memory_bytes: address space the helper may use.
    """

    def __init__(self, command: Sequence[str], *, timeout_s: float, memory_bytes: int) -> None:
        import subprocess

        self.name = os.path.basename(command[0])
        self._timeout_s = timeout_s
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=helper_environment(),
                bufsize=0,
                cwd="/",
            )
        except (OSError, ValueError) as error:
            raise ToolError(f"{self.name} cannot be started: {error}") from error
        _limit(self._process.pid, memory_bytes)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def ask(
        self,
        requests: Sequence[bytes],
        *,
        answers: int,
        is_answer: Callable[[bytes], bool] = lambda line: True,
    ) -> list[bytes]:
        """Send lines and collect what comes back until *answers* lines were answers.

        Sends while it reads: both pipes may fill up.

        Args:
            requests: lines without their newline.
            answers: how many lines that satisfy *is_answer* to wait for.
            is_answer: which lines count.

        Raises:
            ToolError: it died, was silent for too long, or sent an endless line. It is killed.
        """
        import selectors

        assert self._process.stdin is not None and self._process.stdout is not None
        unsent = memoryview(b"".join(request + b"\n" for request in requests))
        pending = b""
        lines: list[bytes] = []
        got = 0
        deadline = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if unsent:
                selector.register(self._process.stdin, selectors.EVENT_WRITE)
            while got < answers:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise self._lost(f"gave no answer in {self._timeout_s:g} s", lines)
                for key, _ in ready:
                    if key.fileobj is self._process.stdin:
                        try:
                            unsent = unsent[os.write(key.fd, unsent[: 1 << 16]) :]
                        except BlockingIOError:
                            continue
                        except OSError:
                            unsent = unsent[:0]  # it died; its last words are still to be read
                        if not unsent:
                            selector.unregister(self._process.stdin)
                        continue
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        raise self._lost("ended unexpectedly", lines)
                    *complete, pending = (pending + data).split(b"\n")
                    if len(pending) > MAX_PENDING_BYTES:
                        raise self._lost("sent a line without end", lines)
                    lines += complete
                    new = sum(map(is_answer, complete))
                    if new:
                        got += new
                        deadline = time.monotonic() + self._timeout_s
        return lines

    def _lost(self, what: str, lines: Sequence[bytes]) -> ToolError:
        self.close()
        return ToolError(f"{self.name} {what}", lines)

    def close(self) -> None:
        """Kill the helper and take its exit status. Harmless if it is gone already."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def _limit(pid: int, memory_bytes: int) -> None:
    # From outside, after the start: a preexec_fn is not safe in a threaded program.
    import resource

    for what, limit in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        try:
            _, hard = resource.prlimit(pid, what)
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            resource.prlimit(pid, what, (limit, limit))
        except (OSError, ValueError):
            pass  # it ended already, or a sandbox forbids it: the timeout still holds
