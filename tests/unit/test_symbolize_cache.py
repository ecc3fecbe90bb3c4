"""The cache gives what was stored or nothing: whatever happens to its files, and whoever writes them at once."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memleak.symbolize import cache as cache_module
from memleak.symbolize import sealed as sealed_module
from memleak.symbolize.answers import AnswerFrame, build
from memleak.symbolize.cache import ANSWERS, Key, SymbolCache, directory
from memleak.symbolize.sealed import BLOCK_BYTES, Sealed, SealError, seal

KEY = Key("ab" * 20, b"made from this")
OTHERS = [KEY._replace(made_from=b"and from that"), KEY._replace(build="cd" * 20)]


def answer(number: int) -> tuple[AnswerFrame, ...]:
    return (AnswerFrame(f"function {number}", "a.c", number + 1, False, 0),)


def found(cache: SymbolCache, key: Key, *addresses: int) -> list[object]:
    stored = cache.answers(key)
    if stored is None:
        return [None] * len(addresses)
    with contextlib.closing(stored):
        return [stored.find(address) for address in addresses]


def files(cache: SymbolCache) -> list[Path]:
    return sorted(Path(cache.place).iterdir())


@pytest.fixture
def cache(tmp_path):
    return SymbolCache(str(tmp_path / "deep/memleak/symbols"))


# ---- what is stored is found ---------------------------------------------------------------------------


def test_answers_are_found_by_another_process_and_no_others(cache):
    assert found(cache, KEY, 1) == [None]
    assert cache.add_answers(KEY, {1: answer(1), 2: answer(2)})
    again = SymbolCache(cache.place)
    assert found(again, KEY, 1, 2, 3) == [answer(1), answer(2), None]
    for other in OTHERS:
        assert found(again, other, 1) == [None]


def test_answers_are_added_to_those_that_are_there(cache):
    for number in range(5):
        assert cache.add_answers(KEY, {number: answer(number), 100: answer(number)})
    assert found(cache, KEY, *range(5), 100) == [*(answer(number) for number in range(5)), answer(4)]
    assert len(files(cache)) == 1


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3 * BLOCK_BYTES))
def test_blobs_come_back(tmp_path_factory, data):
    cache = SymbolCache(str(tmp_path_factory.getbasetemp() / "blobs"))
    assert cache.store_blob(KEY, "units", data)
    assert cache.load_blob(KEY, "units") == data
    assert cache.load_blob(KEY, "others") is None


def test_kinds_and_keys_do_not_mix(cache):
    assert cache.store_blob(KEY, "units", b"of this build")
    assert cache.add_answers(KEY, {1: answer(1)})
    assert cache.store_blob(OTHERS[0], "units", b"of that")
    assert cache.load_blob(KEY, "units") == b"of this build"
    assert cache.load_blob(OTHERS[0], "units") == b"of that"
    assert cache.load_blob(OTHERS[1], "units") is None
    assert found(cache, KEY, 1) == [answer(1)]


def test_keys_that_share_a_file_name_do_not_answer_for_each_other(cache, monkeypatch):
    monkeypatch.setattr(cache_module, "_name", lambda key, kind: "same.mlsym")
    assert cache.store_blob(KEY, "units", b"of this build")
    for other in OTHERS:
        assert cache.load_blob(other, "units") is None
    assert cache.load_blob(KEY, "other") is None
    assert cache.load_blob(KEY, "units") == b"of this build"


def test_an_open_table_stays_as_it_was_when_another_takes_its_place(cache):
    cache.add_answers(KEY, {number: answer(number) for number in range(3000)})
    stored = cache.answers(KEY)
    cache.store_blob(KEY, ANSWERS, build({5: answer(99)}).pack())
    with contextlib.closing(stored):
        assert [stored.find(number) for number in (5, 2900)] == [answer(5), answer(2900)]
    assert found(cache, KEY, 5, 2900) == [answer(99), None]


# ---- where, and whose --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/u"}, "/home/u/.cache/memleak/symbols"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "/var/c"}, "/var/c/memleak/symbols"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "relative"}, "/home/u/.cache/memleak/symbols"),
        ({"HOME": "/home/u", "XDG_CACHE_HOME": "/var/c", "MEMLEAK_SYMBOL_CACHE": "/own"}, "/own"),
        ({"HOME": "/home/u", "MEMLEAK_SYMBOL_CACHE": "off"}, None),
        ({"HOME": "/home/u", "MEMLEAK_SYMBOL_CACHE": ""}, None),
        ({}, None),
        ({"HOME": ""}, None),
    ],
)
def test_where_it_is(environ, expected):
    assert directory(environ) == expected


@pytest.mark.parametrize("umask", [0, 0o077])
def test_files_are_private_under_any_umask(cache, tmp_path, umask):
    old = os.umask(umask)
    try:
        cache.add_answers(KEY, {1: answer(1)})
    finally:
        os.umask(old)
    assert [stat.S_IMODE(path.stat().st_mode) for path in files(cache)] == [0o600]
    for made in (tmp_path / "deep", tmp_path / "deep/memleak", Path(cache.place)):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_may_write_is_not_used(cache, mode):
    cache.add_answers(KEY, {1: answer(1)})
    os.chmod(cache.place, mode)
    assert found(cache, KEY, 1) == [None]
    assert not cache.add_answers(OTHERS[0], {1: answer(1)})
    assert len(files(cache)) == 1


def test_a_link_to_a_directory_is_not_used(cache, tmp_path):
    cache.add_answers(KEY, {1: answer(1)})
    link = tmp_path / "link"
    link.symlink_to(cache.place)
    assert found(SymbolCache(str(link)), KEY, 1) == [None]
    assert not SymbolCache(str(link)).add_answers(KEY, {2: answer(2)})


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "writable", "device"])
def test_what_is_no_file_of_ours_is_not_read(cache, tmp_path, kind):
    cache.add_answers(KEY, {1: answer(1)})
    (path,) = files(cache)
    if kind == "writable":
        path.chmod(0o622)
    else:
        kept = tmp_path / "kept"
        path.rename(kept)
        if kind == "link":
            path.symlink_to(kept)
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
    assert found(cache, KEY, 1) == [None]
    assert cache.add_answers(KEY, {2: answer(2)}) == (kind != "directory")
    assert found(cache, KEY, 1, 2) == [None, None if kind == "directory" else answer(2)]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_files_of_another_user_are_not_read(cache):
    cache.add_answers(KEY, {1: answer(1)})
    (path,) = files(cache)
    os.chown(path, 12345, -1)
    assert found(cache, KEY, 1) == [None]
    os.chown(path, 0, -1)
    os.chown(cache.place, 12345, -1)
    assert found(cache, KEY, 1) == [None]
    assert not cache.add_answers(KEY, {1: answer(1)})


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give directories away")
def test_nothing_is_made_in_the_home_of_another_user(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, -1)
    assert not SymbolCache(directory({"HOME": str(home)})).add_answers(KEY, {1: answer(1)})
    assert os.listdir(home) == []


def test_where_nothing_can_be_written_nothing_is_stored(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file/below", "/proc/nowhere", "with\0nul"):
        cache = SymbolCache(str(place))
        assert not cache.add_answers(KEY, {1: answer(1)})
        assert not cache.store_blob(KEY, "units", b"x")
        assert found(cache, KEY, 1) == [None]


def test_a_file_that_cannot_be_completed_leaves_nothing_behind(cache):
    cache.add_answers(KEY, {1: answer(1)})
    before = files(cache)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        assert not cache.store_blob(KEY, ANSWERS, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert files(cache) == before
    assert found(cache, KEY, 1) == [answer(1)]


# ---- damage ------------------------------------------------------------------------------------------


def test_no_change_of_a_byte_gives_another_answer(cache):
    cache.add_answers(KEY, {number: answer(number) for number in range(4)})
    (path,) = files(cache)
    sound = path.read_bytes()
    for at in range(len(sound)):
        damaged = bytearray(sound)
        damaged[at] ^= 0x41
        path.write_bytes(damaged)
        assert found(cache, KEY, 2) in ([None], [answer(2)]), at
        assert found(cache, KEY, 9) == [None], at


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_mutation_does_either(tmp_path_factory, data):
    cache = SymbolCache(str(tmp_path_factory.getbasetemp() / "mutated"))
    cache.store_blob(KEY, ANSWERS, build({number: answer(number) for number in range(900)}).pack())
    (path,) = files(cache)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 200), st.integers(0, len(content) - 1)))
        value = data.draw(st.one_of(st.sampled_from([b"\xff" * 8, bytes(8)]), st.binary(max_size=8)))
        content[at : at + len(value)] = value
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path.write_bytes(content[:end])
    for number in (0, 450, 899):
        assert found(cache, KEY, number) in ([None], [answer(number)])


def test_a_damaged_file_is_replaced(cache):
    cache.add_answers(KEY, {1: answer(1)})
    (path,) = files(cache)
    for content in (b"", b"garbage" * 100, path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(content)
        assert found(cache, KEY, 1) == [None]
        assert cache.add_answers(KEY, {2: answer(2)})
        assert found(cache, KEY, 1, 2) == [None, answer(2)]


def test_damage_in_a_part_that_was_not_read_is_no_reason_to_refuse_the_rest(cache):
    cache.add_answers(KEY, {number: answer(number) for number in range(20_000)})
    (path,) = files(cache)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last name
    path.write_bytes(content)
    assert found(cache, KEY, 0, 19_999) == [answer(0), None]


@pytest.mark.parametrize("module", [sealed_module, cache_module.build.__globals__])
def test_another_version_is_passed_over_and_replaced(cache, monkeypatch, module):
    with monkeypatch.context() as patched:
        if isinstance(module, dict):
            patched.setitem(module, "VERSION", 77)
        else:
            patched.setattr(module, "VERSION", 77)
        cache.add_answers(KEY, {1: answer(1)})
        assert found(cache, KEY, 1) == [answer(1)]
    assert found(cache, KEY, 1) == [None]
    assert cache.add_answers(KEY, {2: answer(2)})
    assert found(cache, KEY, 1, 2) == [None, answer(2)]
    assert len(files(cache)) == 1


def test_a_sealed_body_is_read_from_anywhere(tmp_path):
    body = os.urandom(3 * BLOCK_BYTES + 100)
    path = tmp_path / "sealed"
    path.write_bytes(b"".join(seal(b"key", body)))
    with contextlib.closing(Sealed(os.open(path, os.O_RDONLY), b"key")) as sealed:
        assert sealed.size == len(body)
        for start in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7, len(body) - 1):
            for count in (0, 1, 2, BLOCK_BYTES, 2 * BLOCK_BYTES):
                if start + count <= len(body):
                    assert sealed.read(start, count) == body[start : start + count]
        for start, count in ((-1, 2), (0, len(body) + 1), (len(body), 1), (5, -1)):
            with pytest.raises(SealError):
                sealed.read(start, count)
    with pytest.raises(SealError, match="another key"):
        Sealed(os.open(path, os.O_RDONLY), b"yek")


def test_files_that_are_refused_are_closed(cache):
    cache.add_answers(KEY, {1: answer(1)})
    (path,) = files(cache)
    path.write_bytes(path.read_bytes()[:-1])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert cache.answers(KEY) is None
        assert cache.load_blob(KEY, "units") is None
    assert len(os.listdir("/proc/self/fd")) == before


# ---- how much ----------------------------------------------------------------------------------------


def total(cache: SymbolCache) -> int:
    return sum(path.stat().st_size for path in files(cache))


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache = SymbolCache(str(tmp_path / "c"), max_bytes=100_000)
    keys = [Key(f"{number:040x}", b"") for number in range(8)]
    for number, key in enumerate(keys):
        assert cache.store_blob(key, "units", os.urandom(20_000))
        os.utime(sorted(files(cache), key=os.path.getmtime)[-1], (number, number))
        if number == 3:  # four are there; the first is used
            assert cache.load_blob(keys[0], "units")
        assert total(cache) <= 100_000
    assert cache.load_blob(keys[0], "units")
    assert [cache.load_blob(key, "units") is None for key in keys[1:]] == [True, True, True, True, False, False, False]


def test_one_file_has_its_share_at_most(tmp_path):
    cache = SymbolCache(str(tmp_path / "c"), max_bytes=100_000)
    assert not cache.store_blob(KEY, "units", bytes(25_000))
    assert cache.store_blob(KEY, "units", bytes(24_000))
    few = {number: answer(number) for number in range(200)}
    assert cache.add_answers(KEY, few)
    assert not cache.add_answers(KEY, {number: answer(number) for number in range(1000, 3000)})
    assert found(cache, KEY, 7) == [answer(7)]
    more = {number: answer(number) for number in range(300, 600)}
    assert cache.add_answers(KEY, more)  # together they are too many: the new ones stay
    assert found(cache, KEY, 7, 400) == [None, answer(400)]


def test_only_files_of_the_cache_are_removed(tmp_path):
    place = tmp_path / "c"
    place.mkdir(0o700)
    (place / "letter.txt").write_bytes(bytes(200_000))
    (place / "dir.mlsym").mkdir()
    (place / "link.mlsym").symlink_to(tmp_path)
    cache = SymbolCache(str(place), max_bytes=100_000)
    for number in range(9):
        assert cache.store_blob(Key(f"{number:040x}", b""), "units", bytes(20_000))
    names = {path.name for path in files(cache)}
    assert {"letter.txt", "dir.mlsym", "link.mlsym"} < names
    assert 3 + 3 <= len(names) <= 3 + 5


def test_what_a_writer_that_died_has_left_is_removed_an_hour_later(cache):
    cache.add_answers(KEY, {1: answer(1)})
    name = files(cache)[0].name
    old, new = (Path(cache.place, f".4711.{word}.{name}.tmp") for word in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    cache.add_answers(KEY, {2: answer(2)})
    assert (old.exists(), new.exists()) == (False, True)


# ---- several at once -----------------------------------------------------------------------------------


def write_often(place: str, first: int) -> None:
    cache = SymbolCache(place)
    for number in range(first, first + 30):
        assert cache.add_answers(KEY, {number: answer(number), 0: answer(first)})
        assert cache.store_blob(KEY, "units", bytes([first % 251]) * 50_000)


def test_writers_at_once_never_tear_a_file(cache):
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "builders"), *sys.path]
    code = f"import sys; sys.path[:] = {paths!r}; import test_symbolize_cache as t; t.write_often({cache.place!r}, %d)"
    writers = [subprocess.Popen([sys.executable, "-c", code % (1000 * number)]) for number in range(1, 4)]
    try:
        while any(writer.poll() is None for writer in writers):
            blob = cache.load_blob(KEY, "units")
            assert blob is None or blob == blob[:1] * 50_000
            for number in (0, 1005, 2010, 3029):
                (seen,) = found(cache, KEY, number)
                assert seen is None or seen == answer(number) or (number == 0 and seen[0].line % 1000 == 1)
    finally:
        for writer in writers:
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert found(cache, KEY, 0)[0] is not None
    assert len(files(cache)) == 2


def test_threads_at_once_share_a_cache(cache):
    errors = []

    def work(first: int) -> None:
        try:
            write_often(cache.place, first)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(files(cache)) == 2
