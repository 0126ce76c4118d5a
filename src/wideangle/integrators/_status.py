"""How a trajectory ended, and by which method."""

from __future__ import annotations

FINISHED, EVENT, STEP_TOO_SMALL, TOO_MANY_STEPS, NON_FINITE = range(5)
# Inside only: waiting for the method for stiff problems, or not yet ended.
STIFF, PENDING = 100, 101
MEANINGS = ("finished", "event", "step_too_small", "too_many_steps", "non_finite")
METHODS = ("tsit5", "dop853", "rodas5p")
RODAS5P = 2
