"""What pytest is not to collect here."""

collect_ignore = ["forgotten"]  # modules of CPython's tests, for runner.py
