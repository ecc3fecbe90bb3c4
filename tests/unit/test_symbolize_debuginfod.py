"""Debug files from a server, here one of our own on the loopback interface."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from elfwriter import write_elf

from memleak.symbolize import Symbolizer, debuginfod
from memleak.symbolize.debuginfod import Debuginfod


@pytest.fixture
def server():
    """A server with `files` (path -> bytes, or a status, or where to go instead) and the paths that it was `asked`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = files.get(self.path, 404)
            if isinstance(found, bytes):
                self.send_response(200)
                self.send_header("Content-Length", str(len(found) + more[0]))
                self.end_headers()
                self.wfile.write(found)
            else:
                self.send_response(302 if isinstance(found, str) else found)
                if isinstance(found, str):
                    self.send_header("Location", found)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_):
            pass

    files: dict[str, object] = {}
    asked: list[str] = []
    more = [0]  # bytes that are announced and not sent
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.files, http.asked, http.more = files, asked, more
    http.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def program(tmp_path):
    """A stripped program and its debug file."""
    (tmp_path / "a.c").write_text("int work(int n) { return n * 3; }\nint main(void) { return work(2); }\n")
    commands = [
        "gcc -g -O0 -Wl,--build-id=sha1 -o whole a.c",
        "objcopy --only-keep-debug whole whole.debug",
        "objcopy --strip-all whole stripped",
    ]
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, check=True)
    listed = subprocess.run(["nm", "whole"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    work = next(int(line.split()[0], 16) for line in listed.splitlines() if line.endswith(" work"))
    notes = subprocess.run(["readelf", "-n", "whole"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    build_id = next(line.split()[-1] for line in notes.splitlines() if "Build ID" in line)
    (tmp_path / "whole").unlink()
    debug = (tmp_path / "whole.debug").read_bytes()
    (tmp_path / "whole.debug").unlink()
    return str(tmp_path / "stripped"), work, build_id, debug


def test_what_is_missing_here_is_fetched_once(server, program, tmp_path):
    path, work, build_id, debug = program
    server.files[f"/buildid/{build_id}/debuginfo"] = debug
    place = tmp_path / "kept"
    for expected in (1, 1):  # the second one finds it on disk
        with Symbolizer(server=Debuginfod([server.url], str(place))) as symbolizer:
            frame = symbolizer.frames(path, build_id, work, True)[0]
            assert (frame.function, frame.line, symbolizer.problems()) == ("work", 1, {})
        assert len(server.asked) == expected
    kept = place / build_id / "debuginfo"
    assert kept.read_bytes() == debug and os.listdir(kept.parent) == ["debuginfo"]


def test_a_program_that_is_gone_has_its_names_from_the_server(server, program, tmp_path):
    path, work, build_id, debug = program
    server.files[f"/buildid/{build_id}/debuginfo"] = debug
    os.unlink(path)
    with Symbolizer(server=Debuginfod([server.url], str(tmp_path / "kept"))) as symbolizer:
        assert symbolizer.frames(path, build_id, work, True)[0].line == 1


def test_nobody_is_asked_unless_a_server_is_given(server, program, monkeypatch):
    path, work, build_id, _ = program
    monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
    with Symbolizer() as symbolizer:
        assert symbolizer.frames(path, build_id, work, True)[0].line is None
    assert server.asked == []


def test_the_next_server_is_asked_where_one_has_it_not_or_fails(server, program, tmp_path):
    path, work, build_id, debug = program
    server.files[f"/second/buildid/{build_id}/debuginfo"] = debug
    server.files[f"/broken/buildid/{build_id}/debuginfo"] = 500
    servers = [server.url + end for end in ("/first", "/broken", "/second")]
    fetching = Debuginfod(["http://127.0.0.1:9", *servers], str(tmp_path / "kept"), timeout_s=5)
    assert fetching.fetch(build_id) is not None
    assert [asked.split("/")[1] for asked in server.asked] == ["first", "broken", "second"]
    assert set(fetching.problems) == {"http://127.0.0.1:9", servers[1]}


@pytest.mark.parametrize(
    ("answer", "more", "options", "why"),
    [
        (write_elf(build_id=b"\1" * 20), 0, {}, "not of that build"),
        (b"no ELF", 0, {}, "not of that build"),
        (write_elf(build_id=b"\2" * 20), 5, {}, "cut short|IncompleteRead"),
        (write_elf(build_id=b"\2" * 20), 0, {"max_bytes": 100}, "more than 100 bytes"),
        ("file:///etc/passwd", 0, {}, "file"),
        ("ftp://127.0.0.1/a", 0, {}, "ftp"),
    ],
)
def test_what_is_not_the_file_is_thrown_away(server, tmp_path, answer, more, options, why):
    build_id = "02" * 20
    server.files[f"/buildid/{build_id}/debuginfo"] = answer
    server.more[0] = more
    fetching = Debuginfod([server.url], str(tmp_path / "kept"), **options)
    assert fetching.fetch(build_id) is None
    assert re.search(why, fetching.problems[server.url]), fetching.problems
    assert [file for _, _, files in os.walk(tmp_path / "kept") for file in files] == []
    assert fetching.fetch(build_id) is None and len(server.asked) == 1


@pytest.mark.parametrize("build_id", ["", "a", "../../etc", "0102/.."])
def test_no_path_is_made_of_what_is_no_build_id(server, tmp_path, build_id):
    assert Debuginfod([server.url], str(tmp_path)).fetch(build_id) is None
    assert server.asked == []


def test_servers_and_places_are_what_elfutils_client_takes():
    assert debuginfod.urls({"DEBUGINFOD_URLS": " http://a/ https://b file:///c  "}) == ["http://a", "https://b"]
    assert debuginfod.urls({}) == []
    assert debuginfod.directory({"DEBUGINFOD_CACHE_PATH": "/x", "HOME": "/h"}) == "/x"
    assert debuginfod.directory({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == "/c/debuginfod_client"
    assert debuginfod.directory({"HOME": "/h"}) == "/h/.cache/debuginfod_client"
    assert debuginfod.directory({}) is None


def test_addr2line_asks_on_demand_and_only_then(server, program, tmp_path):
    path, work, build_id, debug = program
    server.files[f"/buildid/{build_id}/debuginfo"] = debug
    environment = {
        **os.environ, "DEBUGINFOD_URLS": server.url, "DEBUGINFOD_CACHE_PATH": str(tmp_path / "kept"),
        "MEMLEAK_SYMBOL_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip

    def addr2line(*words: str, **more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "memleak", "addr2line", *words, "-se", path, hex(work)]
        return subprocess.run(command, capture_output=True, text=True, env={**environment, **more})

    assert addr2line().stdout == "??:0\n" and server.asked == []
    for _ in range(2):
        assert addr2line("--debuginfod").stdout == "a.c:1\n"
        assert len(server.asked) == 1
    assert addr2line().stdout == "??:0\n"
    refused = addr2line("--debuginfod", DEBUGINFOD_URLS="")
    assert refused.returncode == 2 and "DEBUGINFOD_URLS names no server" in refused.stderr
