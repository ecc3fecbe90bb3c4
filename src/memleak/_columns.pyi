from collections.abc import Iterable

_Column = list[int]

def gather(raw: bytes, refs: Iterable[int], offset: int, width: int) -> list[int]: ...
def live(
    raw: bytes, offset: int, capacity: int
) -> tuple[_Column, _Column, _Column, _Column, _Column, _Column, int, int]: ...
