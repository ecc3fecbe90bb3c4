"""Pages behind an LRU cache, asked for at random.

scenario: LRU cache, full
arguments: 2000 1000000 1000
verdict: churn
seconds: 30
mode: both

scenario: LRU cache, filling
arguments: 50000 20000 1000
verdict: growing (saturating)
level: 20000 * 2033
seconds: 28

scenario: LRU cache, filling for half an hour
arguments: 50000 20000 20
verdict: growing (saturating)
level: 20000 * 2033
mode: normal

Arguments: pages that have room, pages that there are, requests a second. The first cache is full after two seconds;
then each page pushes one out. The second has room for all there are, and half of these are in it after 14 seconds.
"""

import functools
import random
import sys

from pace import events

room, pages, per_second = map(int, sys.argv[1:])
random.seed(1)


@functools.lru_cache(maxsize=room)
def render(page):
    return bytes(2000)  # blamed


for _ in events(per_second):
    render(random.randrange(pages))
