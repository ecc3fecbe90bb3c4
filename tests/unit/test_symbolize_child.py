"""A child process that works for us: its limits, its ends, and what is said of them."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from memleak.symbolize import child as child_module
from memleak.symbolize.child import Child, ChildError, RemoteError


class Worker:
    """What the tests make a child do."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def echo(self, value: object) -> object:
        return value

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise ValueError("no such thing")

    def end(self, signal_number: int) -> None:
        faulthandler.disable()  # pytest's
        os.kill(os.getpid(), signal_number)

    def leave(self) -> None:
        os._exit(3)

    def take_memory(self) -> int:
        return len(bytearray(4 << 30))

    def spin(self) -> None:
        while True:
            pass

    def sleep(self) -> None:
        time.sleep(600)

    def limits(self) -> list[list[int]]:
        kinds = (resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_CPU)
        return [list(resource.getrlimit(kind)) for kind in kinds]

    def babble(self, kind: str) -> None:
        """Write to the pipe itself: a child that was taken over may say anything."""
        fd = sys._getframe(1).f_locals["write_fd"]
        data = {
            "no json": (3).to_bytes(8, "little") + b"{,}",
            "no answer": (2).to_bytes(8, "little") + b"17",
            "deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
            "endless": (1 << 62).to_bytes(8, "little") + b"x",
        }[kind]
        os.write(fd, data)
        time.sleep(600)


@pytest.fixture
def start():
    """Start children that end with the test."""
    children: list[Child] = []

    def one(**limits) -> Child:
        children.append(Child(Worker, **limits))
        return children[-1]

    yield one
    for each in children:
        each.close()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


def test_the_object_lives_in_another_process_from_call_to_call(start):
    child = start()
    assert [child.call("count") for _ in range(3)] == [1, 2, 3]
    pid = child.call("pid")
    assert pid != os.getpid() and is_running(pid)
    child.close()
    assert not is_running(pid)
    child.close()
    with pytest.raises(ChildError, match="has ended"):
        child.call("count")


@pytest.mark.parametrize("value", [None, 2**64 - 1, "x" * 3_000_000, ["\udcff/file", "é\n\0"], {"a": [1, [2]]}])
def test_values_arrive_as_they_were_sent(start, value):
    assert start().call("echo", value) == value


def test_a_child_that_nobody_holds_ends(start):
    child, other = Child(Worker), start()
    pid = child.call("pid")
    del child
    gc.collect()
    assert not is_running(pid)
    assert other.call("count") == 1


def test_a_child_leaves_the_other_ones_alone(start):
    """It has a copy of all that its parent has."""
    first = start()
    pid = first.call("pid")

    class Closing(Worker):
        def close_other(self) -> None:
            first.close()

    second = Child(Closing)
    second.call("close_other")
    second.close()
    assert first.call("pid") == pid


def test_an_exception_is_told_and_the_child_goes_on(start):
    child = start()
    with pytest.raises(RemoteError, match="no such thing"):
        child.call("fail")
    with pytest.raises(RemoteError, match="nothing_of_this_name"):
        child.call("nothing_of_this_name")
    assert child.call("count") == 1


def test_what_cannot_be_made_is_told_at_the_first_call():
    def make():
        raise OSError("not there")

    child = Child(make)
    with pytest.raises(RemoteError, match="not there"):
        child.call("count")
    child.close()


@pytest.mark.parametrize(
    ("call", "limits", "words"),
    [
        (("end", signal.SIGSEGV), {}, "was killed by SIGSEGV"),
        (("end", signal.SIGABRT), {}, "was killed by SIGABRT"),
        (("end", signal.SIGKILL), {}, "was killed by SIGKILL, as the kernel does when memory runs out"),
        (("leave",), {}, "ended with status 3"),
        (("take_memory",), {"memory_bytes": 2 << 30}, "wanted more than 2048 MiB of memory"),
        (("spin",), {"cpu_s": 1}, "took more than 1 s of CPU time"),
        (("sleep",), {"timeout_s": 0.2}, "gave no answer in 0.2 s"),
        (("babble", "no json"), {}, "gave an answer that is not understood"),
        (("babble", "no answer"), {}, "gave an answer that is not understood"),
        (("babble", "deep"), {}, "gave an answer that is not understood"),
        (("babble", "endless"), {}, "gave an answer without end"),
    ],
)
def test_a_lost_child_is_reaped_and_the_reason_told(start, call, limits, words):
    child = start(**limits)
    pid = child.call("pid")
    with pytest.raises(ChildError, match=words):
        child.call(*call)
    assert not is_running(pid)
    with pytest.raises(ChildError, match="has ended"):
        child.call("count")


def test_the_child_dumps_no_core_and_keeps_a_lower_limit_that_was_there(start):
    memory, core, cpu = start(memory_bytes=3 << 30, cpu_s=100).call("limits")
    assert memory == [3 << 30, 3 << 30] and core == [0, 0] and cpu == [100, 105]

    def lower() -> Worker:
        return Worker()

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
            child = Child(lower, memory_bytes=3 << 30)
            os.write(writer, json.dumps(child.call("limits")).encode())
            child.close()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert json.loads(answer.read())[0] == [2 << 30, 2 << 30]
    os.waitpid(pid, 0)


def test_the_child_ends_with_its_parent():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(Child(Worker).call("pid")).encode())
            os.close(writer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        grandchild = int(answer.read())  # ends when the grandchild, too, has closed the pipe
    os.waitpid(pid, 0)
    for _ in range(1000):
        if not is_running(grandchild) or "\nState:\tZ" in Path(f"/proc/{grandchild}/status").read_text():
            return
        time.sleep(0.01)
    pytest.fail("it is still there")


def test_a_process_that_cannot_be_started_is_told(monkeypatch):
    before = os.listdir("/proc/self/fd")

    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(child_module.os, "fork", no_fork)
    with pytest.raises(ChildError, match="temporarily unavailable"):
        Child(Worker)
    assert len(os.listdir("/proc/self/fd")) == len(before)
