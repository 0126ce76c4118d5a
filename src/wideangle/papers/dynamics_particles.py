"""The numbers of panel (g): wide networks as particles, in the kernel and in the mean-field scaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle._provenance import provenance
from wideangle.dynamics import simulate_particles

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "arXiv 1806.07572, 1804.06561"
SCALINGS = ("kernel", "mean-field")
TIME = 10.0
SHOWN = 256  # Particles that are drawn, those of the first network of this width or the next one above.
# Errors by particle, against movements of 0.01 to 0.1 in the kernel scaling and of 1 in the other.
RTOL = {"kernel": 1e-5, "mean-field": 1e-3}
OPENING = (-21.0, 3.0, 18.0)  # Degrees between the three inputs of a bundle and its middle.
BUNDLES = (20.0, 110.0, 200.0, 290.0)


def particles(widths: Sequence[int], n_networks: int, seed: int) -> xr.Dataset:
    """Follow networks of several widths in both scalings on four bundles of inputs, the classes of XOR.

    Particles come in pairs, (w, a) and (w, -a) of standard normal components: then f = 0 at the start, and what the
    force changes in the tangent kernel at first order is odd in a and cancels. Both scalings start from the same.

    Returns
    -------
    xarray.Dataset
        ``movement``, ``kernel_change`` and ``loss`` (scaling, width, network) at time 10, those of
        :func:`wideangle.dynamics.simulate_particles`; ``shown(scaling, moment, particle, component)``: the particles of
        one network at the start and at the end; ``inputs(sample, feature)`` and ``labels(sample)``.
    """
    import xarray as xr

    x, y = bundles()
    shown_width = min((width for width in widths if width >= SHOWN), default=max(widths))
    names = ("movement", "kernel_change", "loss")
    numbers = {name: np.empty((len(SCALINGS), len(widths), n_networks)) for name in names}
    shown = []
    for place, scaling in enumerate(SCALINGS):
        for number, width in enumerate(widths):
            start = pairs(width, n_networks, np.random.default_rng([seed, 6, width]))
            run = simulate_particles(
                x, y, start, [0.0, TIME], scaling=scaling, boundaries="stepped", rtol=RTOL[scaling]
            )
            for name in names:
                numbers[name][place, number] = run[name].values[:, -1]
            if width == shown_width:
                shown.append(run["particles"].values[0])
    over = ("scaling", "width", "network")
    return xr.Dataset(
        {
            **{name: (over, values) for name, values in numbers.items()},
            "shown": (("scaling", "moment", "particle", "component"), shown),
            "inputs": (("sample", "feature"), x),
            "labels": ("sample", y),
        },
        {"scaling": list(SCALINGS), "width": list(widths), "moment": ["start", "end"]},
        provenance("particles", source=SOURCE, n_networks=n_networks, seed=seed, time=TIME),
    )


def bundles() -> tuple[Array, Array]:
    """Return unit inputs (sample, 2) in four bundles a quarter turn apart, and labels that alternate."""
    angles = np.radians(np.add.outer(BUNDLES, OPENING).ravel())
    labels = np.repeat([1.0, -1.0, 1.0, -1.0], len(OPENING))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1), labels


def pairs(width: int, n_networks: int, rng: np.random.Generator) -> Array:
    """Return standard normal particles (network, particle, 3), the second half with the opposite readouts."""
    half = rng.standard_normal((n_networks, width // 2, 3))
    return np.concatenate([half, half * [1.0, 1.0, -1.0]], axis=1)
