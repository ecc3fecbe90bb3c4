"""How settings are written: what the package and the core must read alike."""

from __future__ import annotations

# Text -> value; None: refused.
INTERVALS: dict[str, int | None] = {
    "1": 1, "16": 16, " 64 ": 64, "\t10000\n": 10_000, "0007": 7,
    "0": None, "10001": None, "-1": None, "+1": None, "1K": None, "1e3": None, "0x10": None, "1.0": None, "1 0": None,
    "many": None, "9" * 23: None,
}  # fmt: skip
SIZES: dict[str, int | None] = {
    "0": 0, "4096": 4096, "4M": 4 << 20, "512K": 512 << 10, "512k": 512 << 10, "1GiB": 1 << 30, "1gib": 1 << 30, "2Mi": 2 << 20,
    " 8 MB ": 8 << 20, "9000b": 9000, "5000B": 5000,
    "M": None, "1.5M": None, "-1": None, "4X": None, "0x1000": None, "9000ib": None, "8 M B": None, "iB": None, "4MM": None,
    "9" * 30: None,
}  # fmt: skip
SHARES: dict[str, float | None] = {
    "0": 0.0, "1": 1.0, "0.01": 0.01, " .5\n": 0.5, "00.000001": 0.000001, "1.000000000": 1.0, "0.0100000": 0.01,
    ".": None, "1.": None, "1.000001": None, "2": None, "-0.1": None, "+0.1": None, "1e-2": None, "1%": None,
    "0.0000001": None, "nan": None, "0,1": None, "0.1.1": None, "0. 1": None, "9" * 23: None,
}  # fmt: skip
