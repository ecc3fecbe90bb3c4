"""The knobs of all live recordings as OceanBase's parameters: `ALTER SYSTEM SET` and `SHOW PARAMETERS`.

OceanBase takes the two intervals one after the other, and a pair may be out of order in between. A process takes
pairs in order only: what would be out of order waits here, for all processes, until the other value has come.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .. import config, control, locate
from ..errors import MemleakError
from ..locate import Found
from . import codes
from .catalog import matching
from .codes import SqlError

NAMES = {knob: alias for alias, knob in config.ALIASES.items()}  # what a knob is called here
COLUMNS = (
    "zone", "svr_type", "svr_ip", "svr_port", "name", "data_type", "value", "info", "section", "scope", "source",
    "edit_level", "requested", "effective", "default_value",
)  # fmt: skip
_PARALLEL = 16
_PAIRS = (config.NATIVE_PAIR, config.PYTHON_PAIR)
_ARGUMENTS = {
    "min_sample_interval": "min",
    "max_sample_interval": "max",
    "python_min_sample_interval": "python_min",
    "python_max_sample_interval": "python_max",
    "sample_bytes": "sample_bytes",
}
_INFO = {
    "min_sample_interval": "the min malloc times between two samples, not more than _max_malloc_sample_interval;"
    " 10000 means to sample nothing",
    "max_sample_interval": "the max malloc times between two samples, not less than _min_malloc_sample_interval;"
    " 1 means to sample all",
    "python_min_sample_interval": "the same for Python's small objects",
    "python_max_sample_interval": "the same for Python's small objects",
    "sample_bytes": "mean bytes between two samples by size; 0 means none",
}


class Server(NamedTuple):
    """One process whose knobs can be changed."""

    svr_ip: str
    found: Found

    @property
    def requested(self) -> dict[str, int]:
        """What it was asked for last."""
        return _knobs(self.found, "requested")

    @property
    def effective(self) -> dict[str, int]:
        """What it samples by."""
        return _knobs(self.found, "effective")


class Parameters:
    """The parameters of all live recordings of this user, with what waits to be in order."""

    def __init__(self, places: Sequence[Path]) -> None:
        """Look for live recordings in *places*."""
        self._places = places
        self._pending: dict[str, int] = {}
        self._lock = threading.Lock()

    def assign(self, values: Mapping[str, str], address: Optional[str] = None) -> list[str]:
        """Set parameters, by any of their names, to values as they were written; return warnings.

        Args:
            values: name -> number.
            address: `IP:PORT` of the one process that is meant; all when None.

        Raises:
            SqlError: an unknown name, or a value that it cannot have; nothing is changed.
        """
        asked = {_knob(name): _checked(name, text) for name, text in values.items()}
        with self._lock:
            servers = live(self._places)
            if address is not None:
                servers = [one for one in servers if address == f"{one.svr_ip}:{one.found.header.pid}"]
                if not servers:
                    raise SqlError(codes.WRONG_VALUE, f"Variable 'SERVER' can't be set to the value of '{address}'")
            return self._set(asked, servers)

    def _set(self, asked: dict[str, int], servers: list[Server]) -> list[str]:
        wanted: dict[str, int] = {name: value for name, value in asked.items() if name == "sample_bytes"}
        pending = dict(self._pending)
        warnings = []
        for pair in _PAIRS:
            if pair[0] not in asked and pair[1] not in asked:
                continue
            values = {name: value for name, value in {**pending, **asked}.items() if name in pair}
            if len(values) == len(pair) and pair[0] in asked and pair[1] in asked and not _in_order(pair, asked):
                name = NAMES.get(pair[0], pair[0])
                raise SqlError(codes.WRONG_VALUE, f"Variable '{name}' can't be set to the value of '{asked[pair[0]]}'")
            waits = bool(servers) and not all(_in_order(pair, {**one.requested, **values}) for one in servers)
            for name in pair:
                pending.pop(name, None)
            if waits:
                pending.update(values)
                said = " and ".join(f"{NAMES.get(name, name)}={value}" for name, value in values.items())
                warnings.append(f"{said}: waits for the other, the least and the greatest interval are out of order")
            else:
                wanted.update(values)
        self._pending = pending
        if not servers:
            return ["there is no live recording: nothing was changed"]
        return warnings + (_apply(wanted, servers) if wanted else [])

    def rows(self, pattern: Optional[str]) -> list[tuple[Any, ...]]:
        """Return the rows of SHOW PARAMETERS, of the names like *pattern*."""
        is_like = matching(pattern)
        with self._lock:
            found = []
            for one in live(self._places):
                header, effective = one.found.header, one.effective
                for knob, requested in one.requested.items():
                    name = NAMES.get(knob, knob)
                    if not (is_like(name) or is_like(knob)):
                        continue
                    value = self._pending.get(knob, requested)
                    waits = "pending: waits for the other interval; " if knob in self._pending else ""
                    found.append(
                        (
                            header.host_name, header.command, one.svr_ip, header.pid, name, "INT", str(value),
                            waits + _INFO[knob], "OBSERVER", "CLUSTER", "DEFAULT", "DYNAMIC_EFFECTIVE", str(requested),
                            str(effective[knob]), str(getattr(config.DEFAULTS, knob)),
                        )
                    )  # fmt: skip
            return found


def _apply(wanted: dict[str, int], servers: list[Server]) -> list[str]:
    arguments = {_ARGUMENTS[name]: value for name, value in wanted.items()}

    def apply(one: Server) -> str:
        try:
            change = control.set_knobs(one.found.path, **arguments)  # type: ignore[arg-type]
        except (MemleakError, ValueError) as error:
            return str(error)
        return f"{one.svr_ip}:{change.pid}: {change.note}" if change.note else ""

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return [words for words in pool.map(apply, servers) if words]


def _knob(name: str) -> str:
    try:
        return config.canonical_name(name.lower())
    except ValueError:
        raise SqlError(codes.UNKNOWN_VARIABLE, f"Unknown system variable '{name}'") from None


def _checked(name: str, text: str) -> int:
    knob = _knob(name)
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise SqlError(codes.WRONG_TYPE, f"Incorrect argument type to variable '{name}'")
    value = int(text)
    try:
        config.given(**{knob: value})
    except ValueError:
        raise SqlError(codes.WRONG_VALUE, f"Variable '{name}' can't be set to the value of '{text}'") from None
    return value


def _in_order(pair: tuple[str, str], knobs: Mapping[str, int]) -> bool:
    return pair[0] not in knobs or pair[1] not in knobs or knobs[pair[0]] <= knobs[pair[1]]


def _knobs(found: Found, which: str) -> dict[str, int]:
    header = found.header
    native, python = getattr(header, which), getattr(header, f"python_{which}")
    knobs = dict(zip(config.NATIVE_PAIR, native[:2]))
    if python.max_sample_interval:  # an early core has none
        knobs.update(zip(config.PYTHON_PAIR, python[:2]))
    knobs["sample_bytes"] = getattr(header, f"{which}_sample_bytes")
    return knobs


def live(places: Sequence[Path]) -> list[Server]:
    """Return the live recordings in some directories, the oldest first."""
    found = [one for one in locate.list_recordings(places) if one.alive]
    found.sort(key=lambda one: one.header.start_monotonic_ns)
    return [Server("127.0.0.1", one) for one in found]
