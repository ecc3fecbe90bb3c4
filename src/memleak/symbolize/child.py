"""A forked copy of this process that works for it, within limits; it may be lost at any time.

What reads files that we do not trust runs there: a crash, gigabytes of memory or an endless loop cost an
answer and not the program. Answers are JSON: a child that was taken over can lie, and no more.

Only for programs without threads, as the command line is: after a fork other threads' locks stay locked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, Callable, NoReturn

MEMORY_BYTES = 8 << 30  # of address space
CPU_S = 600
TIMEOUT_S = 120.0
MAX_ANSWER_BYTES = 256 << 20

_SIZE_BYTES = 8  # a message: its size, then JSON
_OUT_OF_MEMORY = 77  # exit status


class ChildError(Exception):
    """The child died, hung or answered nonsense; the text says which."""


class RemoteError(Exception):
    """The child is well; what was asked for could not be done, as the text says."""


class Child:
    """Makes an object in a child process and calls its methods.

    Args:
        make: makes the object, in the child.
        memory_bytes, cpu_s: what the child may use.
        timeout_s: longest wait for one answer.
    """

    def __init__(
        self,
        make: Callable[[], object],
        *,
        memory_bytes: int = MEMORY_BYTES,
        cpu_s: int = CPU_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._cpu_s = cpu_s
        self._timeout_s = timeout_s
        self._pid = 0
        self._owner = os.getpid()
        try:
            self._start(make)
        except OSError as error:
            raise ChildError(f"no process could be started: {error.strerror}") from error

    def _start(self, make: Callable[[], object]) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._in, self._out = ours_in, ours_out
        try:
            pid = os.fork()
        except OSError:
            for fd in (ours_in, ours_out, theirs_in, theirs_out):
                os.close(fd)
            raise
        if pid == 0:
            try:
                os.close(ours_in)
                os.close(ours_out)
                _serve(make, theirs_in, theirs_out, self._memory_bytes, self._cpu_s)
            finally:
                os._exit(1)
        self._pid = pid
        os.close(theirs_in)
        os.close(theirs_out)
        os.set_blocking(ours_in, False)
        os.set_blocking(ours_out, False)

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what *method* of the object returns; arguments and answer are values of JSON.

        Raises:
            ChildError: there will be no answer, of this call or a later one.
            RemoteError: the method raised an exception.
        """
        if not self._pid:
            raise ChildError("it has ended")
        data = self._exchange(_message([method, *arguments]))
        try:
            good, value = json.loads(data)
        except (ValueError, TypeError, RecursionError):
            raise self._lost("gave an answer that is not understood") from None
        if not good:
            raise RemoteError(str(value))
        return value

    def _exchange(self, request: bytes) -> bytes:
        """Send while reading: both pipes may fill up."""
        import selectors

        unsent = memoryview(request)
        received = bytearray()
        wanted = _SIZE_BYTES
        deadline = time.monotonic() + self._timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._in, selectors.EVENT_READ)
            selector.register(self._out, selectors.EVENT_WRITE)
            while len(received) < wanted:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise self._lost(f"gave no answer in {self._timeout_s:g} s")
                for key, _ in ready:
                    if key.fd == self._out:
                        unsent = unsent[self._send(unsent) :]
                        if not unsent:
                            selector.unregister(self._out)
                        continue
                    data = os.read(self._in, 1 << 20)
                    if not data:
                        raise self._lost("")
                    received += data
                    if wanted == _SIZE_BYTES and len(received) >= _SIZE_BYTES:
                        wanted += int.from_bytes(received[:_SIZE_BYTES], "little")
                    if wanted > MAX_ANSWER_BYTES:
                        raise self._lost("gave an answer without end")
        return bytes(received[_SIZE_BYTES:])

    def _send(self, unsent: memoryview) -> int:
        try:
            return os.write(self._out, unsent[: 1 << 16])
        except BlockingIOError:
            return 0
        except OSError:
            return len(unsent)  # it died; its last words are still to be read

    def _lost(self, what: str) -> ChildError:
        status = self._end(signal.SIGKILL if what else 0)
        return ChildError(what or self._words(status))

    def _words(self, status: int) -> str:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGXCPU:
                return f"took more than {self._cpu_s} s of CPU time"
            known = {one.value: one.name for one in signal.Signals}
            hint = ", as the kernel does when memory runs out" if number == signal.SIGKILL else ""
            return f"was killed by {known.get(number, f'signal {number}')}{hint}"
        if os.WEXITSTATUS(status) == _OUT_OF_MEMORY:
            return f"wanted more than {self._memory_bytes >> 20} MiB of memory"
        return f"ended with status {os.WEXITSTATUS(status)}"

    def close(self) -> None:
        """End the child. Harmless if it is gone already."""
        if self._pid and self._owner == os.getpid():  # in another child it is a copy
            self._end(signal.SIGKILL)

    def __del__(self) -> None:
        self.close()

    def _end(self, how: int) -> int:
        pid, self._pid = self._pid, 0
        os.close(self._in)
        os.close(self._out)
        if how:
            os.kill(pid, how)  # not reaped yet: the number is still its own
        return os.waitpid(pid, 0)[1]


def _serve(make: Callable[[], object], read_fd: int, write_fd: int, memory_bytes: int, cpu_s: int) -> NoReturn:
    """Answer until the other side closes; never return."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit(memory_bytes, cpu_s)
    made: object = None
    try:
        with os.fdopen(read_fd, "rb") as requests, os.fdopen(write_fd, "wb") as answers:
            while True:
                size = requests.read(_SIZE_BYTES)
                if len(size) < _SIZE_BYTES:
                    os._exit(0)
                method, *arguments = json.loads(requests.read(int.from_bytes(size, "little")))
                try:
                    made = make() if made is None else made
                    answer = [True, getattr(made, method)(*arguments)]
                except MemoryError:
                    raise
                except Exception as error:
                    answer = [False, str(error) or type(error).__name__]
                answers.write(_message(answer))
                answers.flush()
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except OSError:
        os._exit(0)  # nobody reads the answer
    finally:
        os._exit(1)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    import resource

    for what, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 5),
    ):
        try:
            most = resource.getrlimit(what)[1]
            if most != resource.RLIM_INFINITY:
                soft, hard = min(soft, most), min(hard, most)
            resource.setrlimit(what, (soft, hard))
        except (OSError, ValueError) as error:
            # Without the limit the parent's clock still holds.
            sys.stderr.write(f"memleak: no limit for reading debug information: {error}\n")


def _message(value: object) -> bytes:
    data = json.dumps(value, separators=(",", ":")).encode("ascii")
    return len(data).to_bytes(_SIZE_BYTES, "little") + data
