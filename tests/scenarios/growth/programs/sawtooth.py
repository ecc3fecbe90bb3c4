"""Rows are collected into a batch, which is written and dropped every five seconds.

scenario: sawtooth
verdict: churn
seconds: 34
mode: both

It is killed in the middle of a batch.
"""

from pace import events

PERIOD = 5.0
batch = []

written = 0.0
for now in events(800):
    if now - written >= PERIOD:
        batch.clear()
        written += PERIOD
    batch.append(bytes(1500))  # blamed
