"""The knobs: their names, ranges, modes, and how they are read from text.

An allocation is sampled when its thread has made a random number of allocations between
`min_sample_interval` and `max_sample_interval` since the last one, or about every `sample_bytes`
bytes. Python's small objects, which are many more, have a pair of intervals of their own. This module
only checks values; `memleak.control` hands them to a running process, and `memleak.session` to this one.
"""

from __future__ import annotations

TYPE_CHECKING = False  # start() loads this module, and typing takes milliseconds to import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NamedTuple

    class _Knobs(NamedTuple):
        min_sample_interval: int = 16
        max_sample_interval: int = 256
        python_min_sample_interval: int = 256
        python_max_sample_interval: int = 4096
        sample_bytes: int = 4 << 20
else:
    from collections import namedtuple

    _Knobs = namedtuple(
        "_Knobs",
        "min_sample_interval max_sample_interval python_min_sample_interval python_max_sample_interval sample_bytes",
        defaults=(16, 256, 256, 4096, 4 << 20),
    )

BUDGET_DEFAULT = 0.01  # share of the CPU time used that sampling may cost
BUDGET_PPM = 1_000_000

INTERVAL_MIN = 1
INTERVAL_MAX = 10_000
SAMPLE_BYTES_LEAST = 4096
SAMPLE_BYTES_MOST = 1 << 40
MODES = ("off", "normal", "full")
FOCUS_BYTES_MOST = 255
FOCUS_NONE = ("none", "off")  # spellings of no focus
# What a focus on mod= may name: the rows' mod_name.
FOCUS_DOMAINS = ("glibc_malloc", "operator_new", "pymalloc_obj", "pymalloc_mem", "pymem_raw", "mmap")
_FOCUS_FORMS = "module=NAME (as in module=libfoo.so, module=main), label=NAME=VALUE, mod=NAME, or none"

NATIVE_PAIR = ("min_sample_interval", "max_sample_interval")
PYTHON_PAIR = ("python_min_sample_interval", "python_max_sample_interval")
_PAIRS = (NATIVE_PAIR, PYTHON_PAIR)

# OceanBase's names for the two interval knobs, accepted wherever a knob is named.
ALIASES = {
    "_min_malloc_sample_interval": "min_sample_interval",
    "_max_malloc_sample_interval": "max_sample_interval",
}

_ENVIRONMENT = (
    # Later lines win over earlier ones.
    ("_min_malloc_sample_interval", "min_sample_interval"),
    ("_max_malloc_sample_interval", "max_sample_interval"),
    ("MEMLEAK_MIN_SAMPLE_INTERVAL", "min_sample_interval"),
    ("MEMLEAK_MAX_SAMPLE_INTERVAL", "max_sample_interval"),
    ("MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL", "python_min_sample_interval"),
    ("MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL", "python_max_sample_interval"),
    ("MEMLEAK_SAMPLE_BYTES", "sample_bytes"),
)
# The variables that set an interval.
INTERVAL_VARIABLES = tuple(variable for variable, knob in _ENVIRONMENT if knob != "sample_bytes")
_BLANKS = " \t\n\v\f\r"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Knobs(_Knobs):
    """A checked set of knobs. Make one with `knobs()`."""

    __slots__ = ()

    @property
    def mode(self) -> str:
        """The mode that the intervals of all but Python's small objects mean: off, normal or full."""
        return mode_of(self.min_sample_interval, self.max_sample_interval)

    @property
    def native(self) -> tuple[int, int]:
        """The two intervals of all but Python's small objects."""
        return self.min_sample_interval, self.max_sample_interval

    @property
    def python(self) -> tuple[int, int]:
        """The two intervals of Python's small objects."""
        return self.python_min_sample_interval, self.python_max_sample_interval


DEFAULTS = Knobs()
# Knob -> least and greatest value; sample_bytes may also be 0.
RANGES = {
    **dict.fromkeys((*NATIVE_PAIR, *PYTHON_PAIR), (INTERVAL_MIN, INTERVAL_MAX)),
    "sample_bytes": (SAMPLE_BYTES_LEAST, SAMPLE_BYTES_MOST),
}
OFF = (INTERVAL_MAX, INTERVAL_MAX)
FULL = (INTERVAL_MIN, INTERVAL_MIN)


def canonical_name(name: str) -> str:
    """Return the knob that *name* means, resolving OceanBase's names.

    Raises:
        ValueError: there is no such knob.
    """
    found = ALIASES.get(name, name)
    if found not in Knobs._fields:
        raise ValueError(f"unknown knob {name!r}: the knobs are {', '.join(Knobs._fields)}")
    return found


def knobs(**values: Any) -> Knobs:
    """Return the defaults with *values* in place of some, checked together.

    Raises:
        ValueError: an unknown name, a name given twice (once by its alias), or a bad value.
    """
    chosen: dict[str, int] = {}
    for name, value in values.items():
        knob = canonical_name(name)
        if knob in chosen:
            raise ValueError(f"{knob} is given twice (also as {name})")
        chosen[knob] = value
    return changed(DEFAULTS, chosen)


def given(**values: Any) -> dict[str, int]:
    """Return those of the knobs that are not None, each checked, two intervals also against each other.

    Raises:
        ValueError: a bad value.
    """
    found = {name: value for name, value in values.items() if value is not None}
    for name, value in found.items():
        if name == "sample_bytes":
            validate_sample_bytes(value)
        else:
            _validate_interval(name, value)
    for least, greatest in _PAIRS:
        if least in found and greatest in found:
            validate_pair(found[least], found[greatest], (least, greatest))
    return found


def changed(knobs: Knobs, values: Mapping[str, int]) -> Knobs:
    """Return *knobs* with *values* in place of some, checked together.

    Off (10000, 10000) and full (1, 1) mean Python's small objects too: when *values* lead there,
    what they do not say of Python's intervals is the same, and when they lead away from there, what
    was the same so far is the default.

    Raises:
        ValueError: a bad value, or intervals that do not fit together.
    """
    result = _combined(knobs, values)
    for pair in _PAIRS:
        _check(result, pair)
    validate_sample_bytes(result.sample_bytes)
    return result


def _combined(knobs: Knobs, values: Mapping[str, int]) -> Knobs:
    result = knobs._replace(**values)
    if any(name in values for name in NATIVE_PAIR):
        follows = None
        if result.native in (OFF, FULL):
            follows = result.native
        elif knobs.native in (OFF, FULL) and knobs.python == knobs.native:
            follows = DEFAULTS.python
        if follows is not None:
            result = result._replace(**{**dict(zip(PYTHON_PAIR, follows)), **values})
    return result


def _check(knobs: Knobs, pair: tuple[str, str]) -> None:
    validate_pair(getattr(knobs, pair[0]), getattr(knobs, pair[1]), pair)


def at_start(environ: Mapping[str, str], values: Mapping[str, int]) -> tuple[Knobs, list[str]]:
    """Return the knobs to start with: *values*, for the others what *environ* says, else the defaults.

    An interval of the environment that does not fit the one in *values* is left out: what the
    program itself asks for is not made wrong by its surroundings.

    Returns:
        The knobs, and a line of warning for each setting of the environment that was left out.

    Raises:
        ValueError: *values* are bad by themselves, or with the defaults.
    """
    found, warnings = from_environment(environ)
    for pair in _PAIRS:
        try:
            _check(_combined(DEFAULTS, {**found, **values}), pair)
        except ValueError as error:
            for name in pair:
                if found.pop(name, None) is not None and name not in values:
                    warnings.append(f"{name} of the environment ignored: {error}")
    try:
        return changed(DEFAULTS, {**found, **values}), warnings
    except ValueError:
        # One of Python's intervals was given, and the mode of the environment does not fit it.
        return changed(DEFAULTS, {**found, **dict(zip(PYTHON_PAIR, DEFAULTS.python)), **values}), warnings


def validate_pair(least: Any, greatest: Any, names: tuple[str, str] = NATIVE_PAIR) -> tuple[int, int]:
    """Return the two intervals if they are in range and in order; *names* is what messages call them.

    Raises:
        ValueError: not an int (bool, float and str are refused), outside 1…10000, or least > greatest.
    """
    _validate_interval(names[0], least)
    _validate_interval(names[1], greatest)
    if least > greatest:
        raise ValueError(
            f"{names[0]} ({least}) must not be greater than {names[1]} ({greatest}): give both, or a mode"
        )
    return least, greatest


def validate_sample_bytes(value: Any) -> int:
    """Return *value* if it can be the mean distance in bytes between byte samples.

    Raises:
        ValueError: not an int, or neither 0 (no byte samples) nor at least 4096.
    """
    _refuse_non_int("sample_bytes", value)
    if value != 0 and not SAMPLE_BYTES_LEAST <= value <= SAMPLE_BYTES_MOST:
        raise ValueError(f"sample_bytes must be 0 (none) or at least {SAMPLE_BYTES_LEAST}, not {value}")
    return int(value)


def validate_budget(value: Any) -> int:
    """Return *value*, a share of the CPU time used, in millionths, in which the core counts; 0 means no bound.

    Raises:
        ValueError: not a number from 0 to 1, or less than a millionth and not 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"budget must be a number from 0 to 1, not {type(value).__name__} {value!r}")
    if not 0 <= value <= 1:  # so is what is not a number
        raise ValueError(f"budget must be from 0 (no bound) to 1, not {value}")
    if 0 < value < 1 / BUDGET_PPM:
        raise ValueError(f"budget must be 0 (no bound) or at least 0.000001, not {value}")
    return round(value * BUDGET_PPM)


def validate_focus(value: Any) -> str:
    """Return a focus as the core takes it, `module=NAME`, `label=NAME=VALUE` or `mod=NAME`; empty for "none" and "off".

    The core reads it by the same rules (native/src/aim.c).

    Raises:
        ValueError: not a text, none of these forms, longer than 255 bytes, or a mod that there is not.
    """
    if not isinstance(value, str):
        raise ValueError(f"focus must be a text, not {type(value).__name__} {value!r}: {_FOCUS_FORMS}")
    text = value.strip(_BLANKS)
    if text in FOCUS_NONE:
        return ""
    kind, equals, name = text.partition("=")
    if kind not in ("module", "label", "mod") or not equals:
        raise ValueError(f"focus {value!r} is not one that is known: give {_FOCUS_FORMS}")
    if not name:
        raise ValueError(f"focus {value!r} names nothing: give {_FOCUS_FORMS}")
    if len(text.encode("utf-8", "surrogateescape")) > FOCUS_BYTES_MOST:
        raise ValueError(f"focus is longer than {FOCUS_BYTES_MOST} bytes: {text[:40]!r}…")
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError(f"focus {value!r} holds control characters")
    if kind == "module" and "/" in name:
        example = f"module={name.rsplit('/', 1)[1]}"
        raise ValueError(f"focus {value!r}: name the module's file without its directory, as in {example}")
    if kind == "label" and name.find("=") < 1:
        raise ValueError(f"focus {value!r}: a label is NAME=VALUE, as in label=tenant_id=7")
    if kind == "mod" and name not in FOCUS_DOMAINS:
        raise ValueError(f"focus {value!r}: unknown mod {name!r}: there are {', '.join(FOCUS_DOMAINS)}")
    return text


def focus_names(focus: str, path: str) -> bool:
    """Whether a focus on a module means the file at *path*: its name is the one given, or goes on behind it with a point."""
    kind, _, name = focus.partition("=")
    file = path.rsplit("/", 1)[-1]
    return kind == "module" and (file == name or file.startswith(name + "."))


def mode_of(least: int, greatest: int) -> str:
    """Return the mode that a pair of intervals means."""
    if least == INTERVAL_MAX:
        return "off"
    if least == greatest == INTERVAL_MIN:
        return "full"
    return "normal"


def knobs_for_mode(name: str) -> Knobs:
    """Return the knobs that stand for a mode; normal means the defaults.

    Raises:
        ValueError: there is no such mode.
    """
    modes = {"off": Knobs(*OFF, *OFF), "normal": DEFAULTS, "full": Knobs(*FULL, *FULL)}
    if not isinstance(name, str) or name not in modes:
        raise ValueError(f"unknown mode {name!r}: the modes are {', '.join(MODES)}")
    return modes[name]


def intervals(knobs: Knobs) -> dict[str, int]:
    """Return the intervals of *knobs* by name, those of Python's small objects too."""
    return {name: getattr(knobs, name) for pair in _PAIRS for name in pair}


def parse_interval(text: str) -> int:
    """Read an interval as written on a command line or in the environment.

    Raises:
        ValueError: not a whole number from 1 to 10000.
    """
    stripped = text.strip(_BLANKS)
    if not _is_number(stripped):
        raise ValueError(f"{text!r} is not a whole number from {INTERVAL_MIN} to {INTERVAL_MAX}")
    value = int(stripped)
    _validate_interval("a sample interval", value)
    return value


def parse_bytes(text: str) -> int:
    """Read a size such as `4194304`, `512K`, `4M` or `4MiB`; units are powers of 1024.

    The core reads the environment by the same rules (native/src/settings.c).

    Raises:
        ValueError: not a size.
    """
    number = text.strip(_BLANKS).lower()
    digits = number.rstrip("kmgib")
    suffix = number[len(digits) :]
    unit = suffix[:1] if suffix[:1] in _UNITS else ""
    if suffix not in (unit, f"{unit}b", unit and f"{unit}i", unit and f"{unit}ib") or not _is_number(digits.rstrip(_BLANKS)):
        raise ValueError(f"{text!r} is not a size: write bytes or a number with K, M or G, as in 4M")
    return int(digits) * _UNITS[unit]


def parse_budget(text: str) -> float:
    """Read a budget such as `0.01`: up to six digits behind the point, as the core reads it (native/src/settings.c).

    Raises:
        ValueError: not a number from 0 to 1 in that form.
    """
    whole, point, part = text.strip(_BLANKS).partition(".")
    part_is_good = _is_number(part) and not part[6:].strip("0") if point else True
    if not (part_is_good and (_is_number(whole) or (point and not whole))):
        raise ValueError(f"{text!r} is not a share from 0 to 1 with at most six digits behind the point, as in 0.01")
    value = float(text)
    validate_budget(value)
    return value


def from_environment(environ: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """Read the knobs that *environ* sets.

    `MEMLEAK_MODE` chooses the intervals; an interval given by name replaces the mode's. A bad
    value is left out, so that the default stays, and yields one line of warning. The intervals are
    checked as a pair: when they do not fit together both are left out. What is not said of Python's
    intervals is left out too: it follows from the others, see `changed`.

    Returns:
        The knobs set, by name, and the warnings. Never raises.
    """
    found: dict[str, int] = {}
    warnings: list[str] = []
    mode = environ.get("MEMLEAK_MODE", "").strip()
    if mode:
        try:
            chosen = knobs_for_mode(mode)
        except ValueError as error:
            warnings.append(f"MEMLEAK_MODE ignored: {error}")
        else:
            found.update(
                min_sample_interval=chosen.min_sample_interval,
                max_sample_interval=chosen.max_sample_interval,
            )
    for variable, knob in _ENVIRONMENT:
        text = environ.get(variable, "")
        if not text.strip():
            continue
        try:
            if knob == "sample_bytes":
                found[knob] = validate_sample_bytes(parse_bytes(text))
            else:
                found[knob] = parse_interval(text)
        except ValueError as error:
            warnings.append(f"{variable} ignored: {error}")
    for pair in _PAIRS:
        try:
            _check(_combined(DEFAULTS, found), pair)
        except ValueError as error:
            variables = " and ".join(f"MEMLEAK_{name.upper()}" for name in pair)
            warnings.append(f"{variables} ignored: {error}")
            for name in pair:
                found.pop(name, None)
    return found, warnings


def sides(environ: Mapping[str, str], native: bool | None, python: bool | None) -> tuple[bool, bool, list[str]]:
    """Return whether native allocations are to be sampled, whether Python is to be looked at, and warnings.

    What is None is as *environ* says: `MEMLEAK_NATIVE=0` and `MEMLEAK_PYTHON=0` leave their side out. A setting that
    would leave nothing to record is left out itself, with a line of warning.

    Raises:
        ValueError: *native* and *python* are both False, or not bool.
    """
    for name, value in (("native", native), ("python", python)):
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {value!r}")
    if native is False and python is False:
        raise ValueError("native and python must not both be False: nothing would be recorded")
    found_native = _is_on(environ, "MEMLEAK_NATIVE") if native is None else native
    found_python = _is_on(environ, "MEMLEAK_PYTHON") if python is None else python
    if found_native or found_python:
        return found_native, found_python, []
    if native is False:
        return False, True, ["MEMLEAK_PYTHON ignored: native is False, and nothing would be recorded"]
    other = "MEMLEAK_PYTHON is 0, too" if python is None else "python is False"
    return True, False, [f"MEMLEAK_NATIVE ignored: {other}, and nothing would be recorded"]


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip(_BLANKS) != "0"


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 19 and text.isascii() and text.isdigit()


def _validate_interval(name: str, value: Any) -> None:
    _refuse_non_int(name, value)
    if not INTERVAL_MIN <= value <= INTERVAL_MAX:
        raise ValueError(f"{name} must be from {INTERVAL_MIN} to {INTERVAL_MAX}, not {value}")


def _refuse_non_int(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {type(value).__name__} {value!r}")
