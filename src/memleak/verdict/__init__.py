"""Say of each stack what its growth means: leak, growing (saturating), steady, churn, step, shrinking, or too few samples."""

from .forecast import Forecast, forecast
from .judging import (
    CHURN, CHURNED, LEAK, LEAST_EVENTS, SATURATING, SHORTEST_FULL_S, SHORTEST_PRESSED_S, SHORTEST_S, SHRINKING, STEADY,
    STEP, TOO_FEW, VERDICTS, Verdict, few, judge,
)  # fmt: skip
from .series import Series
from .trend import discoveries

__all__ = [
    "CHURN", "CHURNED", "LEAK", "LEAST_EVENTS", "SATURATING", "SHORTEST_FULL_S", "SHORTEST_PRESSED_S", "SHORTEST_S", "SHRINKING",
    "STEADY", "STEP", "TOO_FEW", "VERDICTS", "Forecast", "Series", "Verdict", "discoveries", "few", "forecast", "judge",
]  # fmt: skip
