"""A bundle gives back the recordings and their names; one made to harm is refused in one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import struct
import zipfile
from array import array
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf
from hypothesis import given, settings
from hypothesis import strategies as st
from recordingwriter import RecordingWriter

from memleak import bundle, bundling, query, recording
from memleak.errors import MemleakError, NewerFormatError, RecordingError, TargetError
from memleak.symbolize import Frame, Symbolizer
from memleak.symbolize.answers import AnswerFrame, build

APP, LIBRARY = bytes(range(20)), bytes(range(50, 70))


class Names:
    """A symbolizer that knows what it is given."""

    def __init__(self, known: dict[tuple[str, int], str], problems: dict[str, str] | None = None) -> None:
        self.known = known
        self.found = problems or {}
        self.asked: list[tuple[str, str, int, bool]] = []

    def resolve(self, requests):
        return [self.frames(*request) for request in requests]

    def frames(self, path, build_id, vaddr, exact=False):
        self.asked.append((path, build_id, vaddr, exact))
        name = self.known.get((path, vaddr))
        return (Frame(name, f"{name}.c" if name else None, 7 if name else None, False, path, vaddr),)

    def problems(self):
        return dict(self.found)


def written(pid: int = 4711) -> bytes:
    """A recording of an app and a library: main and one function of each."""
    writer = RecordingWriter(pid=pid, recording_id=pid)
    app = writer.module("/opt/app", build_id=APP, main=True)
    library = writer.module("/opt/lib.so", build_id=LIBRARY)
    row = writer.row([(library, 0x1010), (app, 0x2020), (0, 0x99)], samples=2, bytes=3000)
    writer.live(row, size=3000, weight=2)
    return writer.bytes()


KNOWN = {("/opt/app", 0x2020): "main", ("/opt/lib.so", 0x1010): "leak"}


def make(path: Path, names: Names | None = None, *, pids=(4711,), running=None, **options):
    recordings = [recording.parse(written(pid)) for pid in pids]
    lives = running or [False] * len(recordings)
    return bundling.write(recordings, lives, names or Names(KNOWN), path, made_by="memleak 1", **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.mlz"


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def changed(path: Path, **values: object) -> None:
    """Change entries of the manifest."""
    content = members(path)
    content["manifest.json"] = json.dumps({**json.loads(content["manifest.json"]), **values}).encode()
    pack(path, content)


# ---- what comes back -----------------------------------------------------------------------------------


def test_recordings_and_names_come_back(path):
    modules = make(path, pids=(1, 2), running=[True, False])
    assert [(one.path, one.build_id, one.lines, one.addresses, one.problem) for one in modules] == [
        ("/opt/lib.so", LIBRARY.hex(), True, 1, None),
        ("/opt/app", APP.hex(), True, 1, None),
    ]
    found = bundle.load(path)
    assert [one.raw for one in found.recordings] == [recording.parse(written(pid)).raw for pid in (1, 2)]
    assert found.running == (True, False)
    assert list(found.modules) == modules
    assert found.made_by == "memleak 1"
    snapshot = query.open(path)
    assert snapshot.alive == (False, False)
    assert snapshot.rows()[0].native_trace.startswith("leak (leak.c:7) < main (main.c:7)")


def test_what_the_bundle_lacks_is_asked_for(path):
    make(path, Names({("/opt/app", 0x2020): "main"}))
    behind = Names({("/opt/lib.so", 0x1010): "found now"})
    row = query.open(path, symbolizer=behind).rows()[0]
    assert row.native_trace.startswith("found now (found now.c:7) < main (main.c:7)")
    assert [asked[0] for asked in behind.asked] == ["/opt/lib.so"]


def test_names_of_the_bundle_count_before_those_here(path):
    make(path)
    behind = Names({("/opt/app", 0x2020): "other", ("/opt/lib.so", 0x1010): "other"})
    assert "other" not in query.open(path, symbolizer=behind).rows()[0].native_trace
    assert behind.asked == []


def test_a_symbolizer_that_only_has_frames_will_do(path):
    class OnlyFrames:
        def frames(self, path, build_id, vaddr, exact):
            return (Frame("one by one", None, None, False, path, vaddr),)

    make(path, Names({}))
    assert query.open(path, symbolizer=OnlyFrames()).rows()[0].native_trace.startswith("one by one")


def test_places_of_one_address_in_two_builds_have_their_own_names(path):
    content = written()
    other = content.replace(APP, APP[::-1])
    recordings = [recording.parse(content), recording.parse(other)]

    class ByBuild(Names):
        def frames(self, path, build_id, vaddr, exact=False):
            return (Frame(f"of {build_id[:4]}", None, None, False, path, vaddr),)

    bundling.write(recordings, [False, False], ByBuild({}), path, made_by="x")
    names = bundle.load(path).names()
    assert names.frames("/opt/app", APP.hex(), 0x2020)[0].function == f"of {APP.hex()[:4]}"
    assert names.frames("/opt/app", APP[::-1].hex(), 0x2020)[0].function == f"of {APP[::-1].hex()[:4]}"
    assert names.frames("/opt/app", "00", 0x2020) == ()


def test_a_refused_binary_is_left_out_and_the_reason_kept(path):
    names = Names({("/opt/app", 0x2020): "main"}, {"/opt/lib.so": "has build-id 00, not 32"})
    modules = make(path, names)
    assert [(one.path, one.symbols is None, one.problem) for one in modules] == [
        ("/opt/lib.so", True, "has build-id 00, not 32"),
        ("/opt/app", False, None),
    ]
    snapshot = query.open(path)
    assert snapshot.symbol_problems() == {}
    assert "main (main.c:7)" in snapshot.rows()[0].native_trace
    assert snapshot.symbol_problems() == {"/opt/lib.so": "when it was bundled: has build-id 00, not 32"}
    here = query.open(path, symbolizer=Names({}, {"/opt/lib.so": "not found"}))
    here.rows()
    assert here.symbol_problems()["/opt/lib.so"].endswith("has build-id 00, not 32; now: not found")
    found = query.open(path, symbolizer=Names(KNOWN))
    found.rows()
    assert found.symbol_problems() == {}


def test_real_binaries_are_not_needed_afterwards(tmp_path, path):
    app = tmp_path / "app"
    app.write_bytes(write_elf(symbols=[ElfSymbol("alpha", 0x1000, 0x40)], build_id=APP))
    writer = RecordingWriter()
    module = writer.module(str(app), build_id=APP, main=True)
    writer.live(writer.row([(module, 0x1008)], samples=1, bytes=10), size=10, weight=1)
    with Symbolizer() as symbolizer:
        bundling.write([recording.parse(writer.bytes())], [False], symbolizer, path, made_by="x")
    app.unlink()
    with Symbolizer() as symbolizer:
        assert query.open(path, symbolizer=symbolizer).rows()[0].native_trace == "alpha"
        assert symbolizer.problems() == {}


def test_odd_paths_survive(path):
    writer = RecordingWriter()
    module = writer.module(b"/opt/\xff\n../../x", build_id=APP, main=True)
    writer.live(writer.row([(module, 0x10)], samples=1, bytes=10), size=10, weight=1)
    found = recording.parse(writer.bytes())
    name = found.modules[0].path
    bundling.write([found], [False], Names({(name, 0x10): "odd"}), path, made_by="x")
    assert query.open(path).rows()[0].native_trace.startswith("odd")


def test_a_bundle_is_bundled_again_without_the_binaries(path, tmp_path):
    make(path)
    first = query.open(path)
    again = tmp_path / "again.mlz"
    bundling.write(first.recordings, [False], first.symbolizer, again, made_by="x")
    assert members(again)["symbols/0"] == members(path)["symbols/0"]


# ---- writing -------------------------------------------------------------------------------------------


def test_it_is_private_whole_and_not_replaced_unasked(path):
    make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(TargetError, match="exists already"):
        make(path, pids=(1, 2))
    assert path.read_bytes() == before
    make(path, pids=(1, 2), force=True)
    assert len(bundle.load(path).recordings) == 2
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("force", [True, False])
def test_what_is_no_file_is_not_replaced(path, tmp_path, force):
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(TargetError):
        make(path, force=force)
    assert path.is_symlink() and not path.exists()


def test_what_no_reader_would_take_is_not_written(path, monkeypatch):
    for limit in ("MAX_RECORDINGS_BYTES", "MAX_SYMBOLS_BYTES", "MAX_MEMBERS"):
        with monkeypatch.context() as patched:
            patched.setattr(bundling, limit, 1)
            with pytest.raises(TargetError, match="bundle fewer"):
                make(path)
    assert os.listdir(path.parent) == []


# ---- made to harm --------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    """Return the one line with which a bundle is refused."""
    with pytest.raises(RecordingError) as refused:
        query.open(path).rows()
    assert str(refused.value).count("\n") == 0
    return str(refused.value)


def test_a_later_format_is_refused_with_the_remedy(path):
    make(path)
    changed(path, format=2)
    with pytest.raises(NewerFormatError, match="bundle format 2, this memleak reads up to 1: upgrade memleak"):
        bundle.load(path)


def test_another_zip_archive_is_no_bundle(path):
    pack(path, {"readme.txt": b"hello"})
    assert "neither a recording nor a bundle" in refusal(path)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": "1", "recordings": [], "modules": [], "made_by": "x"}',
        b'{"format": 1, "recordings": [], "modules": [], "made_by": "x"}',
        b'{"format": 1, "recordings": [{"member": 5, "running": false}], "modules": [], "made_by": "x"}',
        b'{"format": 1, "recordings": {"a": 1}, "modules": [], "made_by": "x"}',
        b'{"format": 1, "recordings": [{"member": "r", "running": false}], "modules": [[]], "made_by": "x"}',
        b"\xff\xfe\x00",
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(path, manifest):
    pack(path, {"manifest.json": manifest, "r": written()})
    assert "manifest.json" in refusal(path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "recordings/9.mlrec", "", "a\0b"])
def test_members_are_looked_up_and_are_no_paths(path, name):
    make(path)
    changed(path, recordings=[{"member": name, "running": False}])
    assert "damaged: it has no" in refusal(path)


def test_a_member_named_as_a_path_is_only_a_name(path, tmp_path):
    make(path)
    content = members(path)
    content["../../escaped"] = content.pop("recordings/0.mlrec")
    manifest = json.loads(content["manifest.json"])
    manifest["recordings"][0]["member"] = "../../escaped"
    content["manifest.json"] = json.dumps(manifest).encode()
    pack(path, content)
    before = sorted(tmp_path.rglob("*"))
    assert query.open(path).rows()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_recording_that_is_none_is_refused(path):
    make(path)
    content = members(path)
    content["recordings/0.mlrec"] = b"no recording" * 1000
    pack(path, content)
    assert "recordings/0.mlrec: not a recording" in refusal(path)


def test_a_table_that_is_none_is_refused(path):
    make(path)
    content = members(path)
    content["symbols/1"] = b"no table"
    pack(path, content)
    assert "symbols/1: not a table" in refusal(path)


def test_a_table_with_damage_inside_costs_its_names(path):
    make(path)
    content = members(path)
    parts = build({0x201F: (AnswerFrame("main", None, None, False, 0),)})
    content["symbols/1"] = parts._replace(frames=array("I", [99, 0, 0, 0])).pack()  # there is no name 99
    pack(path, content)
    snapshot = query.open(path)
    assert snapshot.rows()[0].native_trace.startswith("leak (leak.c:7) < 0x2020")
    assert "damaged" in snapshot.symbol_problems()["/opt/app"]


def test_what_unpacks_to_more_than_a_bundle_holds_is_refused(path, monkeypatch):
    make(path)
    for limit in ("MAX_RECORDINGS_BYTES", "MAX_SYMBOLS_BYTES", "MAX_MANIFEST_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(bundle, limit, 100)
            assert "larger than a bundle may hold" in refusal(path)


def test_all_recordings_together_are_bounded(path, monkeypatch):
    make(path, pids=(1, 2, 3))
    size = len(recording.parse(written()).raw)
    monkeypatch.setattr(bundle, "MAX_RECORDINGS_BYTES", 2 * size + 100)
    assert "'recordings/2.mlrec' is larger" in refusal(path)


def test_a_bomb_that_lies_about_its_size_is_refused_before_it_fills_the_memory(path):
    """64 MiB of zeros said to be 10 bytes: no more than those are ever unpacked."""
    make(path)
    content = members(path)
    content["recordings/0.mlrec"] = bytes(64 << 20)
    pack(path, content)
    raw = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = raw.find(b"recordings/0.mlrec") if magic == b"PK\x03\x04" else raw.rfind(b"recordings/0.mlrec")
        start = raw.rfind(magic, 0, place)
        struct.pack_into("<I", raw, start + at, 10)
    path.write_bytes(raw)
    import tracemalloc

    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(path, method):
    make(path)
    pack(path, members(path), method)
    assert "packed in a way that bundles are not" in refusal(path)


def test_an_encrypted_member_is_refused(path):
    make(path)
    raw = bytearray(path.read_bytes())
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    assert "packed in a way that bundles are not" in refusal(path)


def test_a_list_of_more_members_than_a_bundle_has_is_not_read(path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(bundle.MAX_MEMBERS + 1):
            archive.writestr(str(number), b"")
    path.write_bytes(buffer.getvalue())
    assert "more members than a bundle may have" in refusal(path)


def test_a_long_list_in_the_longer_form_is_not_read(path):
    make(path)
    content = path.read_bytes()
    end = content[-22:]
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
    path.write_bytes(content[:-22] + locator + end)
    assert "more members than a bundle may have" in refusal(path)


def test_a_bundle_cut_anywhere_is_refused(path):
    make(path)
    content = path.read_bytes()
    for end in range(4, len(content), 13):
        path.write_bytes(content[:end])
        assert "damaged" in refusal(path)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_mutation_raises_anything_but_our_errors(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutated.mlz"
    make(path, force=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(len(content) - 400, len(content) - 1)))
        value = data.draw(st.one_of(st.sampled_from([b"\xff" * 4, bytes(4)]), st.binary(max_size=6)))
        content[at : at + len(value)] = value
    path.write_bytes(content)
    with contextlib.suppress(MemleakError):
        for row in query.open(path).rows():
            assert row.native_trace is None or "leak (leak.c:7)" in row.native_trace or "lib.so+" in row.native_trace


def test_what_cannot_be_opened_is_no_bundle(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "short").write_bytes(b"PK")
    for place in (tmp_path / "missing", tmp_path, tmp_path / "fifo", tmp_path / "short", "with\0nul"):
        assert not bundle.is_bundle(place)
    with pytest.raises(RecordingError, match="cannot be read"):
        bundle.load(tmp_path / "missing")
