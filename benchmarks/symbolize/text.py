"""Print what addr2line -afiC prints of a binary's addresses, by our own reader: python text.py BINARY < ADDRESSES."""

import sys

from memleak.symbolize import Symbolizer


def main() -> None:
    """Answer all addresses of the standard input in one batch."""
    path = sys.argv[1]
    addresses = [int(line, 16) for line in sys.stdin]
    with Symbolizer(engine="memleak") as symbolizer:
        found = symbolizer.resolve([(path, None, address, True) for address in addresses])
    out = []
    for address, frames in zip(addresses, found):
        out.append(f"0x{address:016x}")
        for frame in frames:
            ending = f" (discriminator {frame.discriminator})" if frame.discriminator else ""
            line = frame.line or ("0" if frame.file is None else "?")
            out.append(frame.function or "??")
            out.append(f"{frame.file or '??'}:{line}{ending if frame.line else ''}")
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
