"""Start a program as if we were not there, and wait for it.

The program keeps our descriptors, directory, process group and signal mask, so what a terminal
sends reaches it directly. Signals sent to the launcher alone are passed on; a stop of the program
stops the launcher too, so that a shell's job control sees one job.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

SI_KERNEL = 0x80  # si_code of what a terminal sends to a whole process group

# Everything that can be caught and does not come from a fault of our own.
_KEPT = {"SIGKILL", "SIGSTOP", "SIGCHLD", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGABRT"}
# A launcher that writes into a closed pipe or past a limit must notice itself; terminal output
# from the background stops the launcher only if the terminal says so.
_KEPT |= {"SIGPIPE", "SIGXFSZ", "SIGXCPU", "SIGTTOU", "SIGTTIN"}
FORWARDED = frozenset(number for number in signal.valid_signals() if getattr(number, "name", "") not in _KEPT)


def start(path: str, arguments: list[str], environment: Mapping[bytes, bytes]) -> int:
    """Execute *path* in a child and return its pid.

    From here on the forwarded signals are blocked in the launcher: `wait` takes them one by one.

    Raises:
        OSError: the kernel refused to execute it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    # Python ignores these two at its start, and an ignored signal stays ignored across exec.
    restored = [] if _ignored_by_parent() else [signal.SIGPIPE]
    restored.append(signal.SIGXFSZ)
    try:
        try:
            pid = os.posix_spawn(path, arguments, environment, setsigmask=before, setsigdef=restored)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # No format the kernel knows: a script without a first line, which shells run as theirs.
            words = ["/bin/sh", path, *arguments[1:]]
            pid = os.posix_spawn(words[0], words, environment, setsigmask=before, setsigdef=restored)
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    # Ignored, it would let the kernel throw the program's status away. The program keeps it ignored.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return pid


def wait(pid: int) -> int:
    """Pass signals on until the program ends; return its status as a shell gives it."""
    # Setting SIGCHLD's action in start() threw away one that was pending: a program as quick as that
    # has nothing left to wait for.
    status = _reap(pid)
    if status is not None:
        return status
    while True:
        received = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD})
        if received.si_signo == signal.SIGCHLD:
            status = _reap(pid)
            if status is not None:
                return status
        elif _was_for_us_alone(received, pid):
            _send(pid, received.si_signo)


def start_ticks(pid: int) -> int | None:
    """Return field 22 of ``/proc/PID/stat``, which with the pid names a process."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _reap(pid: int) -> int | None:
    """Collect what happened to the program; None while it lives."""
    while True:
        # As the first process of a container we are also the parent of every orphan.
        try:
            done, status = os.waitpid(-1 if os.getpid() == 1 else pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return 1  # SIGCHLD was ignored when we were started, and the program was too quick
        if done == 0:
            return None
        if done != pid:
            continue
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        if os.WIFSIGNALED(status):
            return 128 + os.WTERMSIG(status)
        if os.WIFSTOPPED(status):
            _stop_with(pid)


def _stop_with(pid: int) -> None:
    """Stop the launcher as its program was stopped; go on with it when we are continued."""
    os.kill(os.getpid(), signal.SIGSTOP)
    # We have been continued. A terminal's SIGCONT went to the whole group; one sent to us did not.
    signal.sigtimedwait({signal.SIGCONT}, 0)
    fields = _stat(pid)
    if fields and fields[0] == b"T":
        _send(pid, signal.SIGCONT)


def _was_for_us_alone(received: signal.struct_siginfo, pid: int) -> bool:
    """Tell a signal sent to the launcher from one that has reached the program as well.

    A terminal sends to the whole group. A program that signals its own group, or its parent, means
    processes it knows of: passing that back would make it signal itself.
    """
    return received.si_code != SI_KERNEL and not _descends(received.si_pid, pid)


def _descends(pid: int, ancestor: int) -> bool:
    for _ in range(64):
        if pid == ancestor:
            return True
        fields = _stat(pid) if pid > 1 else None
        if not fields:
            return False
        pid = int(fields[1])
    return False


def _send(pid: int, number: int) -> None:
    # The pid cannot have been given to another process: we have not reaped it yet.
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        pass  # the program has changed its user


def _stat(pid: int) -> list[bytes]:
    """Return the fields of ``/proc/PID/stat`` from the third on, empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _ignored_by_parent() -> bool:
    """Tell whether SIGPIPE was ignored before Python started: systemd's services run like that."""
    try:
        with open(f"/proc/{os.getppid()}/comm", "rb") as stream:
            if stream.read().strip() != b"systemd":
                return False
        with open(f"/proc/{os.getppid()}/status", "rb") as stream:
            mask = next(line for line in stream if line.startswith(b"SigIgn:"))
        return bool(int(mask.split()[1], 16) >> (signal.SIGPIPE - 1) & 1)
    except (OSError, StopIteration, ValueError):
        return False
