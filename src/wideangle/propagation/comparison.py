"""Predictions of the angle against an ensemble, in units of its standard error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wideangle._checks import check_choice
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation.prediction import APPROXIMATIONS, METHODS, predict_angles
from wideangle.propagation.simulation import simulate_angles

if TYPE_CHECKING:
    import xarray as xr


def compare_angles(
    net: MLP,
    theta0: float,
    *,
    n_samples: int,
    seed: int,
    methods: Iterable[str] = APPROXIMATIONS,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare predictions of :math:`\ln\sin^2\theta_l` with an ensemble of random networks.

    Parameters
    ----------
    net, theta0
        Bias-free ReLU network and angle between the inputs in radians, 0 < theta0 <= pi.
    n_samples, seed, n_threads, progress
        Of the ensemble, as in :func:`simulate_angles`.
    methods
        Methods of :func:`predict_angles`; default the four approximations. ``"exact"`` is meant to pass at any number
        of samples, and ``"expansion"`` is of order 3.

    Returns
    -------
    xarray.Dataset
        Over ``predictor``, the methods (a dimension named method would clash with an argument of xarray's ``sel``), and
        ``layer`` 0...L: the predicted ``log_sin2(predictor, layer)`` and ``variance(predictor, layer)``;
        ``ensemble_mean``, ``ensemble_variance``, their ``ensemble_mean_standard_error`` and
        ``ensemble_variance_standard_error``, and the counts ``survivors``, ``collapsed`` and ``dead``, by layer;
        ``z_mean(predictor, layer)`` and ``z_variance(predictor, layer)``: ensemble minus prediction in standard errors
        of the ensemble, NaN at layer 0, where nothing is random. A \|z\| above 5 says that the method is off by more
        than the ensemble can hide, not that it is off by much.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, before any work.

    References
    ----------
    The methods' own; see :func:`predict_angles`.

    Examples
    --------
    >>> import wideangle as wa
    >>> net = wa.MLP(widths=(256,) * 8)
    >>> result = wa.propagation.compare_angles(net, 0.1, n_samples=20_000, seed=1)
    >>> bool(abs(result.z_mean.sel(predictor="infinite-width", layer=8)) > 5)
    True
    """
    names = _check_methods(methods)
    predictions = [predict_angles(net, theta0, method=name) for name in names]
    ensemble = simulate_angles(net, theta0, n_samples=n_samples, seed=seed, n_threads=n_threads, progress=progress)
    return _against_ensemble(net, theta0, names, predictions, ensemble)


def _against_ensemble(
    net: MLP, theta0: float, names: tuple[str, ...], predictions: list[xr.Dataset], ensemble: xr.Dataset
) -> xr.Dataset:
    import xarray as xr

    result: xr.Dataset = xr.concat([one[["log_sin2", "variance"]] for one in predictions], dim="predictor")
    result.coords["predictor"] = list(names)
    for name in ("mean", "variance", "mean_standard_error", "variance_standard_error"):
        result[f"ensemble_{name}"] = ensemble[name]
    for name in ("survivors", "collapsed", "dead"):
        result[name] = ensemble[name]
    for quantity, predicted in (("mean", "log_sin2"), ("variance", "variance")):
        error = ensemble[f"{quantity}_standard_error"]
        difference = ensemble[quantity] - result[predicted]
        z = (difference / error.where(error > 0)).transpose("predictor", "layer")
        result[f"z_{quantity}"] = z
    result.attrs = provenance(
        "wideangle.propagation.compare_angles",
        source=f"predictions: wideangle.propagation.predict_angles; ensemble: {ensemble.attrs['source']}",
        net=net,
        theta0=float(theta0),
        n_samples=ensemble.attrs["n_samples"],
        seed=ensemble.attrs["seed"],
        methods=names,
    )
    return result


def _check_methods(methods: Any) -> tuple[str, ...]:
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise TypeError(f"methods must be a sequence of method names, got {methods!r}; give a subset of {METHODS}")
    names = tuple(check_choice("methods", name, METHODS) for name in methods)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"methods must name at least one method and each once, got {names}; choose among {METHODS}")
    return names
