"""Holds blocks that were asked for through known chains of Python and native frames."""

import json
import os
import sys

kept = []


class Store:
    """A method that calls a method."""

    def grow(self, count):
        for _ in range(count):
            self.add()

    def add(self):
        kept.append(bytearray(300_000))


def key(number):
    """Called by the sort, which Python called."""
    kept.append(bytearray(400_000))
    return -number


def numbers(count):
    """Resumed by list.extend()."""
    for _ in range(count):
        yield bytearray(200_000)


def hook(pairs):
    """Called by the parser, which json.loads() called."""
    kept.append(bytearray(100_000))
    return dict(pairs)


def main():
    """Each chain once, then wait to be read."""
    Store().grow(5)
    sorted(range(4), key=key)
    kept.extend(numbers(6))
    json.loads("[{}, {}]", object_pairs_hook=hook)
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


main()
