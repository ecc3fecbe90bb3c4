"""Sessions that last a twelfth of a day; ten times as many begin at noon as at night.

scenario: daily cycle of 10 s
arguments: 10
verdict: churn
seconds: 42

scenario: daily cycle of 8 min
arguments: 480
verdict: churn
mode: normal

It starts at night; the short form is killed in the fifth night, the long one at the third noon, when load has risen
three times. A day of 24 s watched for 42 s was too short: CPython keeps freed tuples, so as many stay as were ever used
at once, and what the second day needs more than the first cannot be told from a leak behind a start-up.
"""

import math
import random
import sys

from pace import events

day = float(sys.argv[1])
random.seed(2)
sessions = []


def log_in(until):
    sessions.append((until, bytes(4000)))  # blamed


for now in events(500):
    load = 0.55 - 0.45 * math.cos(2 * math.pi * now / day)
    if random.random() < load:
        log_in(now + random.expovariate(1 / (day / 12)))
    if random.random() < 0.02:
        sessions[:] = [session for session in sessions if session[0] > now]
