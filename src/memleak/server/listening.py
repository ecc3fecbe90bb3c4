"""Sockets: loopback or a unix socket that only this user reaches."""

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import stat
import sys
from pathlib import Path
from typing import Any, Optional

from mysql_mimic.control import LocalControl
from mysql_mimic.stream import ConnectionClosed

from ..errors import TargetError
from . import codes
from .access import Access
from .protocol import Client, Stream
from .session import Service, Session

CONNECTIONS_MOST = 64


class Listener:
    """Accepts clients until it is closed."""

    def __init__(self, service: Service, access: Access, tls: Optional[ssl.SSLContext]) -> None:
        """Nothing is listened to yet."""
        self._service, self._access, self._tls = service, access, tls
        self._control = LocalControl()
        self._servers: list[asyncio.AbstractServer] = []
        self._count = 0

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on an address; return the port, which is chosen when 0 is asked for."""
        server = await asyncio.start_server(self._accept, host, port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_unix(self, path: Path) -> None:
        """Listen on a unix socket.

        Raises:
            TargetError: its directory is open to others, or somebody listens there.
        """
        self._servers.append(await asyncio.start_unix_server(self._accept, sock=_unix_socket(path)))

    async def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(Stream(reader, writer), Session(self._service), self._control, self._access, self._tls)
        self._count += 1
        try:
            if self._count > CONNECTIONS_MOST:
                refusal = codes.SqlError(codes.TOO_MANY_CONNECTIONS, "Too many connections")
                await client.stream.write(client.error(msg=refusal))
                return
            client.connection_id = await self._control.add(client)
            try:
                await client.start()
            finally:
                await self._control.remove(client.connection_id)
        except (codes.SqlError, ConnectionClosed, ConnectionError, asyncio.TimeoutError):
            pass  # the client has been told, or has gone
        except Exception as error:
            sys.stderr.write(f"memleak serve: a connection ended: {type(error).__name__}: {error}\n")
        finally:
            self._count -= 1
            with contextlib.suppress(ConnectionError):
                writer.close()


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unix_socket(path: Path) -> Any:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    status = os.stat(path.parent)
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise TargetError(f"{path.parent}: a socket needs a directory of yours that nobody else can enter (mode 0700)")
    if _is_served(path):
        raise TargetError(f"{path}: somebody is listening there already")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise TargetError(f"{path}: cannot listen there: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    return listening


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
