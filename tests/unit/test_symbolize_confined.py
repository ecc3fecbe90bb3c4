"""A symbolizer in a child: what one binary does to it costs that binary's names, and the reason is told."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from elfwriter import ElfSymbol, write_elf

from memleak.symbolize import Frame, Symbolizer
from memleak.symbolize.confined import MAX_LOST, ConfinedLines, ConfinedSymbolizer, _packed, _unpacked
from memleak.symbolize.elf import ElfError
from memleak.symbolize.gnulines import BinaryLines

BUILD_ID = b"\x01" * 20


class Fragile(Symbolizer):
    """Does what a hostile binary might make its reader do, by the binary's name."""

    def resolve(self, requests):
        requests = list(requests)
        harm(requests[0][0])
        return super().resolve(requests)


class FragileLines(BinaryLines):
    """The same; the names are right until the first address is asked for."""

    def chains(self, addresses, section=None):
        harm(self._path)
        return super().chains(addresses, section)

    def __init__(self, path, **options):
        self._path = path
        super().__init__(path, **options)


def harm(path: str) -> None:
    import faulthandler

    faulthandler.disable()  # pytest's
    if "crash" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in path:
        time.sleep(600)
    if "large" in path:
        bytearray(64 << 30)
    if "raise" in path:
        raise RuntimeError("what is not expected")


@pytest.fixture
def binary(tmp_path):
    """Write a binary of that name with one function, and return its path."""

    def write(name: str) -> str:
        path = tmp_path / name
        path.write_bytes(write_elf(symbols=[ElfSymbol(f"in_{name}", 0x1000, 0x100)], build_id=BUILD_ID))
        return str(path)

    return write


@pytest.fixture
def confined():
    """A symbolizer that is not robust, in a child."""
    with ConfinedSymbolizer(lambda: Fragile(engine="none"), timeout_s=1.0) as symbolizer:
        yield symbolizer


def test_answers_are_those_of_a_symbolizer(binary):
    requests = [
        (binary("a"), BUILD_ID, 0x1010, False),
        (binary("b"), BUILD_ID.hex(), 0x1000, True),
        (binary("a"), BUILD_ID, 0x1010, False),
        (binary("a"), b"\x02" * 20, 0x1010, False),
        (binary("a") + " (deleted)", None, 0x5000, False),
        ("/no/such/file", None, 1, False),
        ("[vdso]", "", 0x10, False),
        ("", "", 0x10, False),
    ]
    with Symbolizer() as plain, ConfinedSymbolizer() as confined:
        assert confined.resolve(requests) == plain.resolve(requests)
        assert confined.problems() == plain.problems() and len(plain.problems()) == 2
        assert confined.frames(*requests[1]) == plain.frames(*requests[1])
        assert confined.resolve([]) == []


def test_frames_with_lines_are_those_of_a_symbolizer(compiled):
    path = compiled("static int f(int x) { return x * 3; }\nint main(int c, char **v) { return f(c); }\n", "-g", "-O1")
    requests = [(path, None, address, True) for address in range(0x1000, 0x1200)]
    with Symbolizer() as plain, ConfinedSymbolizer() as confined:
        found = confined.resolve(requests)
        assert found == plain.resolve(requests)
        assert any(frame.line for chain in found for frame in chain)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("crash", "the process that read it was killed by SIGSEGV"),
        ("hang", "the process that read it gave no answer in 1 s"),
        ("large", "the process that read it wanted more than 8192 MiB of memory"),
        ("raise", "what is not expected"),
    ],
)
def test_a_binary_that_harms_its_reader_is_given_up_and_no_other(confined, binary, name, why):
    good, bad = binary("good"), binary(name)
    asked = [(bad, BUILD_ID, 0x1010, False), (good, BUILD_ID, 0x1010, False), (bad, BUILD_ID, 0x1020, False)]
    found = confined.resolve(asked)
    assert found[0] == (Frame(None, None, None, False, bad, 0x1010),)
    assert found[1] == (Frame("in_good", None, None, False, good, 0x1010),)
    assert found[2] == (Frame(None, None, None, False, bad, 0x1020),)
    assert confined.problems() == {bad: why}
    # It is not tried again; others still are, in a child that lives.
    assert confined.frames(bad, BUILD_ID, 0x1030)[0].function is None
    assert confined.frames(binary("other"), BUILD_ID, 0x1030)[0].function == "in_other"


def test_after_many_losses_nothing_is_read_any_more(confined, binary):
    for number in range(MAX_LOST):
        confined.frames(binary(f"crash{number}"), BUILD_ID, 0x1010)
    good = binary("good")
    assert confined.frames(good, BUILD_ID, 0x1010) == (Frame(None, None, None, False, good, 0x1010),)
    assert "not read after" in confined.problems()[good]


class Liar:
    """A child that was taken over answers with values of other types."""

    def __init__(self, answer):
        self.answer = answer

    def resolve(self, requests):
        class Odd:
            function, file, line, inlined, discriminator = self.answer

        return [[Odd]]

    def problems(self):
        return {}


@pytest.mark.parametrize(
    "answer",
    [(1, None, None, False, 0), ("f", 7, 3, False, 0), ("f", "x", "3", False, 0), ("f", "x", 3, False, {})],
)
def test_values_of_another_type_are_refused(binary, answer):
    path = binary("a")
    with ConfinedSymbolizer(lambda: Liar(answer)) as confined:
        assert confined.frames(path, BUILD_ID, 0x1010) == (Frame(None, None, None, False, path, 0x1010),)
        assert confined.problems() == {path: "the process that read it gave an answer that is not understood"}


@pytest.mark.parametrize(
    "packed",
    [
        None, [], [[None]], [[None], [[0, 0, 0]]], [[None], [[0, 1, 0, 0]]], [[None], [[-1, 0, 0, 0]]], [[None], [[0, 0, True, 0]]],
        [[None, 1], [[0, 0, 0, 0]]], [[None], [[0, 0, "3", 0]]], [[None], 5], [[None], [[0, 0, 1.5, 0]]], [[["x"]], [[0, 0, 0, 0]]],
    ],
)  # fmt: skip
def test_packed_frames_that_are_none_are_refused(packed):
    with pytest.raises((ValueError, TypeError)):
        _unpacked(packed, 4)


def test_frames_are_unpacked_as_they_were_packed():
    chains = [[("f", "a.c", 3, 0), ("g", None, 0, 7)], [], [(None, None, 0, 0)], [("f", "a.c", 4, 0)]]
    assert _unpacked(json.loads(json.dumps(_packed(chains))), 4) == chains


def test_the_children_end(binary):
    confined = ConfinedSymbolizer()
    confined.frames(binary("a"), BUILD_ID, 0x1010)
    pid = confined._child._pid
    confined.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert confined.frames(binary("b"), BUILD_ID, 0x1010)[0].function == "in_b"  # in a new one
    confined.close()


# ---- addresses of one binary -----------------------------------------------------------------------------


def test_lines_are_those_of_the_binary(binary):
    path = binary("a")
    lines = ConfinedLines(path)
    with BinaryLines(path) as plain:
        asked = [0x1000, 0x1200, 0x1, 2**64 - 1]
        expected = plain.chains(asked)
        assert lines.chains(asked) == expected and expected[0][0].function == "in_a"
        assert lines.chains([0, 0x3FF, 0x400], ".text") == plain.chains([0, 0x3FF, 0x400], ".text")
        assert lines.has_section(".text") and not lines.has_section(".nothing")
        assert [lines.address_of(name) for name in ("in_a", "nothing")] == [0x1000, None]
        assert lines.bits == 64 and lines.problem is None
    lines.close()


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ElfError, match="No such file"):
        ConfinedLines(str(tmp_path / "nothing"))
    text = tmp_path / "text"
    text.write_text("words")
    with pytest.raises(ElfError, match="not an ELF file"):
        ConfinedLines(str(text))


@pytest.mark.parametrize(
    ("name", "why"),
    [("crash", "was killed by SIGSEGV"), ("hang", "gave no answer in 1 s"), ("large", "wanted more than 8192 MiB")],
)
def test_a_reader_of_lines_that_is_lost_has_no_names_and_a_reason(binary, name, why):
    lines = ConfinedLines(binary(name), make=FragileLines, timeout_s=1.0)
    assert lines.address_of(f"in_{name}") == 0x1000
    assert lines.chains([0x1000, 0x1001]) == [[], []]
    assert lines.problem.startswith(f"the process that read it {why}")
    assert lines.chains([0x1000]) == [[]] and lines.address_of("in_crash") is None
    lines.close()
