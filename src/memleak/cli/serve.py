"""``memleak serve``: all recordings of this user, for MySQL's clients."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from .. import locate, sql
from ..errors import CoreError, TargetError
from .binaries import confined, sources
from .common import Parser, UsageError, add_name_options

PASSWORD = "MEMLEAK_SERVE_PASSWORD"
SOCKET = "serve.sock"
DESCRIPTION = f"""Serve malloc_sample_info and its companions to MySQL's clients, over all recordings of this user.

ALTER SYSTEM SET and SHOW PARAMETERS are for the knobs of all live recordings. Without --port it
listens on a unix socket that this user and root may use. --port needs a password: in a file
(--password-file) or in the environment ({PASSWORD}).

  mariadb --socket /run/user/1000/memleak/serve.sock oceanbase"""


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    parser = Parser("serve", DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", nargs="*", help="recordings here instead of the usual places")
    parser.add_argument("--socket", metavar="PATH", help="listen on this unix socket, in a directory of mode 0700")
    parser.add_argument("--port", type=int, metavar="N", help="listen on this TCP port (0: any that is free)")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDR", help="on this address (127.0.0.1)")
    parser.add_argument("--user", default="root", metavar="NAME", help="who logs in (root)")
    parser.add_argument("--password-file", metavar="FILE", help="its first line is the password")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate (PEM); TCP is then served with TLS only")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, unless that is in the same file")
    add_name_options(parser)
    options = parser.parse_args(argv)
    try:
        from .. import server
    except ImportError as error:
        name = getattr(error, "name", None) or ""
        if name.partition(".")[0] not in ("mysql_mimic", "sqlglot"):
            raise
        words = f"memleak serve needs packages that are not installed ({name}): pip install 'memleak[mysql]'"
        raise CoreError(words) from None
    password = _password(options)
    _check(options, password, server)
    logging.getLogger("mysql_mimic").addHandler(logging.NullHandler())
    logging.getLogger("sqlglot").addHandler(logging.NullHandler())
    sql.limit_heap()
    places = [Path(place) for place in options.directory] or locate.places()
    named = nullcontext() if options.no_symbols else confined(options.sysroot, sources(options))
    with named as symbolizer:
        service = server.Service(server.Recordings(places, symbolizer), server.Parameters(places))
        asyncio.run(_serve(options, password, server, service))
    return 0


def _password(options: Namespace) -> str | None:
    if options.password_file is None:
        return os.environ.get(PASSWORD) or None
    with open(options.password_file, encoding="utf-8") as file:
        password = file.readline().rstrip("\n")
    if not password:
        raise UsageError(f"--password-file {options.password_file}: its first line is empty")
    return password


def _check(options: Namespace, password: str | None, server: Any) -> None:
    if options.tls_key is not None and options.tls_cert is None:
        raise UsageError("--tls-key needs --tls-cert")
    if options.port is None:
        if options.tls_cert is not None:
            raise UsageError("--tls-cert is for TCP: give --port, too")
        return
    if password is None:
        raise UsageError(f"--port needs a password: --password-file FILE, or {PASSWORD} in the environment")
    if not server.is_loopback(options.host) and options.tls_cert is None:
        raise UsageError(f"--host {options.host} can be reached from elsewhere: that needs --tls-cert")


async def _serve(options: Namespace, password: str | None, server: Any, service: Any) -> None:
    tls = None if options.tls_cert is None else server.tls_context(options.tls_cert, options.tls_key)
    listener = server.Listener(service, server.Access(options.user, password), tls)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    path = None
    if options.port is not None:
        try:
            port = await listener.listen_tcp(options.host, options.port)
        except OSError as error:
            where = f"{options.host}:{options.port}"
            raise TargetError(f"{where}: cannot listen there: {error.strerror or error}") from error
        _say(f"listening on {options.host}:{port}: mariadb -h {options.host} -P {port} -u {options.user} -p oceanbase")
    if options.socket is not None or options.port is None:
        path = Path(options.socket) if options.socket is not None else locate.directories()[0] / SOCKET
        await listener.listen_unix(path)
        _say(f"listening on {path}: mariadb --socket {path} oceanbase")
    try:
        await stop.wait()
    finally:
        await listener.close()
        if path is not None:
            path.unlink(missing_ok=True)


def _say(words: str) -> None:
    sys.stdout.write(f"memleak serve: {words}\n")
    sys.stdout.flush()
