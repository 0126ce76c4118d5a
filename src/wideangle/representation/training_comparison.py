"""Errors of trained networks and of their chunks beside the predicted power of the width."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_choice, check_flag, check_integer, check_real, check_seed, check_threads
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.representation._decay import Decay, fit_width_decay
from wideangle.representation.chunks import chunk_statistics
from wideangle.representation.clone_number import CONFIDENCE, fit_clones

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 2106.03485: test error of networks and of chunks less its limit, like w^(-1/2)"
_REGRESSIONS = ("r2", "residual_correlation", "r2_outside", "residual_correlation_outside")
_INTERVALS = ("critical_width", "n_clones")
_ENDS = ("", "_low", "_high")

Array = NDArray[np.float64]


def compare_training(
    trained: xr.Dataset,
    *,
    kept: str = "last",
    asymptotic_error: float | None = None,
    critical_width: float | None = None,
    regress: Literal["train", "test"] = "train",
    n_chunks: int = 40,
    seed: int,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare errors of trained networks, and of chunks of their last hidden layer, with the power -1/2 of the width.

    Parameters
    ----------
    trained
        From :func:`train_widths`, with at least two runs.
    kept
        Which of the kept activations to take, such as ``"last"`` (default) or ``"zero training error"``.
    asymptotic_error
        The test error of infinitely wide networks. Default None: that of the ensemble of all runs at the greatest
        width, whose softmax probabilities are averaged.
    critical_width
        A critical width for all networks in place of those that :func:`fit_clones` finds. Default None.
    regress
        Samples of the regressions between neurons, ``"train"`` (default), of which there are more, or ``"test"``.
    n_chunks, seed, n_threads
        As in :func:`chunk_statistics`; at least two chunks.
    progress
        Show a progress bar; default False.

    Returns
    -------
    xarray.Dataset
        - On (width, run, chunk_size), means over chunks, NaN beyond the width: ``r2``, ``residual_correlation``,
          ``r2_outside`` and ``residual_correlation_outside``, and ``train_error`` and ``test_error`` of chunks.
        - On (width, run): ``critical_width`` and ``n_clones``, with ``..._low`` and ``..._high``, ``decided`` and
          ``reason``; ``chunk_exponent``, with ends, of test error - asymptotic error in the size of the chunk, from the
          critical width on. NaN where the data cannot decide, or the network diverged.
        - ``asymptotic_error``; ``full_error(width, run)``, the test error of networks; ``width_exponent``, with
          ``..._low`` and ``..._high``: of its mean over runs less the asymptotic error in the width, with a 95 %
          interval over runs.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.

    Notes
    -----
    In arXiv 2106.03485 the asymptotic error is that of an ensemble of the widest networks. Chunks of one layer share
    its training, networks of different width do not: that both go alike is what clones explain.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> trained = wa.representation.train_widths(data, (16, 32, 64), n_runs=2, weight_decay=3e-3, seed=1)
    >>> comparison = wa.representation.compare_training(trained, seed=1, n_chunks=5)
    >>> dict(comparison.r2.sizes)
    {'width': 3, 'run': 2, 'chunk_size': 7}
    """
    _check_trained(trained, kept)
    check_choice("regress", regress, ("train", "test"))
    limit = _check_error(asymptotic_error)
    if critical_width is not None:
        critical_width = check_real("critical_width", critical_width, remedy="give a number of neurons, or None")
        if not 1.0 <= critical_width <= trained["width"].values[0]:
            raise ValueError(
                f"critical_width must lie between 1 and {trained['width'].values[0]}, the least width, got"
                f" {critical_width!r}; give another, or None to estimate it"
            )
    n_chunks = check_integer("n_chunks", n_chunks, low=2, high=10**9, remedy="give a number of chunks, such as 40")
    seed = check_seed(seed)
    threads = None if n_threads is None else check_threads(n_threads)
    show = check_flag("progress", progress)

    import xarray as xr

    widths, n_runs = trained["width"].values, trained.sizes["run"]
    last = trained.sel(kept=kept)
    if limit is None:
        limit = _ensemble_error(last, int(widths[-1]))
    sizes = np.unique(np.concatenate([2 ** np.arange(int(math.log2(widths[-1])) + 1), widths]))
    shape = (len(widths), n_runs)
    curves = {name: np.full((*shape, len(sizes)), np.nan) for name in (*_REGRESSIONS, "train_error", "test_error")}
    names = [name + end for name in (*_INTERVALS, "chunk_exponent") for end in _ENDS]
    fitted = {name: np.full(shape, np.nan) for name in names}
    decided, reasons = np.zeros(shape, dtype=bool), np.full(shape, "the network diverged", dtype=object)
    full = np.full(shape, np.nan)
    with progress_callback(math.prod(shape), show, unit="network") as advance:
        for done, (place, run) in enumerate(np.ndindex(shape)):
            of_width = sizes[sizes <= widths[place]]
            parts = _parts(last.isel(run=run), int(widths[place]), of_width, n_chunks, seed, threads)
            if parts is not None:
                for name in _REGRESSIONS:
                    curves[name][place, run, : len(of_width)] = parts[regress][f"{name}_mean"]
                for part in ("train", "test"):
                    curves[f"{part}_error"][place, run, : len(of_width)] = parts[part]["error_mean"]
                full[place, run] = float(parts["test"]["error_mean"][-1])
                fit = _fit(parts, regress, limit, critical_width)
                for name in names:
                    fitted[name][place, run] = float(fit[name.replace("chunk_", "")])
                decided[place, run], reasons[place, run] = fit.attrs["decided"], fit.attrs["reason"]
            if advance is not None:
                advance(done + 1)
    by_width = _width_decay(full, widths, limit)
    over = ("width", "run")
    variables: dict[str, Any] = {
        **{name: ((*over, "chunk_size"), values) for name, values in curves.items()},
        **{name: (over, values) for name, values in fitted.items()},
        "decided": (over, decided),
        "reason": (over, reasons.astype(str)),
        "full_error": (over, full),
        "asymptotic_error": limit,
        "width_exponent": by_width.exponent,
        "width_exponent_low": by_width.low,
        "width_exponent_high": by_width.high,
    }
    return xr.Dataset(
        variables,
        {"width": widths, "run": trained["run"].values, "chunk_size": sizes},
        attrs=provenance(
            "wideangle.representation.compare_training",
            source=SOURCE,
            kept=kept,
            regress=regress,
            n_chunks=n_chunks,
            seed=seed,
            width_exponent_reason=by_width.reason,
        ),
    )


def _check_trained(trained: Any, kept: Any) -> None:
    name = str(getattr(trained, "attrs", {}).get("function", ""))
    if not name.endswith("representation.train_widths"):
        raise TypeError(f"trained must be the result of train_widths, got {type(trained).__name__}")
    if trained.sizes["run"] < 2:
        raise ValueError(
            "trained must have at least 2 runs for an interval over them, got 1; give n_runs to train_widths"
        )
    check_choice("kept", kept, [str(each) for each in trained["kept"].values])


def _check_error(value: Any) -> float | None:
    if value is None:
        return None
    remedy = "give an error such as 0.02, or None for that of an ensemble"
    error = check_real("asymptotic_error", value, remedy=remedy)
    if not 0.0 <= error < 1.0:
        raise ValueError(f"asymptotic_error must lie in [0, 1), got {error!r}; {remedy}")
    return error


def _ensemble_error(last: xr.Dataset, width: int) -> float:
    """Return the test error of the mean over runs of softmax probabilities."""
    from scipy.special import softmax

    features, readout = last[f"test_features_{width}"].values, last[f"readout_{width}"].values
    outputs = np.einsum("rsn,rcn->rsc", features, readout) + last[f"bias_{width}"].values[:, None]
    usable = np.isfinite(outputs).all(axis=(1, 2))
    if not usable.any():
        raise ValueError(f"all networks of width {width} diverged; give asymptotic_error, or train with a lower rate")
    probabilities = softmax(outputs[usable].astype(np.float64), axis=-1).mean(axis=0)
    return float(np.mean(probabilities.argmax(axis=-1) != last["test_targets"].values))


def _parts(
    network: xr.Dataset, width: int, sizes: NDArray[np.int64], n_chunks: int, seed: int, threads: int | None
) -> dict[str, xr.Dataset] | None:
    """Return statistics of chunks on training and test samples, the same chunks; None if the network diverged."""
    if not np.isfinite(network[f"readout_{width}"].values).all():
        return None
    parts = {}
    with warnings.catch_warnings():
        # Where samples are few, the reason why the data cannot decide says so.
        warnings.filterwarnings("ignore", "features have", UserWarning)
        for part in ("train", "test"):
            parts[part] = chunk_statistics(
                network[f"{part}_features_{width}"],
                chunk_sizes=sizes,
                n_chunks=n_chunks,
                seed=seed,
                readout=network[f"readout_{width}"],
                bias=network[f"bias_{width}"],
                targets=network[f"{part}_targets"],
                n_threads=threads,
            )
    return parts


def _fit(parts: dict[str, xr.Dataset], regress: str, limit: float, critical_width: float | None) -> xr.Dataset:
    """Return the fit to regressions of one part and errors of the test samples."""
    statistics = parts[regress].assign(error=parts["test"]["error"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cannot decide", UserWarning)
        return fit_clones(statistics, asymptotic_error=limit, critical_width=critical_width, training=parts["train"])


def _width_decay(full: Array, widths: NDArray[np.int64], limit: float) -> Decay:
    """Return the power of the width in the mean error of networks; runs of all widths that diverged are left out."""
    runs = np.isfinite(full).all(axis=0)
    if np.count_nonzero(runs) < 2:
        return Decay(math.nan, math.nan, math.nan, math.nan, math.nan, "fewer than two runs did not diverge")
    return fit_width_decay(full[:, runs].T, widths, limit, confidence=CONFIDENCE, seed=0)
