"""Makes objects by many ways through the same functions: as many Python stacks, and next to no native ones."""

import sys

DEPTH = 50


def step(left: int, way: int) -> list:
    """Go on at one of two lines, as the bits of *way* say."""
    if left == 0:
        return [way * 1.5]
    if way & 1:
        return step(left - 1, way >> 1)
    return step(left - 1, way >> 1)


kept = [step(DEPTH, way) for way in range(int(sys.argv[1]))]
print(len(kept))
