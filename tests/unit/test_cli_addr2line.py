"""`memleak addr2line` beside GNU addr2line: every flag, words of any kind, standard input; tokens of a back_trace."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf
from gnuaddr2line import build, code_addresses, gnu, words
from recordingwriter import RecordingWriter

from memleak import cli
from memleak.cli import gnuwords
from memleak.symbolize import Symbolizer
from memleak.tokens import is_token

FLAGS = ["".join(some) for count in range(7) for some in itertools.combinations("apCfis", count)]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The C++ program, optimised."""
    return build(tmp_path_factory.mktemp("program"), "-g -O2")


@pytest.fixture
def run(capfdbinary):
    """Run the verb and return (status, standard output, standard error)."""

    def one(*argv: str) -> tuple[int, bytes, bytes]:
        status = cli.main(["addr2line", *map(str, argv)])
        out, err = capfdbinary.readouterr()
        return status, out, err

    return one


@pytest.fixture
def feed(tmp_path, monkeypatch, run):
    """Run the verb with standard input."""

    def one(data: bytes, *argv: str) -> tuple[int, bytes, bytes]:
        path = tmp_path / "input"
        path.write_bytes(data)
        with path.open("rb") as stream:
            monkeypatch.setattr("sys.stdin", stream)
            return run(*argv)

    return one


# ---- the format ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", FLAGS)
def test_every_combination_of_flags_is_addr2lines(run, program, flags):
    asked = [*words(code_addresses(program, 120)), "0", "1", "0xffffffffffffffff", "0x101e"]
    options = [f"-{flags}", "-e", str(program)] if flags else ["-e", str(program)]
    assert run("--gnu-compat", *options, *asked) == (0, gnu(*options, *asked), b"")


@pytest.mark.parametrize("flags", ["-pCfe", "-pCfie"])
def test_a_seed_session_needs_no_option(run, program, flags):
    """Whatever has a linker's name, which is nearly all, reads the same without --gnu-compat."""
    asked = words(code_addresses(program, 300))
    ours, theirs = run(flags, program, *asked)[1], gnu(flags, str(program), *asked)
    same = [a == b for a, b in zip(ours.split(b"\n"), theirs.split(b"\n"))]
    assert len(ours.split(b"\n")) == len(theirs.split(b"\n")) and sum(same) > 0.9 * len(same)
    for word in ("main", "_Z11local_classi", "plain_c"):
        assert run(flags, program, word)[1] == gnu(flags, str(program), word)


def test_long_options_are_the_short_ones(run, program):
    asked = words(code_addresses(program, 50))
    exe = f"--exe={program}"
    long = ["--addresses", "--pretty-print", "--demangle", "--functions", "--inlines", "--basenames", exe]
    assert run(*long, *asked)[1] == run("-apCfise", program, *asked)[1] != b""
    assert run("--demangle=none", "-fe", program, *asked)[1] == run("-fe", program, *asked)[1]
    assert run("--demangle=gnu-v3", "-fe", program, *asked)[1] == run("-Cfe", program, *asked)[1]
    assert run(asked[0], "-fe", program, asked[1])[1] == run("-fe", program, *asked[:2])[1]
    assert run("-f", "--demangle", asked[0], "-e", program)[1] == run("-Cfe", program, asked[0])[1]


def test_json_has_all_of_it_a_line_for_each_address(run, program):
    asked = words(code_addresses(program, 200))
    out = run("--json", "-Ce", program, *asked, "0x0")[1].split(b"\n")[:-1]
    answers = [json.loads(line) for line in out]
    assert [answer["address"] for answer in answers] == [f"0x{int(word, 16):016x}" for word in [*asked, "0"]]
    assert answers[-1]["frames"] == []
    text = run("-Cfise", program, *asked)[1].split(b"\n")
    frames = [frame for answer in answers[:-1] for frame in answer["frames"]]
    names = [frame["function"] for frame in frames if frame["function"]]
    assert names == [line.decode() for line in text[::2] if line not in (b"??", b"")]
    assert any(frame["inlined"] for frame in frames) and any(frame["discriminator"] for frame in frames)
    assert all(frame["line"] is None or frame["line"] > 0 for frame in frames)


def test_addresses_of_a_section_are_offsets(run, program):
    asked = ["0", "0x10", "0x123", "0xffffff"]
    for section in (".text", ".init", ".comment"):
        options = ["-apf", "-j", section, "-e", str(program)]
        assert run(*options, *asked)[:2] == (0, gnu(*options, *asked))
    status, out, err = run("-j", ".nothing", "-e", program, "0")
    assert (status, out) == (1, b"") and b"cannot find section .nothing" in err


def test_without_a_binary_it_is_a_out(run, program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("0x1")[0] == 1
    os.symlink(program, tmp_path / "a.out")
    asked = words(code_addresses(program, 5))
    assert run("-f", *asked)[1] == run("-fe", program, *asked)[1]


def test_addresses_of_a_32_bit_file_are_shorter(run, tmp_path):
    path = tmp_path / "small"
    path.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000)], bits=32))
    asked = ["0x1004", "0x1ffffffff", "1"]
    assert run("-ape", path, *asked)[1] == gnu("-ape", str(path), *asked) != b""


@pytest.mark.parametrize("name", ["nothing", "directory", "words"])
def test_a_file_that_is_no_binary_is_one_line_and_status_1(run, tmp_path, name):
    (tmp_path / "directory").mkdir()
    (tmp_path / "words").write_text("words")
    status, out, err = run("-e", tmp_path / name, "0x10")
    assert (status, out) == (1, b"") and err.count(b"\n") == 1 and name.encode() in err


@pytest.mark.parametrize(
    "argv", [["--nothing"], ["-e"], ["--sysroot", "/", "0"], ["-j", ".text", "-r", "x", "0"], ["--demangle=zork", "0"]]
)
def test_what_cannot_be_meant_is_status_2(run, argv):
    assert run(*argv)[0] == 2


# ---- words -----------------------------------------------------------------------------------------------

WORDS = [
    "0x1260", "1260", "0X1260", " 0x1260", "\t12 34", "0x", "0xg", "", " ", "zz", "12zz", "abc", "ABC", "abc+1",
    "abc +1",
    "ffffffffffffffff", "10000000000000000", "0x1ffffffffffffffff", "main", "main+0x10", "main + 16", "main+010",
    "main +0x10 x", "main+", "main+zz", "main+-1", "+5", "+0x1260", "-5", ".text", ".text+0x10", ".bss", "plain_c",
    "local_class(int)", "nothing", "nothing+4",
    "_Z11local_classi+0x4", "program.cc", "stdout@GLIBC_2.2.5", "é", "_init+0x2",
]  # fmt: skip


def test_words_are_understood_as_by_addr2line(feed, program):
    """From standard input, where a word may begin with a dash or a blank."""
    data = "".join(f"{word}\n" for word in WORDS).encode()
    options = ["-apfe", str(program)]
    status, out, err = feed(data, "--gnu-compat", *options)
    theirs = gnu(*options, lines=data)
    assert list(zip(WORDS, out.split(b"\n"))) == list(zip(WORDS, theirs.split(b"\n")))
    assert (status, out, err) == (0, theirs, b"")


def test_words_of_the_command_line_are_not_cut(run, program):
    asked = [word for word in WORDS if not word.startswith("-")] + ["0" * 150 + "1260", "main" + " " * 100 + "+16"]
    assert run("--gnu-compat", "-apfe", program, *asked)[1] == gnu("-apfe", str(program), *asked)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n0x1260",
        b"0x1260\r\n",
        b"0x1260 junk\n",
        b"0" * 98 + b"1\n",
        b"0" * 300 + b"1260\n1\n",
        b" " * 150 + b"12\n",
    ],
)
def test_lines_are_read_as_by_addr2line(feed, program, data):
    assert feed(data, "-ae", str(program))[1] == gnu("-ae", str(program), lines=data)


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [("0x10", 16, 16), ("10", 16, 16), ("10", 0, 10), ("010", 0, 8), ("0x", 0, 0), ("-1", 0, 2**64 - 1), ("09", 0, 0)],
)
def test_numbers_are_read_as_by_strtoul(text, base, value):
    assert gnuwords.number(text, base) == value


# ---- standard input, as it comes -------------------------------------------------------------------------


def test_each_line_is_answered_before_the_next_is_there(program):
    asked = words(code_addresses(program, 5))
    with subprocess.Popen(
        [sys.executable, "-m", "memleak", "addr2line", "-apCfe", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        for word in asked:
            process.stdin.write(f"{word}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().startswith(b"0x%016x: " % int(word, 16))
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_a_reader_that_leaves_ends_it_quietly(program):
    lines = b"".join(b"%#x\n" % address for address in code_addresses(program, 20_000))
    command = f"{sys.executable} -m memleak addr2line -fie {program} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], input=lines, capture_output=True)
    assert done.stderr == b"" and done.stdout.count(b"\n") == 1


# ---- tokens of a back_trace ------------------------------------------------------------------------------

SOURCE = """
int other(int);
__attribute__((noinline)) int deep(int x)
{
	int y = other(x);
	__asm__ volatile("nop");
	return y + 1;
}
__attribute__((noinline)) int middle(int x)
{
	int y = deep(x);
	__asm__ volatile("nop");
	return y + 2;
}
int main(int argc, char **argv) { return middle(argc) + 3; }
"""
LIBRARY = "int unused(int x) { return x; }\n__attribute__((noinline)) int other(int x)\n{\n\treturn unused(x) * 2;\n}\n"


@pytest.fixture(scope="module")
def binaries(tmp_path_factory):
    """A program and its library."""
    home = tmp_path_factory.mktemp("binaries")
    (home / "app.c").write_text(SOURCE)
    (home / "lib.c").write_text(LIBRARY)
    library = home / "libother.so.1"
    subprocess.run(["gcc", "-g", "-O1", "-shared", "-fPIC", "-o", str(library), str(home / "lib.c")], check=True)
    subprocess.run(["gcc", "-g", "-O1", "-o", str(home / "app"), str(home / "app.c"), str(library)], check=True)
    return home


def symbol(path: Path, name: str) -> int:
    """Return the address of a symbol, as nm says."""
    lines = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout.split("\n")
    return next(int(line.split()[0], 16) for line in lines if line.endswith(f" {name}"))


def calls(path: Path, function: str) -> int:
    """Return the address behind the first call in a function: what a back_trace has."""
    command = ["objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    at = next(number for number, line in enumerate(lines) if "\tcall" in line)
    return int(lines[at + 1].split(":")[0], 16)


def build_id(path: Path) -> bytes:
    from memleak.symbolize.elf import open_elf

    with open_elf(str(path)) as image:
        return bytes.fromhex(image.build_id)


class Case:
    """A recording of the two, and the column that its row has."""

    def __init__(self, home: Path, *, other_build: bool = False) -> None:
        self.app, self.library = home / "app", home / "libother.so.1"
        self.stack = [symbol(self.library, "other") + 1, calls(self.app, "deep"), calls(self.app, "middle")]
        writer = RecordingWriter()
        app = writer.module(str(self.app), build_id=b"\x77" * 20 if other_build else build_id(self.app), main=True)
        library = writer.module(str(self.library), build_id=build_id(self.library))
        frames = [(library, self.stack[0]), (app, self.stack[1]), (app, self.stack[2])]
        row = writer.row(frames, samples=1, bytes=100)
        writer.live(row, size=100)
        self.recording = home / "recording.mlrec"
        self.recording.write_bytes(writer.bytes())
        tokens = [f"libother.so.1+{self.stack[0]:#x}", *(f"{address:#x}" for address in self.stack[1:])]
        self.tokens = tokens
        self.column = " ".join([*tokens, *["0x0"] * 13])
        paths = [str(self.library), str(self.app), str(self.app)]
        with Symbolizer() as symbolizer:
            self.frames = symbolizer.resolve([(path, None, at, False) for path, at in zip(paths, self.stack)])
            exactly = symbolizer.resolve([(path, None, at, True) for path, at in zip(paths, self.stack)])
        assert [chain[0].function for chain in self.frames] == ["other", "deep", "middle"]
        # Return addresses: the code of the line after the call is there.
        assert [b[0].line - a[0].line for a, b in zip(self.frames[1:], exactly[1:])] == [1, 1], exactly

    def text(self, *, addresses: bool = False) -> bytes:
        """What -pf prints."""
        lines = [
            (f"{token}: " if addresses else "") + f"{chain[0].function} at {chain[0].file}:{chain[0].line}\n"
            for token, chain in zip(self.tokens, self.frames)
        ]
        return "".join(lines).encode()


@pytest.fixture
def case(binaries):
    return Case(binaries)


def test_a_column_as_sql_prints_it_is_understood(run, case, capfdbinary):
    query = "SELECT back_trace FROM malloc_sample_info"
    assert cli.main(["sql", str(case.recording), query, "--csv", "--no-symbols"]) == 0
    column = capfdbinary.readouterr().out.decode().split("\n")[1]
    assert column == case.column
    assert run("-r", case.recording, "-pf", column) == (0, case.text(), b"")
    assert run("--recording", case.recording, "-pfa", *column.split(" ")) == (0, case.text(addresses=True), b"")


@pytest.mark.parametrize("form", ["{}", '"{}"', "  {}  \n", "| {} |"])
@pytest.mark.parametrize("between", [" ", ", ", ",", "\t", "\n", ";"])
def test_a_column_may_be_pasted_in_any_form(run, feed, case, form, between):
    text = form.format(case.column.replace(" ", between))
    assert run("-pfr", case.recording, text) == (0, case.text(), b"")
    assert feed(text.encode(), "-pfr", case.recording) == (0, case.text(), b"")


def test_several_binaries_answer_tokens_too(run, case):
    given = ["-e", case.app, "-e", case.library]
    assert run("-pf", *given, case.column) == (0, case.text(), b"")
    assert run("-pf", *given, *case.tokens) == (0, case.text(), b"")
    link = case.app.parent / "libother.so"
    link.unlink(missing_ok=True)
    link.symlink_to(case.library.name)
    assert run("-pf", "-e", case.app, "-e", link, case.column) == (0, case.text(), b"")
    status, out, err = run("-pf", *given, "libz.so+0x10")
    assert (status, out) == (1, b"?? at libz.so+0x10\n") and b"libz.so is none of the binaries" in err


def test_one_binary_answers_its_own_tokens(run, case):
    """A plain address is looked up as it is given, a token of a back_trace before the call returns."""
    own = f"{case.app} +{case.stack[1]:#x}".replace(" ", "")
    in_column = run("-pf", "-e", case.app, case.column)[1].split(b"\n")
    assert in_column[1:3] == case.text().split(b"\n")[1:3]
    assert in_column[0] == b"?? at " + case.tokens[0].encode()  # of a library that is not given
    assert run("-pf", "-e", case.app, os.path.basename(own))[1] == case.text().split(b"\n")[1] + b"\n"
    assert run("-pf", "-e", case.library, case.tokens[0])[1] == case.text().split(b"\n")[0] + b"\n"
    exact = [f"{case.stack[1]:#x}", "0x0", "0x1"]
    assert run("-pf", "-e", case.app, *exact)[1] == gnu("-pfe", str(case.app), *exact)
    assert run("--gnu-compat", "-pf", "-e", case.app, case.column)[1] == gnu("-pfe", str(case.app), case.column)


def test_a_binary_of_another_build_is_refused_and_not_guessed_at(run, binaries):
    case = Case(binaries, other_build=True)
    status, out, err = run("-pfr", case.recording, case.column)
    lines = out.decode().split("\n")
    assert status == 1
    assert lines[0] == case.text().decode().split("\n")[0]
    assert lines[1:3] == [f"?? at app+{address:#x}" for address in case.stack[1:]]
    assert b"the recording was made with " + b"77" * 20 in err


def test_what_the_recording_does_not_have_is_told(run, case):
    status, out, err = run("-pfr", case.recording, "libz.so+0x10", "zork", *case.tokens)
    assert status == 1
    assert out == b"?? at libz.so+0x10\n?? at zork\n" + case.text()
    assert err.count(b"\n") == 2 and b"no module libz.so" in err and b"'zork' is no token" in err
    assert run("-r", case.recording.parent / "nothing", "0x1")[0] == 1


def test_a_token_without_file_has_its_place(run, tmp_path):
    path = tmp_path / "libbare.so"
    path.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000, 0x10)], build_id=b"\x01" * 20))
    writer = RecordingWriter()
    module = writer.module(str(path), build_id=b"\x01" * 20)
    writer.live(writer.row([(module, 0x1008), (module, 0x1100)], samples=1, bytes=1), size=1)
    (tmp_path / "r.mlrec").write_bytes(writer.bytes())
    tokens = ["libbare.so+0x1008", "libbare.so+0x1100", "libbare.so+0x1004"]
    expected = b"f at libbare.so+0x1008\n?? at libbare.so+0x1100\nf at libbare.so+0x1004\n"
    assert run("-pfr", tmp_path / "r.mlrec", *tokens) == (0, expected, b"")
    assert run("-r", tmp_path / "r.mlrec", *tokens)[1] == "".join(f"{token}\n" for token in tokens).encode()


@pytest.mark.parametrize(
    ("word", "is_one"), [("0x12", True), ("a.so+0x12", True), ("12", False), ("a+12", False), ("0x", False)]
)
def test_tokens_read_like_tokens(word, is_one):
    assert is_token(word) == is_one
