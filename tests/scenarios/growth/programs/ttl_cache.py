"""Tokens that live for exactly their time to live: six seconds, looked after twice a second.

scenario: TTL cache
verdict: churn
seconds: 32
mode: both
"""

import collections

from pace import events

TTL = 6.0
tokens = collections.deque()

swept = 0.0
for now in events(500):
    tokens.append((now, bytes(3000)))  # blamed
    if now - swept >= 0.5:
        swept = now
        while tokens and now - tokens[0][0] > TTL:
            tokens.popleft()
