"""The verbs on a bundle, the bundle of a directory, and the cache behind them all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf
from recordingwriter import RecordingWriter

from memleak import bundling, cli, query, recording

BUILD = bytes(range(20))


def recorded(path: Path, app: Path, *, pid: int = 4711, state: int = 3, build_id: bytes = BUILD) -> Path:
    """Write a recording of a stack alpha < beta in *app*."""
    writer = RecordingWriter(pid=pid, recording_id=pid, state=state)
    module = writer.module(str(app), build_id=build_id, main=True)
    writer.live(writer.row([(module, 0x1008), (module, 0x1048)], samples=1, bytes=4000), size=4000, weight=1)
    path.write_bytes(writer.bytes())
    return path


def linked(path: Path, *names: str, build_id: bytes = BUILD) -> Path:
    symbols = [ElfSymbol(name, 0x1000 + 0x40 * number, 0x40) for number, name in enumerate(names)]
    path.write_bytes(write_elf(symbols=symbols, build_id=build_id))
    return path


@pytest.fixture
def app(tmp_path):
    return linked(tmp_path / "app", "alpha", "beta")


@pytest.fixture
def source(tmp_path, app):
    return recorded(tmp_path / "x.mlrec", app)


@pytest.fixture
def bundle(tmp_path, app, source, capsys):
    """A bundle whose binary and recording are gone."""
    path = tmp_path / "x.mlz"
    assert cli.main(["bundle", str(source), "-o", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 1 recording, names of 2 places in 1 object, ")
    app.unlink()
    source.unlink()
    return path


def said(capsys, *words: object) -> str:
    """Run a verb that succeeds and return what it prints."""
    assert cli.main([str(word) for word in words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_every_reading_verb_takes_a_bundle(bundle, capsys, tmp_path):
    for words in (["top"], ["symbolize"], ["postmortem"]):
        lines = said(capsys, *words, bundle).splitlines()
        assert [line.split()[0] for line in lines if line.startswith("    ") and "(app)" in line] == ["alpha", "beta"]
    query = "SELECT native_trace FROM malloc_sample_info WHERE native_trace IS NOT NULL"
    assert json.loads(said(capsys, "sql", bundle, query, "--json"))[0] == {"native_trace": "alpha < beta"}
    assert json.loads(said(capsys, "top", bundle, "--json", "--group-by", "function"))["rows"][0]["group"] == "alpha"
    copy = tmp_path / "copy.mlrec"
    assert said(capsys, "save", bundle, "-o", copy) == f"{copy}\n"
    assert recording.load(copy).header.pid == 4711


def test_names_can_be_left_out(bundle, capsys):
    for verb in ("top", "postmortem"):
        assert "alpha" not in said(capsys, verb, bundle, "--no-symbols")
    query = "SELECT count(native_trace) FROM malloc_sample_info"
    assert said(capsys, "sql", bundle, query, "--no-symbols", "--csv").split() == ["count(native_trace)", "0"]


def test_the_library_opens_a_bundle(bundle):
    snapshot = query.open(str(bundle))
    assert snapshot.top(1)[0].trace[0].startswith("alpha")


def test_all_recordings_of_a_directory_are_bundled(tmp_path, app, capsys):
    directory = tmp_path / "many"
    directory.mkdir()
    for pid in (11, 12, 13):
        recorded(directory / f"{pid}.mlrec", app, pid=pid)
    (directory / "bad.mlrec").write_bytes(b"x" * 5000)
    path = tmp_path / "many.mlz"
    assert cli.main(["bundle", str(directory), "-o", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["file"], answer["recordings"], len(answer["modules"])) == (str(path), 3, 1)
    assert answer["bytes"] == path.stat().st_size
    assert "bad.mlrec" in answer["problems"][0]
    top = json.loads(said(capsys, "top", path, "--json"))
    assert top["footer"]["recordings"] == 3
    assert top["rows"][0]["alloc_bytes"] == 3 * 4000
    saved = tmp_path / "saved"
    assert len(said(capsys, "save", path, "-o", saved).split()) == 3
    assert "2 more recordings" in said(capsys, "postmortem", path)


def test_a_binary_of_another_build_is_refused_and_the_rest_is_bundled(tmp_path, app, source, capsys):
    linked(app, "wrong", "names", build_id=BUILD[::-1])
    path = tmp_path / "x.mlz"
    assert cli.main(["bundle", str(source), "-o", str(path)]) == 0
    out, err = capsys.readouterr()
    reason = f"binary {app} has build-id {BUILD[::-1].hex()}, the recording was made with {BUILD.hex()}"
    assert err == f"memleak bundle: {app}: {reason}\n"
    assert "names of 0 places" in out
    app.unlink()
    text = said(capsys, "top", path)
    assert f"when it was bundled: {reason}; now: {app}: No such file" in text
    assert "wrong" not in text.replace(reason, "")


def test_the_old_binary_may_stand_elsewhere(tmp_path, app, source, capsys):
    for option, place in (("--debug-dir", tmp_path / "old/app"), ("--sysroot", Path(f"{tmp_path}/root{app}"))):
        place.parent.mkdir(parents=True)
        linked(place, "alpha", "beta")
        linked(app, "wrong", "names", build_id=BUILD[::-1])
        path = tmp_path / f"{option}.mlz"
        directory = place.parent if option == "--debug-dir" else tmp_path / "root"
        said(capsys, "bundle", source, "-o", path, option, directory)
        assert "alpha" in said(capsys, "top", path)


def test_it_is_not_replaced_unasked(bundle, source, app, capsys):
    recorded(source, linked(app, "alpha", "beta"))
    assert cli.main(["bundle", str(source), "-o", str(bundle)]) == 1
    assert "exists already" in capsys.readouterr().err
    said(capsys, "bundle", source, "-o", bundle, "--force")


def test_what_does_not_read_bundles_says_so(bundle, capsys):
    assert cli.main(["status", str(bundle)]) == 1
    err = capsys.readouterr().err
    assert "a bundle, not a recording" in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["top", "symbolize", "postmortem", "save", "bundle"])
def test_a_bad_bundle_costs_one_line(bundle, capsys, tmp_path, verb):
    bundle.write_bytes(bundle.read_bytes()[:-30])
    output = ["-o", str(tmp_path / "out")] if verb in ("save", "bundle") else []
    assert cli.main([verb, str(bundle), *output]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "damaged" in err
    assert not (tmp_path / "out").exists()


def test_a_bundle_of_a_running_process_has_no_end_to_tell_of(tmp_path, app, capsys):
    held = recording.load(recorded(tmp_path / "x.mlrec", app, state=1))
    snapshot = query.Snapshot(held)
    path = tmp_path / "x.mlz"

    class Nothing:
        def resolve(self, requests):
            return [() for _ in requests]

        def problems(self):
            return {}

    bundling.write(snapshot.recordings, [True], Nothing(), path, made_by="x")
    assert cli.main(["postmortem", str(path)]) == 1
    assert "were running when it was made" in capsys.readouterr().err
    assert "ended" in said(capsys, "top", path)


# ---- the cache behind the verbs -----------------------------------------------------------------------


def test_verbs_use_the_cache_unless_told_not_to(tmp_path, source, capsys, monkeypatch):
    place = tmp_path / "cache"
    monkeypatch.setenv("MEMLEAK_SYMBOL_CACHE", str(place))
    query = "SELECT 1 FROM malloc_sample_info WHERE native_trace IS NOT NULL"
    verbs = [["top", source], ["symbolize", source], ["sql", source, query], ["postmortem", source]]
    for words in verbs:
        said(capsys, *words, "--no-cache")
        assert not place.exists(), words[0]
        said(capsys, *words)
        (file,) = os.listdir(place)
        (place / file).unlink()
        place.rmdir()
    said(capsys, "top", source, "--no-symbols")
    assert not place.exists()


def test_names_are_the_same_with_the_cache(tmp_path, source, capsys, monkeypatch):
    expected = said(capsys, "symbolize", source, "--json")
    monkeypatch.setenv("MEMLEAK_SYMBOL_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        assert said(capsys, "symbolize", source, "--json") == expected


def test_the_second_time_no_process_is_started(tmp_path, source, app, capsys, monkeypatch):
    monkeypatch.setenv("MEMLEAK_SYMBOL_CACHE", str(tmp_path / "cache"))
    forks = []
    real = os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(1) or real())
    for words in (["top", source], ["addr2line", "-f", "-e", app, "0x1008"]):
        said(capsys, *words)
        assert forks
        forks.clear()
        said(capsys, *words)
        assert not forks
