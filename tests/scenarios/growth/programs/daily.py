"""Sessions of two seconds each, ten times as many by day as by night.

scenario: daily cycle of 24 s
arguments: 24
verdict: churn
seconds: 42

scenario: daily cycle of 8 min
arguments: 480
verdict: churn
mode: normal

It starts at night and is looked at in the second afternoon (three quarters of a cycle on), and a little before the next
night in the longer form: its load has risen twice by then. Sessions that live for a thirtieth of a day or more are what a
busy day is made of.
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
