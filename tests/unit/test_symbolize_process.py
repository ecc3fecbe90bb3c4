"""Helper processes answer in order, and die rather than hang us."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from memleak.symbolize.process import LineServer, ToolError, helper_environment


def server(program: str, **options) -> LineServer:
    options = {"timeout_s": 5.0, "memory_bytes": 1 << 30, **options}
    return LineServer([sys.executable, "-u", "-c", "import sys, os, time\n" + program], **options)


ECHO = "for line in sys.stdin: print(line.strip().upper())"


def test_answers_come_in_order_over_several_batches():
    helper = server(ECHO)
    assert helper.ask([b"a", b"b"], answers=2) == [b"A", b"B"]
    assert helper.ask([b"c"], answers=1) == [b"C"]
    assert helper.ask([], answers=0) == []
    helper.close()
    helper.close()


def test_more_than_both_pipes_hold_goes_through():
    helper = server(ECHO)
    requests = [b"x" * 1000] * 3000
    assert helper.ask(requests, answers=3000) == [b"X" * 1000] * 3000
    helper.close()


def test_a_helper_that_hangs_is_killed_and_the_culprit_is_known():
    helper = server("print('one')\ntime.sleep(1000)", timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(ToolError, match=r"gave no answer in 0\.5 s") as raised:
        helper.ask([b"a", b"b"], answers=2)
    assert time.monotonic() - began < 5
    assert raised.value.lines == [b"one"]
    assert helper._process.returncode is not None


def test_a_helper_that_trickles_bytes_but_no_answer_is_killed():
    helper = server("while True: sys.stdout.write('.'); sys.stdout.flush(); time.sleep(0.05)", timeout_s=0.5)
    with pytest.raises(ToolError, match="gave no answer"):
        helper.ask([b"a"], answers=1)


def test_a_helper_that_dies_is_noticed_after_its_last_words():
    helper = server("print('last')\nos._exit(3)")
    with pytest.raises(ToolError, match="ended unexpectedly") as raised:
        helper.ask([b"x" * 100] * 10_000, answers=10_000)
    assert raised.value.lines == [b"last"]


def test_an_endless_line_ends_the_helper(monkeypatch):
    monkeypatch.setattr("memleak.symbolize.process.MAX_PENDING_BYTES", 1 << 20)
    helper = server("while True: sys.stdout.write('x' * 65536)")
    with pytest.raises(ToolError, match="without end"):
        helper.ask([b"a"], answers=1)


def test_memory_of_a_helper_is_bounded():
    helper = server(
        "sys.stdin.readline()\ntry: x = bytearray(1 << 30)\nexcept MemoryError: print('no')", memory_bytes=512 << 20
    )
    assert helper.ask([b"go"], answers=1) == [b"no"]
    helper.close()


def test_a_missing_program_is_a_tool_error():
    with pytest.raises(ToolError, match="cannot be started"):
        LineServer(["/nonexistent/tool"], timeout_s=1, memory_bytes=1 << 30)


def test_helpers_are_not_traced_and_stay_off_the_network():
    environment = helper_environment(
        {
            "PATH": "/bin",
            "LD_PRELOAD": "libmemleak.so",
            "MEMLEAK": "1",
            "MEMLEAK_DIR": "/x",
            "DEBUGINFOD_URLS": "https://x",
            "LC_ALL": "de_DE",
        }
    )
    assert environment == {"PATH": "/bin", "LC_ALL": "C"}


def test_no_thread_and_no_descriptor_is_left():
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # other tests may have left some
    helper = server(ECHO)
    helper.ask([b"a"], answers=1)
    assert threading.active_count() == threads
    helper.close()
    assert len(os.listdir("/proc/self/fd")) == before
