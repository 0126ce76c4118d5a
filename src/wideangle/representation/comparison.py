"""Estimates from chunks beside the truth of synthetic clones."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import (
    MAX_WIDTH,
    check_flag,
    check_increasing,
    check_increasing_integers,
    check_integer,
    check_seed,
    check_threads,
)
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.representation._signatures import EXPONENT
from wideangle.representation.chunks import chunk_statistics
from wideangle.representation.clone_number import fit_clones
from wideangle.representation.synthetic import MAX_NOISE, MAX_SAMPLES, synthetic_clones

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "synthetic clones with known truth, derived; w^(-1/2) from arXiv 2106.03485"
SIZES_OF_OCTAVE = 4

_FITTED = ("critical_width", "n_clones", "exponent")
_ENDS = ("", "_low", "_high")

Array = NDArray[np.float64]


def compare(
    n_clones: Iterable[int] = (2, 4, 8),
    noise: Iterable[float] = (0.1, 0.3, 1.0),
    *,
    width: int = 32,
    latent_dim: int = 16,
    n_samples: int = 10_000,
    n_runs: int = 4,
    n_chunks: int = 40,
    seed: int,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare what :func:`fit_clones` says of synthetic clones with the truth.

    Parameters
    ----------
    n_clones
        True numbers of clones, increasing, from 2. Default (2, 4, 8).
    noise
        Standard deviations of the noise, increasing, from 0; those of the task and of the other signals are 1. Default
        (0.1, 0.3, 1.0).
    width
        Neurons of a clone, the true critical width, from 2. Default 32.
    latent_dim, n_samples
        Of :func:`synthetic_clones`. Default 16 and 10,000.
    n_runs
        Layers of each kind. Default 4.
    n_chunks
        Chunks of each size, at least 2. Default 40. Their sizes are powers of two up to ``width``, and four an octave
        from there.
    seed
        0 <= seed < 2**64. Run k has layers of seed + k (modulo 2**64).
    n_threads, progress
        As in :func:`chunk_statistics`.

    Returns
    -------
    xarray.Dataset
        On (n_clones, noise, run): ``critical_width_estimate``, ``n_clones_estimate`` and ``exponent_estimate``, each
        with ``..._low`` and ``..._high``, NaN where the data do not decide; ``relative_error`` of the number of clones;
        and ``exponent_covered``, whether the interval of the exponent holds -1/2. With chunk_size also ``error``, the
        mean over chunks, and ``r2``, beside the predictions ``error_predicted(noise, chunk_size)``,
        :math:`\arctan(\sqrt{(1 - 1/\mathrm{width} + \mathrm{noise}^2)/w})/\pi`, and ``r2_generic``, from the spectrum.
        NaN beyond the width of the layer.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.

    Notes
    -----
    The asymptotic error is given, 0. The derived error is a power of exactly -1/2 for many neurons only: from w to 2w
    it has -1/2 + v/(4 w), about, with the variance v of the disturbance.

    Examples
    --------
    >>> import wideangle as wa
    >>> comparison = wa.representation.compare((2, 4), (0.5,), width=16, n_samples=4000, n_runs=2, seed=1)
    >>> comparison.relative_error.max().item()
    0.0
    """
    remedy = "give increasing numbers of clones, such as (2, 4, 8)"
    clones = check_increasing_integers("n_clones", n_clones, low=2, high=MAX_WIDTH, remedy=remedy)
    levels = check_increasing("noise", noise, remedy="give increasing standard deviations, such as (0.1, 0.3, 1.0)")
    if levels[0] < 0.0 or levels[-1] > MAX_NOISE:
        raise ValueError(f"noise must lie in [0, {MAX_NOISE:g}], got {levels.tolist()}; give standard deviations")
    width = check_integer("width", width, low=2, high=MAX_WIDTH, remedy="give the neurons of one clone, such as 32")
    remedy = "give a number such as 10_000"
    latent_dim = check_integer("latent_dim", latent_dim, low=1, high=MAX_WIDTH, remedy="give a number such as 16")
    n_samples = check_integer("n_samples", n_samples, low=width + 2, high=MAX_SAMPLES, remedy=remedy)
    n_runs = check_integer("n_runs", n_runs, low=1, high=10**6, remedy="give a number of layers, such as 4")
    n_chunks = check_integer("n_chunks", n_chunks, low=2, high=10**9, remedy="give a number of chunks, such as 40")
    seed = check_seed(seed)
    threads = None if n_threads is None else check_threads(n_threads)
    show = check_flag("progress", progress)

    import xarray as xr

    dims = ("n_clones", "noise", "run")
    shape = (len(clones), len(levels), n_runs)
    sizes = _chunk_sizes(width, clones)
    fitted = {name + end: np.full(shape, np.nan) for name in _FITTED for end in _ENDS}
    curves = {name: np.full((*shape, len(sizes)), np.nan) for name in ("error", "r2", "r2_generic")}
    with progress_callback(math.prod(shape), show, unit="layer") as advance:
        for done, where in enumerate(np.ndindex(shape)):
            of_layer = sizes[sizes <= width * clones[where[0]]]
            seed_of_run = (seed + where[2]) % 2**64
            layer = synthetic_clones(
                n_samples, latent_dim, clones[where[0]], width, float(levels[where[1]]), seed_of_run
            )
            chunks = chunk_statistics(
                layer["features"],
                chunk_sizes=of_layer,
                n_chunks=n_chunks,
                seed=seed_of_run,
                readout=layer["readout"],
                targets=layer["targets"],
                n_threads=threads,
            )
            with warnings.catch_warnings():
                # What cannot be decided is NaN in the result.
                warnings.filterwarnings("ignore", "cannot decide", UserWarning)
                fit = fit_clones(chunks, asymptotic_error=0.0)
            for name, values in fitted.items():
                values[where] = float(fit[name])
            found = {"error": chunks["error_mean"], "r2": chunks["r2_mean"], "r2_generic": fit["r2_generic"]}
            for name, curve in found.items():
                curves[name][where][: len(of_layer)] = curve.values
            if advance is not None:
                advance(done + 1)
    variables: dict[str, Any] = {
        f"{name}_estimate{end}": (dims, fitted[name + end]) for name in _FITTED for end in _ENDS
    }
    variables["relative_error"] = (dims, fitted["n_clones"] / np.array(clones)[:, None, None] - 1.0)
    covered = (fitted["exponent_low"] <= EXPONENT) & (fitted["exponent_high"] >= EXPONENT)
    variables["exponent_covered"] = (dims, covered)
    variables |= {name: ((*dims, "chunk_size"), values) for name, values in curves.items()}
    variance = 1.0 - 1.0 / width + levels[:, None] ** 2
    variables["error_predicted"] = (("noise", "chunk_size"), np.arctan(np.sqrt(variance / np.array(sizes))) / np.pi)
    return xr.Dataset(
        variables,
        {"n_clones": list(clones), "noise": levels, "run": np.arange(n_runs), "chunk_size": sizes},
        attrs=provenance(
            "wideangle.representation.compare",
            source=SOURCE,
            width=width,
            latent_dim=latent_dim,
            n_samples=n_samples,
            n_chunks=n_chunks,
            seed=seed,
        ),
    )


def _chunk_sizes(width: int, clones: tuple[int, ...]) -> NDArray[np.int64]:
    """Return powers of two below the width of a clone, several an octave from there on, and the widths of layers."""
    below = 2 ** np.arange(math.ceil(math.log2(width)))
    octaves = np.arange(1 + math.floor(SIZES_OF_OCTAVE * math.log2(clones[-1]))) / SIZES_OF_OCTAVE
    above = np.round(width * 2.0**octaves).astype(np.int64)
    return np.unique(np.concatenate([below, above, width * np.array(clones)]))
