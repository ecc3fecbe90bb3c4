"""Debug information from the servers of $DEBUGINFOD_URLS, by build-id. Only when it is asked for: it tells them what runs here.

Files are kept where elfutils' own client keeps them, so that each finds what the other fetched.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .elf import ElfError
from .headers import read_headers

MAX_BYTES = 4 << 30  # of one file
TIMEOUT_S = 30.0  # without a byte
TOTAL_S = 600.0  # for one file
URLS = "DEBUGINFOD_URLS"

_PART_BYTES = 1 << 20


def urls(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the servers that the environment names, in their order; http and https only."""
    named = (os.environ if environ is None else environ).get(URLS, "").split()
    return [url.rstrip("/") for url in named if url.startswith(("http://", "https://"))]


def directory(environ: Mapping[str, str] | None = None) -> str | None:
    """Return where elfutils' client keeps files for this user; None if there is no such place."""
    environ = os.environ if environ is None else environ
    chosen = environ.get("DEBUGINFOD_CACHE_PATH")
    if chosen:
        return os.path.abspath(chosen)
    base = environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        home = environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, "debuginfod_client")


class Debuginfod:
    """Fetches debug files.

    Args:
        servers: URLs, asked in this order.
        place: the directory for files; made when one is fetched.
        timeout_s: longest wait for a byte.
        max_bytes: of one file.
    """

    def __init__(
        self, servers: Sequence[str], place: str, *, timeout_s: float = TIMEOUT_S, max_bytes: int = MAX_BYTES
    ) -> None:
        self._servers = tuple(servers)
        self._place = place
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._asked: dict[str, str | None] = {}
        self.problems: dict[str, str] = {}  # by server; that it does not have a file is none

    def fetch(self, build_id: str) -> str | None:
        """Return the path of the debug file of a build; None if no server has it, or it is not what it should be.

        Args:
            build_id: hex.
        """
        if build_id not in self._asked:
            self._asked[build_id] = self._find(build_id)
        return self._asked[build_id]

    def _find(self, build_id: str) -> str | None:
        if len(build_id) <= 2 or not build_id.isalnum():  # it becomes a path
            return None
        path = os.path.join(self._place, build_id, "debuginfo")
        if _is_of(path, build_id):
            return path
        for server in self._servers:
            if server in self.problems:
                continue
            try:
                if self._download(f"{server}/buildid/{build_id}/debuginfo", path, build_id):
                    return path
            except (OSError, ValueError) as error:  # URLError and all of http.client's
                self.problems[server] = f"{type(error).__name__}: {error}"
        return None

    def _download(self, url: str, path: str, build_id: str) -> bool:
        """Tell whether the file was there. Raises OSError or ValueError."""
        import http.client
        import urllib.error
        import urllib.request

        temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        request = urllib.request.Request(url, headers={"User-Agent": "memleak"})
        try:
            with _opener().open(request, timeout=self._timeout_s) as answer:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with open(os.open(temporary, flags, 0o400), "wb") as file:
                    self._copy(answer, file)
            if not _is_of(temporary, build_id):
                raise ValueError(f"{url} is not of that build")
            os.rename(temporary, path)
            return True
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return False
            raise
        except http.client.HTTPException as error:
            raise ValueError(f"{url}: {error!r}") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _copy(self, answer: Any, file: Any) -> None:
        size, end = 0, time.monotonic() + TOTAL_S
        while True:
            data = answer.read(_PART_BYTES)
            if not data:
                break
            size += len(data)
            if size > self._max_bytes:
                raise ValueError(f"the file has more than {self._max_bytes} bytes")
            if time.monotonic() > end:
                raise ValueError(f"the file did not come within {TOTAL_S:g} s")
            file.write(data)
        if answer.length:  # what was announced and did not come
            raise ValueError("the file was cut short")


def _is_of(path: str, build_id: str) -> bool:
    try:
        return read_headers(path).build_id.startswith(build_id)
    except ElfError:
        return False


def _opener() -> Any:
    """Return urllib's opener without what reads files or speaks FTP, which a server could redirect to."""
    import urllib.request as request

    opener = request.OpenerDirector()
    for kind in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPRedirectHandler,
        request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor, request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(kind())
    return opener
