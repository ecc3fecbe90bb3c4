"""Say of each stack what its growth means: leak, growing (saturating), steady, churn, step, shrinking, or too few samples."""

from .forecast import Forecast, forecast
from .judging import (
    CHURN, CHURNED, GROWING_EVENTS, LEAK, LEAST_EVENTS, SATURATING, SHORTEST_FULL_S, SHORTEST_PRESSED_S, SHORTEST_S,
    SHRINKING, STEADY, STEP, TOO_FEW, VERDICTS, Verdict, few, judge, judge_alone,
)  # fmt: skip
from .series import Series
from .trend import discoveries

__all__ = [
    "CHURN", "CHURNED", "GROWING_EVENTS", "LEAK", "LEAST_EVENTS", "SATURATING", "SHORTEST_FULL_S", "SHORTEST_PRESSED_S",
    "SHORTEST_S", "SHRINKING", "STEADY", "STEP", "TOO_FEW", "VERDICTS", "Forecast", "Series", "Verdict", "discoveries",
    "few", "forecast", "judge", "judge_alone",
]  # fmt: skip
