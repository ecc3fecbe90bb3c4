"""Source lines by an installed tool: what it says, and what happens when it fails."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from memleak.symbolize import lines
from memleak.symbolize.lines import Addr2line, LlvmSymbolizer, SourceFrame, choose_engine
from memleak.symbolize.process import ToolError


def script(path: Path, body: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport sys, os, time, json\n{body}\n")
    path.chmod(0o755)
    return str(path)


def llvm_answering(tmp_path: Path, answer: object, timeout_s: float = 5.0) -> LlvmSymbolizer:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return LlvmSymbolizer(script(tmp_path / "llvm", f"for line in sys.stdin: print({text!r}, flush=True)"), timeout_s)


def addr2line_printing(tmp_path: Path, text: str, timeout_s: float = 5.0) -> Addr2line:
    body = f"for line in sys.stdin: print(line.strip() + {text!r}, flush=True)"
    return Addr2line(script(tmp_path / "addr2line", body), timeout_s)


def test_llvm_frames_are_read(tmp_path):
    symbols = [
        {"FunctionName": "_Z3geti", "FileName": "/a.h", "Line": 3, "Column": 1},
        {"FunctionName": "", "FileName": "", "Line": 0},
    ]
    engine = llvm_answering(tmp_path, {"Address": "0x1", "Symbol": symbols})
    assert engine.lookup("/bin/app", [1, 2]) == [[SourceFrame("_Z3geti", "/a.h", 3), SourceFrame(None, None, None)]] * 2
    engine.close()


@pytest.mark.parametrize(
    "answer",
    [
        {"Error": {"Message": "no such file"}, "ModuleName": "/bin/app"},
        {"Symbol": [{"FunctionName": "f", "FileName": "crtstuff.c", "Line": 0}]},
        {"Symbol": []},
    ],
)
def test_llvm_answers_without_a_line_are_no_answer(tmp_path, answer):
    engine = llvm_answering(tmp_path, answer)
    assert engine.lookup("/bin/app", [1]) == [[]]
    engine.close()


@pytest.mark.parametrize(
    "answer",
    ["", "??", "[]", "null", '{"Symbol": 3}', '{"Symbol": [1]}', '{"Symbol": [{}]}', "[" * 100_000],
)
def test_llvm_answers_that_make_no_sense_are_a_tool_error_and_end_it(tmp_path, answer):
    engine = llvm_answering(tmp_path, answer)
    with pytest.raises(ToolError, match="not understood"):
        engine.lookup("/bin/app", [1])
    assert engine._server is None


@pytest.mark.parametrize("path", ['/a"b', "/a\nb"])
def test_llvm_is_not_asked_about_paths_its_protocol_cannot_carry(tmp_path, path):
    with pytest.raises(ToolError, match="file of that name"):
        llvm_answering(tmp_path, {}).lookup(path, [1])


def test_llvm_is_one_process_for_all_binaries(tmp_path):
    body = (
        "for line in sys.stdin:\n"
        "    symbol = {'FunctionName': str(os.getpid()), 'FileName': line, 'Line': 1}\n"
        "    print(json.dumps({'Symbol': [symbol]}), flush=True)"
    )
    engine = LlvmSymbolizer(script(tmp_path / "llvm", body), 5.0)
    answers = engine.lookup("/a b", [0x10, 0x20]) + engine.lookup("/c", [0x30])
    assert len({answer[0].function for answer in answers}) == 1
    assert [answer[0].file for answer in answers] == ['CODE "/a b" 0x10\n', 'CODE "/a b" 0x20\n', 'CODE "/c" 0x30\n']
    engine.close()


def test_addr2line_frames_are_read(tmp_path):
    text = "\n_Z3geti\n/src/a.h:3 (discriminator 7)\nmain\n/odd:name/a.c:9\n??\n??:0\nf\na.c:?"
    engine = addr2line_printing(tmp_path, text)
    expected = [
        SourceFrame("_Z3geti", "/src/a.h", 3, 7),
        SourceFrame("main", "/odd:name/a.c", 9),
        SourceFrame(None, None, None),
        SourceFrame("f", "a.c", None),
    ]
    assert engine.lookup("/bin/app", [0x10, 0x10, 0x20]) == [expected] * 3


@pytest.mark.parametrize("text", ["\nmain\n??:0", "\n??\n??:?", "\nmain\na.c:99999999999999999999"])
def test_addr2line_answers_without_a_line_are_no_answer(tmp_path, text):
    assert addr2line_printing(tmp_path, text).lookup("/bin/app", [1]) == [[]]


@pytest.mark.parametrize("text", ["1\nf\na.c:1", "\nodd", "zz\nf\na.c:1"])
def test_addr2line_answers_that_make_no_sense_are_a_tool_error(tmp_path, text):
    with pytest.raises(ToolError):
        addr2line_printing(tmp_path, text, timeout_s=0.5).lookup("/bin/app", [0x10, 0x20])


@pytest.mark.parametrize("engine_class", [LlvmSymbolizer, Addr2line])
def test_a_tool_that_hangs_is_killed(tmp_path, engine_class):
    engine = engine_class(script(tmp_path / "tool", "time.sleep(1000)"), 0.5)
    with pytest.raises(ToolError, match="gave no answer"):
        engine.lookup("/bin/app", [1])


def test_tools_are_chosen_in_order_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [engine.name for engine in choose_engine("auto")._engines] == ["memleak"]
    script(tmp_path / "addr2line", "")
    assert [engine.name for engine in choose_engine("auto")._engines] == ["memleak", "addr2line"]
    assert choose_engine("llvm-symbolizer") is None
    script(tmp_path / "llvm-symbolizer-16", "")
    assert [engine.name for engine in choose_engine("auto")._engines] == ["memleak", "llvm-symbolizer", "addr2line"]
    assert choose_engine("addr2line").name == "addr2line" and choose_engine("memleak").name == "memleak"
    assert choose_engine("none") is None


class Scripted:
    """An engine that says what it was told to, or fails."""

    name = "scripted"

    def __init__(self, answer):
        self.answer, self.closed = answer, 0

    def lookup(self, path, addresses):
        if isinstance(self.answer, ToolError):
            raise self.answer
        return [self.answer] * len(addresses)

    def close(self):
        self.closed += 1


def test_a_tool_is_asked_where_the_first_engine_cannot():
    frames = [SourceFrame("f", "a.c", 1)]
    engines = [Scripted(ToolError("big-endian")), Scripted(frames), Scripted([])]
    assert lines.FirstThatCan(engines).lookup("/bin/app", [1, 2]) == [frames, frames]
    with pytest.raises(ToolError, match="big-endian"):
        lines.FirstThatCan([engines[0], Scripted(ToolError("no"))]).lookup("/bin/app", [1])
    lines.FirstThatCan(engines).close()
    assert [engine.closed for engine in engines] == [1, 1, 1]


def test_a_deep_chain_of_inlined_calls_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_INLINE_DEPTH", 3)
    engine = addr2line_printing(tmp_path, "\nf\na.c:1" * 10)
    assert len(engine.lookup("/bin/app", [1])[0]) == 3


def test_the_installed_addr2line_answers_while_it_runs():
    """The protocol needs addr2line to flush each answer, which GNU's does when it reads a pipe."""
    program = shutil.which("addr2line")
    if program is None:
        pytest.skip("addr2line is not installed")
    assert Addr2line(program, 10.0).lookup("/proc/self/exe", [0x10, 0x20]) == [[], []]
