"""Reference cycles, which only the garbage collector frees; it runs when the program says so, every 3 to 7 seconds.

scenario: cycles, collected late
verdict: churn
seconds: 38
mode: both

Servers that must not stop in the middle of a request collect between requests.
"""

import gc
import random

from pace import events


class Node:
    """Knows itself."""

    def __init__(self):
        self.me = self
        self.payload = bytes(2000)  # blamed


gc.disable()
random.seed(3)
collect_at = 3.0
for now in events(600):
    if now >= collect_at:
        gc.collect()
        collect_at = now + random.uniform(3, 7)
    Node()
