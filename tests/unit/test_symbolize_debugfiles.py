"""Where binaries and debug files are found, and that another build is never taken."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf

from memleak.symbolize import debugfiles
from memleak.symbolize.debugfiles import Binary, build_id_hex, find_binary, path_in_root, same_build

OURS = bytes(range(20))
OTHER = bytes(range(100, 120))
DEBUG_SECTIONS = {".debug_info": b"x", ".debug_line": b"y"}
APP = [ElfSymbol("exported", 0x1000)]
LOCALS = [ElfSymbol("hidden", 0x1100, bind="local")]


def put(path: Path, **options: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_elf(**options))
    return str(path)


@pytest.fixture(autouse=True)
def system_debug_dir(tmp_path, monkeypatch):
    """Stand in for /usr/lib/debug."""
    directory = tmp_path / "usr-lib-debug"
    monkeypatch.setattr(debugfiles, "SYSTEM_DEBUG_DIR", str(directory))
    return directory


def build_id_file(directory: Path, build_id: bytes = OURS) -> Path:
    text = build_id.hex()
    return directory / ".build-id" / text[:2] / f"{text[2:]}.debug"


def test_a_binary_with_debug_information_needs_no_other_file(tmp_path):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP, sections=DEBUG_SECTIONS)
    assert find_binary(app, OURS.hex()) == Binary((app,), app, None)


def test_another_build_is_refused_and_both_builds_are_named(tmp_path):
    app = put(tmp_path / "app", build_id=OTHER, dynamic_symbols=APP)
    found = find_binary(app, OURS.hex())
    assert found.symbol_files == ()
    assert found.problem == f"binary {app} has build-id {OTHER.hex()}, the recording was made with {OURS.hex()}"


def test_a_binary_that_gained_or_lost_its_build_id_is_another_build(tmp_path):
    bare = put(tmp_path / "bare", dynamic_symbols=APP)
    signed = put(tmp_path / "signed", build_id=OURS, dynamic_symbols=APP)
    assert "has no build-id, the recording was made with " + OURS.hex() in find_binary(bare, OURS.hex()).problem
    assert "the recording was made with a build without one" in find_binary(signed, "").problem
    assert find_binary(bare, "").problem is None


def test_without_a_recorded_build_id_the_file_is_taken_as_it_is(tmp_path):
    app = put(tmp_path / "app", build_id=OTHER, dynamic_symbols=APP)
    assert find_binary(app, None) == Binary((app,), None, None)


def test_a_recording_keeps_twenty_bytes_of_a_long_build_id():
    assert same_build((OURS + OTHER).hex(), OURS.hex())
    assert not same_build((OURS + OTHER).hex(), OURS[:8].hex())


def test_build_ids_are_bytes_or_hex():
    assert build_id_hex(OURS) == build_id_hex(OURS.hex().upper()) == OURS.hex()
    assert (build_id_hex(b""), build_id_hex(""), build_id_hex(None)) == ("", "", None)


def test_a_replaced_file_is_looked_for_under_its_own_name(tmp_path):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP)
    assert find_binary(app + " (deleted)", OURS.hex()).symbol_files == (app,)


def test_missing_and_unreadable_files_say_what_was_tried(tmp_path):
    missing = str(tmp_path / "missing")
    found = find_binary(missing, OURS.hex(), sysroot=str(tmp_path / "root"))
    assert found.problem == f"{tmp_path}/root{missing}: No such file or directory; {missing}: No such file or directory"
    text = tmp_path / "text"
    text.write_text("hello")
    assert find_binary(str(text), OURS.hex()).problem == f"{text}: not an ELF file"


def test_a_debug_file_by_build_id_is_found(tmp_path, system_debug_dir):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP)
    debug = put(build_id_file(system_debug_dir), build_id=OURS, symbols=LOCALS, sections=DEBUG_SECTIONS)
    assert find_binary(app, OURS.hex()) == Binary((debug, app), debug, None)


def test_a_given_debug_directory_comes_before_the_systems(tmp_path, system_debug_dir):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP)
    put(build_id_file(system_debug_dir), build_id=OURS, symbols=LOCALS)
    mine = put(build_id_file(tmp_path / "mine"), build_id=OURS, symbols=LOCALS)
    assert find_binary(app, OURS.hex(), debug_dirs=[str(tmp_path / "mine")]).symbol_files == (mine, app)


def test_a_debug_file_of_another_build_is_passed_over(tmp_path, system_debug_dir):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP)
    put(build_id_file(system_debug_dir), build_id=OTHER, symbols=LOCALS, sections=DEBUG_SECTIONS)
    assert find_binary(app, OURS.hex()) == Binary((app,), None, None)


@pytest.mark.parametrize(
    "place", ["app/x.debug", "app/.debug/x.debug", "mine/x.debug", "SYSTEM/x.debug", "MIRROR/x.debug"]
)
def test_a_debug_link_is_followed_to_every_usual_place(tmp_path, system_debug_dir, place):
    place = place.replace("SYSTEM", f"usr-lib-debug{tmp_path}/app").replace("MIRROR", f"mine{tmp_path}/app")
    debug = put(tmp_path / place, symbols=LOCALS, sections=DEBUG_SECTIONS)
    crc = zlib.crc32(Path(debug).read_bytes())
    app = put(tmp_path / "app" / "app", dynamic_symbols=APP, debuglink=("x.debug", crc))
    found = find_binary(app, "", debug_dirs=[str(tmp_path / "mine")])
    assert found == Binary((debug, app), debug, None)


def test_a_linked_file_counts_by_build_id_or_else_by_checksum(tmp_path):
    debug = put(tmp_path / "x.debug", build_id=OURS, symbols=LOCALS)
    same = put(tmp_path / "same", build_id=OURS, dynamic_symbols=APP, debuglink=("x.debug", 1))
    other = put(tmp_path / "other", build_id=OTHER, dynamic_symbols=APP, debuglink=("x.debug", 1))
    unknown = put(tmp_path / "unknown", dynamic_symbols=APP, debuglink=("x.debug", 1))
    assert find_binary(same, None).symbol_files == (debug, same)
    assert find_binary(other, None).symbol_files == (other,)
    assert find_binary(unknown, None).symbol_files == (unknown,)


def test_a_debug_link_to_the_binary_itself_leads_nowhere(tmp_path):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP, debuglink=("app", 1))
    assert find_binary(app, None) == Binary((app,), None, None)


def test_the_debug_file_alone_names_a_program_that_is_gone(tmp_path, system_debug_dir):
    debug = put(build_id_file(system_debug_dir), build_id=OURS, symbols=LOCALS, sections=DEBUG_SECTIONS)
    assert find_binary(str(tmp_path / "gone"), OURS.hex()) == Binary((debug,), debug, None)
    upgraded = put(tmp_path / "upgraded", build_id=OTHER, dynamic_symbols=APP)
    assert find_binary(upgraded, OURS.hex()) == Binary((debug,), debug, None)


def test_a_copy_in_a_debug_directory_counts_only_with_the_recorded_build(tmp_path):
    copy = put(tmp_path / "copies" / "app", build_id=OURS, dynamic_symbols=APP)
    directories = [str(tmp_path / "copies")]
    assert find_binary("/opt/gone/app", OURS.hex(), debug_dirs=directories).symbol_files == (copy,)
    assert find_binary("/opt/gone/app", OTHER.hex(), debug_dirs=directories).symbol_files == ()
    assert find_binary("/opt/gone/app", "", debug_dirs=directories).symbol_files == ()


def test_a_build_id_that_is_a_path_stays_inside(tmp_path, system_debug_dir):
    put(tmp_path / "secret.debug", symbols=LOCALS)
    assert find_binary("/gone", "../../../../secret").symbol_files == ()


def test_the_sysroot_comes_first_and_its_build_decides(tmp_path):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP)
    inside = put(Path(f"{tmp_path}/root{app}"), build_id=OURS, dynamic_symbols=APP)
    assert find_binary(app, OURS.hex(), sysroot=str(tmp_path / "root")).symbol_files == (inside,)
    put(Path(inside), build_id=OTHER, dynamic_symbols=APP)
    assert find_binary(app, OURS.hex(), sysroot=str(tmp_path / "root")).symbol_files == (app,)


def test_links_of_a_container_lead_into_it(tmp_path):
    root = tmp_path / "root"
    (root / "opt" / "v2").mkdir(parents=True)
    (root / "lib").symlink_to("/opt/v2")
    (root / "opt" / "v2" / "libz.so").symlink_to("../../../../etc/libz.so")
    assert path_in_root(str(root), "/lib/liba.so") == f"{root}/opt/v2/liba.so"
    assert path_in_root(str(root), "/lib/libz.so") == f"{root}/etc/libz.so"
    assert path_in_root(str(root), "/../../etc/passwd") == f"{root}/etc/passwd"
    (root / "loop").symlink_to("/loop")
    assert path_in_root(str(root), "/loop").startswith(str(root))


def test_nothing_stays_open(tmp_path, system_debug_dir):
    app = put(tmp_path / "app", build_id=OURS, dynamic_symbols=APP)
    put(build_id_file(system_debug_dir), build_id=OTHER, symbols=LOCALS)
    before = len(os.listdir("/proc/self/fd"))
    find_binary(app, OURS.hex())
    find_binary(app, OTHER.hex())
    assert len(os.listdir("/proc/self/fd")) == before
