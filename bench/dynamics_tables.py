"""Tables of docs/performance.md on initial-value problems, and what they claim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial

import numpy as np

import wideangle as wa
from bench import ode_peers
from bench.tables import table
from bench.timing import in_pairs

TRAJECTORIES = 100_000
RTOL = 1e-8
# The least ratios to SciPy's two methods and to the others.
CLAIMS = {"SciPy": 500.0, "diffrax": 5.0, "Numba": 5.0}
MICROSECONDS_CLAIM = 5.0
DIAGRAM_SECONDS_CLAIM = 20.0
FEATURES = [[1.0, 0.0], [1.0, 1.0]]

FIRST_CALL = """
import json, time
from bench import ode_peers
import wideangle as wa
begin = time.perf_counter()
ode_peers.wideangle_runs(*ode_peers.problem(10), 1e-8)
first = time.perf_counter() - begin
begin = time.perf_counter()
ode_peers.wideangle_runs(*ode_peers.problem(10), 1e-8)
print(json.dumps([first, time.perf_counter() - begin]))
"""


def starvation_table(pairs: int, missed: list[str]) -> str:
    """The two-mode problem against every peer that is installed."""
    y0, params = ode_peers.problem(TRAJECTORIES)
    own = partial(ode_peers.wideangle_runs, y0, params, RTOL)
    rows = []
    for name, (peer, number) in ode_peers.installed().items():
        theirs, ours, _ = in_pairs(partial(peer, *ode_peers.problem(number), RTOL), own, pairs=pairs)
        each, mine = 1e6 / number, 1e6 / TRAJECTORIES
        ratio = theirs.median * each / (ours.median * mine)
        rows.append((name, theirs.scaled(each), ours.scaled(mine), f"**{ratio:,.0f}**"))
        claim = next(value for start, value in CLAIMS.items() if name.startswith(start))
        if ratio < claim:
            missed.append(f"starvation, {name}: {ratio:.1f} times, {claim:.0f} claimed")
        if ours.median * mine > MICROSECONDS_CLAIM:
            missed.append(f"starvation: {ours.median * mine:.1f} us a trajectory")
    errors = ", ".join(
        f"{name} {ode_peers.relative_error(run, RTOL):.1g}"
        for name, run in (
            ("wideangle", ode_peers.wideangle_runs),
            *((name, peer) for name, (peer, _) in ode_peers.installed().items()),
        )
    )
    return (
        f"## Initial-value problems\n\n`integrate`: two modes under cross-entropy to t = 1000 at rtol {RTOL:g}, atol"
        f" 1e-12, {TRAJECTORIES:,} trajectories with frequencies and starts of their own; microseconds a"
        f" trajectory. Median relative errors at the end: {errors}.\n\n"
        + table(("peer", "peer, us", "wideangle, us", "times faster"), rows)
    )


def modes_and_phases_table(pairs: int, missed: list[str]) -> str:
    """What the room of dynamics makes of it."""
    rng = np.random.default_rng(0)
    fractions = rng.uniform(0.05, 0.5, TRAJECTORIES)
    shares = np.stack([1.0 - fractions, fractions], axis=1)
    start = 1e-3 * 10.0 ** rng.random((TRAJECTORIES, 2))
    grid = np.linspace(-2.0, 2.0, 1000)
    rows = []
    for label, run, scale, unit in (
        (
            "`simulate_modes`, the same problem, a trajectory",
            partial(wa.dynamics.simulate_modes, FEATURES, shares, start, [1000.0]),
            1e6 / TRAJECTORIES,
            "us",
        ),
        ("`phase_diagram`, 1000 x 1000, cross-entropy", partial(wa.dynamics.phase_diagram, grid, grid), 1.0, "s"),
        ("`phase_diagram`, 1000 x 1000, hinge", partial(wa.dynamics.phase_diagram, grid, grid, loss="hinge"), 1.0, "s"),
    ):
        spread, _, _ = in_pairs(run, lambda: None, pairs=pairs)
        rows.append((label, f"{spread.scaled(scale)} {unit}"))
        if unit == "s" and spread.median > DIAGRAM_SECONDS_CLAIM:
            missed.append(f"{label}: {spread.median:.1f} s")
    return table(("job", "time"), rows)


def first_call_line(pairs: int, missed: list[str]) -> str:
    """First calls in new processes, with nothing kept on disk and with everything."""
    with tempfile.TemporaryDirectory() as cache:
        cold = _first_call(cache)
        warm = _first_call(cache)
    return (
        f"A first call of `integrate` with a right-hand side of the user takes {cold[0]:.1f} s where nothing has been"
        f" compiled before, {warm[0]:.2f} s in a later process, and {1e3 * warm[1]:.2g} ms from then on (10"
        " trajectories)."
    )


def _first_call(cache: str) -> list[float]:
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], env=environment, capture_output=True, text=True, check=True
    )
    first, later = json.loads(run.stdout)
    return [float(first), float(later)]
