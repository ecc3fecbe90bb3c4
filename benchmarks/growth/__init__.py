"""Simulated stacks of known truth, and how well they are judged."""
