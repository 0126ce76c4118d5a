"""Ensembles of random networks, seen through the angle between two inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle import _core
from wideangle._checks import (
    check_choice,
    check_flag,
    check_integer,
    check_memory,
    check_real,
    check_samples,
    check_seed,
    check_theta0,
    check_threads,
)
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._ensembles import check_index, moments_of
from wideangle.propagation._network import check_angle_network

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "exact Markov chain of two inputs through a random ReLU network; arXiv 2302.09712, section 2"
MAX_BINS = 10_000_000


def simulate_angles(
    net: MLP,
    theta0: float,
    *,
    n_samples: int,
    seed: int,
    keep: str = "moments",
    n_threads: int | None = None,
    progress: bool = False,
    first_sample: int = 0,
    histogram: tuple[float, float, int] | None = None,
) -> xr.Dataset:
    r"""Simulate the angle between two inputs through an ensemble of random ReLU networks.

    Each sample is an independent network. Given the angle :math:`\theta_{l-1}`, the pre-activations of layer :math:`l`
    are :math:`n_l` independent Gaussian pairs with correlation :math:`\cos\theta_{l-1}`, so a layer costs
    :math:`O(n_l)` random numbers and no weights, with the same law as a network of real weights. The recursion carries
    :math:`X_l = \ln\sin^2\theta_l` and does not cancel: X may run to -1000 and below.

    A ReLU layer can map an input to zero (the pair is *dead*) or both inputs to the same direction (*collapsed*,
    :math:`\theta_l = 0`). Both last, both have positive probability at every finite width, and both are decided by
    counting active neurons. Moments are over the pairs that survive up to the layer.

    Parameters
    ----------
    net
        Bias-free ReLU network; ``weight_variance`` enters the norms only.
    theta0
        Angle between the two inputs in radians, 0 < theta0 <= pi.
    n_samples
        Number of independent networks.
    seed
        Non-negative integer below 2**64. Sample k depends on the seed, k, theta0 and the widths alone: not on
        ``n_samples``, ``n_threads``, the processor's instruction set, or the order of the work. Equality across minor
        versions of the package is not promised.
    keep
        ``"moments"`` (default): reduced as the samples come, in memory that does not grow with their number.
        ``"samples"``: every sample, 17 bytes each and layer.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.
    first_sample
        Index of the first sample, default 0, so that one ensemble can be computed in parts.
    histogram
        ``(low, high, n_bins)`` to count X in equal bins on [low, high) as well; only with ``keep="moments"``.

    Returns
    -------
    xarray.Dataset
        Over ``layer`` 0...L, 0 being the input. With ``keep="moments"``: ``mean`` and ``variance`` of X and their
        standard errors ``mean_standard_error``, ``variance_standard_error``; ``log_norm2_mean`` and
        ``log_norm2_variance`` of :math:`\ln(|\phi(z^l)|^2/n_l) - \ln(|\phi(z^0)|^2/n_0)` of the first input; the
        counts ``survivors``, and ``collapsed`` and ``dead`` up to the layer; with ``histogram`` also
        ``histogram(layer, bin)``, ``underflow`` and ``overflow``. With ``keep="samples"``:
        ``log_sin2(sample, layer)`` (-inf once collapsed, NaN once dead), ``log_norm2(sample, layer)`` (NaN once
        collapsed or dead) and ``status(sample)`` after the last layer (0 alive, 1 collapsed, 2 dead). Variances are
        unbiased, and NaN where too few pairs survive.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    References
    ----------
    C. Jakub and M. Nica, arXiv 2302.09712, section 2 (the Markov chain). The stable form of the recursion is derived in
    the documentation of propagation.

    Examples
    --------
    >>> import wideangle as wa
    >>> net = wa.MLP(widths=(256,) * 32)
    >>> ensemble = wa.propagation.simulate_angles(net, 0.1, n_samples=2000, seed=1)
    >>> round(float(ensemble["mean"].sel(layer=32)), 1)
    -5.4
    >>> int(ensemble.survivors.sel(layer=32))
    2000
    """
    check_angle_network(net)
    theta0 = check_theta0(theta0)
    n_samples = check_samples("n_samples", n_samples)
    seed = check_seed(seed)
    keep = check_choice("keep", keep, ("moments", "samples"))
    n_threads = check_threads(n_threads)
    progress = check_flag("progress", progress)
    first_sample = check_index("first_sample", first_sample, of="first sample")
    bins = _check_histogram(histogram, keep)
    if keep == "samples":
        check_memory(
            17 * n_samples * (net.depth + 1),
            f"n_samples = {n_samples} with keep='samples' needs",
            remedy="use keep='moments', or run parts of the ensemble with first_sample",
        )

    raw = run_kernel(
        net,
        theta0,
        n_samples=n_samples,
        seed=seed,
        first_sample=first_sample,
        n_threads=n_threads or available_threads(),
        keep_samples=keep == "samples",
        histogram=bins,
        progress=progress,
    )
    dataset = _samples_dataset(raw, first_sample) if keep == "samples" else _moments_dataset(raw, bins)
    dataset.attrs = provenance(
        "wideangle.propagation.simulate_angles",
        source=SOURCE,
        net=net,
        theta0=theta0,
        n_samples=n_samples,
        seed=seed,
        keep=keep,
        first_sample=first_sample,
        histogram=bins,
    )
    return dataset


def run_kernel(
    net: MLP,
    theta0: float,
    *,
    n_samples: int,
    seed: int,
    first_sample: int,
    n_threads: int,
    keep_samples: bool,
    histogram: tuple[float, float, int] | None,
    progress: bool = False,
) -> dict[str, Any]:
    """Return what the kernel gives, of arguments that were checked."""
    with progress_callback(n_samples, progress, unit="sample") as advance:
        return _core.simulate_angles(
            theta0,
            list(net.widths),
            net.weight_variance,
            seed=seed,
            first_sample=first_sample,
            n_samples=n_samples,
            n_threads=n_threads,
            cpu_path=active_cpu_path(),
            keep_samples=keep_samples,
            histogram=histogram,
            progress=advance,
        )


def _moments_dataset(raw: dict[str, Any], bins: tuple[float, float, int] | None) -> xr.Dataset:
    import xarray as xr

    log_sin2, log_norm2 = moments_of(raw["log_sin2"]), moments_of(raw["log_norm2"])
    variables: dict[str, Any] = {
        "mean": log_sin2.mean,
        "variance": log_sin2.variance,
        "mean_standard_error": log_sin2.standard_error_mean,
        "variance_standard_error": log_sin2.standard_error_variance,
        "log_norm2_mean": log_norm2.mean,
        "log_norm2_variance": log_norm2.variance,
        "survivors": log_sin2.count,
        "collapsed": raw["collapsed"].astype(np.int64),
        "dead": raw["dead"].astype(np.int64),
    }
    layers = np.arange(log_sin2.count.size)
    dataset = xr.Dataset({name: ("layer", values) for name, values in variables.items()}, {"layer": layers})
    if bins is None:
        return dataset
    low, high, n_bins = bins
    edges = np.linspace(low, high, n_bins + 1)
    dataset["histogram"] = (("layer", "bin"), raw["histogram"].reshape(-1, n_bins).astype(np.int64))
    dataset["underflow"] = ("layer", raw["underflow"].astype(np.int64))
    dataset["overflow"] = ("layer", raw["overflow"].astype(np.int64))
    dataset.coords["bin_left"] = ("bin", edges[:-1])
    dataset.coords["bin_right"] = ("bin", edges[1:])
    return dataset


def _samples_dataset(raw: dict[str, Any], first_sample: int) -> xr.Dataset:
    import xarray as xr

    n_samples, n_layers = raw["sample_log_sin2"].shape
    return xr.Dataset(
        {
            "log_sin2": (("sample", "layer"), raw["sample_log_sin2"]),
            "log_norm2": (("sample", "layer"), raw["sample_log_norm2"]),
            "status": (
                "sample",
                raw["sample_status"],
                {"flag_values": [0, 1, 2], "flag_meanings": "alive collapsed dead"},
            ),
        },
        {"sample": first_sample + np.arange(n_samples), "layer": np.arange(n_layers)},
    )


def _check_histogram(histogram: Any, keep: str) -> tuple[float, float, int] | None:
    remedy = "give (low, high, n_bins), such as (-20.0, 0.0, 400)"
    if histogram is None:
        return None
    if keep != "moments":
        raise ValueError(f"histogram must be None with keep={keep!r}, got {histogram!r}; bin the samples yourself")
    if not isinstance(histogram, (tuple, list)) or len(histogram) != 3:
        raise TypeError(f"histogram must be None or three values, got {histogram!r}; {remedy}")
    low = check_real("histogram[0]", histogram[0], remedy=remedy)
    high = check_real("histogram[1]", histogram[1], remedy=remedy)
    n_bins = check_integer("histogram[2]", histogram[2], low=1, high=MAX_BINS, remedy=remedy)
    if not low < high:
        raise ValueError(f"histogram must have low < high, got {low!r} and {high!r}; {remedy}")
    return low, high, n_bins
