"""Write tests/reference/angles_one_layer.json: large ensembles of the angle after one layer and through ten.

Moments of X = ln sin^2 theta over the surviving pairs of 1e8 random networks for each of 28 single layers, and for ten
layers of width 30. Run with the package installed: ``python tools/generate_angle_ensembles.py [n_samples]``; at the
default of 10**8 samples it takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import wideangle as wa

OUT = Path(__file__).parents[1] / "tests" / "reference" / "angles_one_layer.json"
THETA0 = (1e-6, 0.01, 0.3, 1.0, math.pi / 2, 2.5, 3.1)
WIDTHS = (10, 30, 100, 1000)
CHAIN_WIDTHS, CHAIN_THETA0 = (30,) * 10, 0.5
SAMPLES = 10**8


def ensemble(widths: tuple[int, ...], theta0: float, n_samples: int, seed: int) -> dict[str, Any]:
    """Simulate one network shape and return the moments of every layer after the input."""
    net = wa.MLP(widths)
    result = wa.propagation.simulate_angles(net, theta0, n_samples=n_samples, seed=seed).isel(layer=slice(1, None))
    names = {
        "survivors": "survivors",
        "mean": "mean",
        "mean_se": "mean_standard_error",
        "variance": "variance",
        "variance_se": "variance_standard_error",
    }
    moments = {name: result[variable].values.tolist() for name, variable in names.items()}
    return {"theta0": theta0, "widths": list(widths), "samples": n_samples, "seed": seed, **moments}


def main() -> None:
    n_samples = int(float(sys.argv[1])) if len(sys.argv) > 1 else SAMPLES
    cases = [((width,), theta0) for theta0 in THETA0 for width in WIDTHS] + [(CHAIN_WIDTHS, CHAIN_THETA0)]
    entries = []
    for seed, (widths, theta0) in enumerate(cases, start=1000):
        entries.append(ensemble(widths, theta0, n_samples, seed))
        print(widths, theta0, entries[-1]["mean"], entries[-1]["variance"], flush=True)
    OUT.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
