"""Who may log in: a user with the password, or on a unix socket a process of this user."""

import os
import pwd
import socket
import struct
from typing import Optional

from mysql_mimic.auth import IdentityProvider, NativePasswordAuthPlugin, User

PLUGIN = NativePasswordAuthPlugin.name
_CREDENTIALS = struct.Struct("3i")  # struct ucred


class Access(IdentityProvider):  # type: ignore[misc]
    """Decides about logins.

    Args:
        user: the name that logs in; a tenant as in `root@sys` is passed over.
        password: its password; None when only peers on a unix socket may.
    """

    def __init__(self, user: str, password: Optional[str]) -> None:
        """Keep a hash of the password."""
        if password == "":
            raise ValueError("an empty password")
        self._user = user
        self._hash = None if password is None else NativePasswordAuthPlugin.create_auth_string(password)
        self._plugin = NativePasswordAuthPlugin()

    def allows(self, name: str, scramble: bytes, nonce: bytes, peer: Optional[int]) -> bool:
        """Whether a client may come in.

        Args:
            name: who it says it is.
            scramble: its password with *nonce*, as mysql_native_password has it.
            nonce: what it was sent.
            peer: the user id of the process at the other end of a unix socket, None over TCP.
        """
        name = name.partition("@")[0]
        if peer is not None and peer not in (0, os.getuid()):
            return False
        if self._hash is None:
            return peer is not None and name in (self._user, _name_of(peer))
        user = User(name=name, auth_string=self._hash, auth_plugin=PLUGIN)
        return bool(self._plugin.password_matches(user=user, scramble=scramble, nonce=nonce)) and name == self._user


def peer_of(connected: Optional[socket.socket]) -> Optional[int]:
    """Return the user id of the process at the other end of a unix socket; None for another socket."""
    if connected is None or connected.family != socket.AF_UNIX:
        return None
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(packed)
    return int(uid)


def _name_of(uid: int) -> Optional[str]:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
