"""Numbers with their units, for people."""

from typing import Optional

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(number: Optional[float]) -> str:
    """Return bytes in the largest unit that leaves a number above 1: 26.4 MiB."""
    if number is None:
        return "-"
    value = float(number)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError
