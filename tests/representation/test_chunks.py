"""Statistics of chunks are those of the published procedure, arXiv 2106.03485, in scikit-learn and NumPy.

A chunk is a list of neurons. Features have the shape (sample, neuron), a readout (class, neuron).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from wideangle.representation import chunk_statistics

Array = NDArray[Any]
SIZES = (1, 3, 8, 20, 24)


def residuals(features: Array, chunk: Array, ridge: float) -> tuple[Array, Array]:
    """Return the features in float64, and what a ridge regression on the chunk leaves of them."""
    from scipy.linalg import LinAlgWarning
    from sklearn.linear_model import Ridge

    layer = np.asarray(features, dtype=np.float64)
    inputs = layer[:, chunk]
    with warnings.catch_warnings():
        # Collinear chunks: coefficients are ill-determined, predictions are not.
        warnings.simplefilter("ignore", LinAlgWarning)
        return layer, layer - Ridge(ridge).fit(inputs, layer).predict(inputs).reshape(layer.shape)


def extended_residuals(features: Array, chunk: Array, ridge: float) -> Array:
    """Return residuals in extended precision, by elimination with pivots."""
    centred = features.astype(np.longdouble)
    centred -= centred.mean(axis=0)
    scatter = centred.T @ centred
    size = len(chunk)
    left = scatter[np.ix_(chunk, chunk)] + np.longdouble(ridge) * np.eye(size, dtype=np.longdouble)
    right = scatter[chunk]
    for i in range(size):
        best = i + int(np.argmax(np.abs(left[i:, i])))
        left[[i, best]], right[[i, best]] = left[[best, i]], right[[best, i]]
        factors = (left[:, i] / left[i, i])[:, None]
        factors[i] = 0.0
        left, right = left - factors * left[i], right - factors * right[i]
    rest: Array = centred - centred[:, chunk] @ (right / np.diag(left)[:, None])
    return rest


def r2(features: Array, chunk: Array, ridge: float) -> float:
    """Return R^2 of the whole layer, neurons weighted by their variance."""
    from sklearn.metrics import r2_score

    layer, rest = residuals(features, chunk, ridge)
    return float(r2_score(layer, layer - rest, multioutput="variance_weighted"))


def r2_outside(features: Array, chunk: Array, ridge: float) -> float:
    """Return the same over the neurons outside the chunk, NaN if there is none."""
    layer, rest = residuals(features, chunk, ridge)
    outside = outside_of(chunk, layer.shape[1])
    if outside.size == 0:
        return float("nan")
    return float(1.0 - rest[:, outside].var(axis=0).sum() / layer[:, outside].var(axis=0).sum())


def residual_correlation(features: Array, chunk: Array, ridge: float) -> float:
    """Return the mean size of the correlation of two residuals, over all pairs of neurons."""
    return mean_off_diagonal(residuals(features, chunk, ridge)[1])


def residual_correlation_outside(features: Array, chunk: Array, ridge: float) -> float:
    """Return the same over pairs outside the chunk, NaN if there is none."""
    layer, rest = residuals(features, chunk, ridge)
    outside = outside_of(chunk, layer.shape[1])
    return mean_off_diagonal(rest[:, outside]) if outside.size > 1 else float("nan")


def mean_off_diagonal(rest: Array) -> float:
    covariance = np.cov(rest, rowvar=False)
    variances = np.diag(covariance)
    correlation = covariance / (np.sqrt(np.outer(variances, variances)) + 1e-8)
    return float(np.abs(correlation[np.tril_indices_from(correlation, k=-1)]).mean())


def outside_of(chunk: Array, n_neurons: int) -> Array:
    return np.setdiff1d(np.arange(n_neurons), chunk)


def accuracy_and_loss(
    features: Array, chunk: Array, readout: Array, bias: Array | None, targets: Array
) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy of the chunk, read out by its own columns of the readout."""
    layer = np.asarray(features, dtype=np.float64)
    logits = layer[:, chunk] @ np.asarray(readout, dtype=np.float64)[:, chunk].T
    if bias is not None:
        logits = logits + bias
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = shifted[np.arange(len(layer)), targets]
    loss = float((np.log(np.exp(shifted).sum(axis=1)) - right).mean())
    return float((logits.argmax(axis=1) == targets).mean()), loss


PROCEDURE: dict[str, Callable[[Array, Array, float], float]] = {
    "r2": r2,
    "residual_correlation": residual_correlation,
    "r2_outside": r2_outside,
    "residual_correlation_outside": residual_correlation_outside,
}


def generic(n_samples: int = 300, n_neurons: int = 24, seed: int = 0) -> Array:
    """Correlated features, a few strong directions among weak ones."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_neurons, n_neurons)) * 0.8 ** np.arange(n_neurons)[:, None]
    return rng.standard_normal((n_samples, n_neurons)) @ mixing + 0.1 * rng.standard_normal((n_samples, n_neurons))


def duplicated() -> Array:
    x = generic()
    x[:, 12:20] = x[:, :8]
    return x


def constant() -> Array:
    x = generic()
    x[:, [2, 9, 17]] = [0.0, -3.0, 0.1]
    return x


def collinear() -> Array:
    x = generic()
    x[:, 16:] = x[:, :8] + x[:, 8:16]
    return x


def float32() -> Array:
    return generic().astype(np.float32)


def far_from_zero() -> Array:
    return generic() + 100.0


def scaled() -> Array:
    return generic() * np.geomspace(1.0, 1e3, 24)


def relu_layer() -> Array:
    """Units of random networks of few inputs; some are dead and some of them nearly."""
    rng = np.random.default_rng(1)
    offsets = np.r_[np.full(4, -50.0), rng.uniform(-1.5, 1.0, size=20)]
    x = np.maximum(rng.standard_normal((300, 10)) @ rng.standard_normal((10, 24)) / 10**0.5 + offsets, 0.0)
    assert int((x == 0.0).all(axis=0).sum()) == 4
    return np.asarray(x)


LAYERS = (generic, duplicated, constant, collinear, float32, far_from_zero, scaled, relu_layer)


def compare_with_procedure(features: Array, statistics: xr.Dataset, ridge: float) -> None:
    tolerances = {"r2": 1e-8, "residual_correlation": 1e-7, "r2_outside": 1e-8, "residual_correlation_outside": 1e-7}
    for name, tolerance in tolerances.items():
        expected = [
            [
                PROCEDURE[name](features, statistics.order.values[k, :size], ridge)
                for k in range(statistics.sizes["chunk"])
            ]
            for size in statistics.chunk_size.values
        ]
        assert statistics[name].dims == ("chunk_size", "chunk")
        np.testing.assert_allclose(statistics[name], expected, rtol=0.0, atol=tolerance, err_msg=name)


# At ridge 1e-8 residuals of the chunk are roundings in scikit-learn. Times those of neurons a thousand times larger
# they are no longer small beside the 1e-8 of the denominator: its correlations of `scaled` are off by up to 5e-6 from
# those in extended precision, below. Here its features are divided by 100.
@pytest.mark.parametrize("ridge", [1e-8, 1e-2])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_statistics_are_those_of_the_procedure(layer: Callable[[], Array], ridge: float) -> None:
    features = layer() if layer is not scaled or ridge > 1e-8 else layer() / 1e2
    statistics = chunk_statistics(features, chunk_sizes=SIZES, n_chunks=4, seed=1, ridge=ridge)
    compare_with_procedure(features, statistics, ridge)


@pytest.mark.parametrize("ridge", [1e-8, 1e-2, 10.0])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_statistics_are_those_in_extended_precision(layer: Callable[[], Array], ridge: float) -> None:
    features = layer()
    statistics = chunk_statistics(features, chunk_sizes=SIZES, n_chunks=2, seed=1, ridge=ridge)
    for size in statistics.chunk_size.values:
        for k in range(2):
            rest = extended_residuals(features, statistics.order.values[k, :size], ridge)
            found = statistics.sel(chunk_size=size).isel(chunk=k)
            explained = 1.0 - rest.var(axis=0).sum() / features.astype(np.longdouble).var(axis=0).sum()
            assert abs(float(found.r2) - explained) < 1e-12
            assert abs(float(found.residual_correlation) - mean_off_diagonal(rest)) < 1e-8


def test_the_ridge_matters() -> None:
    features = generic() / 10.0
    small, large = (chunk_statistics(features, chunk_sizes=[8], n_chunks=2, seed=1, ridge=r) for r in (1e-8, 10.0))
    assert (small.r2 - large.r2 > 1e-3).all()
    compare_with_procedure(features, large, 10.0)


def test_fewer_samples_than_neurons_are_warned_of() -> None:
    features = generic(n_samples=15)
    with pytest.warns(UserWarning, match=r"15\D.*24"):
        statistics = chunk_statistics(features, chunk_sizes=SIZES, n_chunks=4, seed=1, ridge=1e-2)
    compare_with_procedure(features, statistics, 1e-2)


def projections(features: Array, chunk: Array) -> Array:
    """What least squares on the chunk leaves of centred features."""
    centred = features - features.mean(axis=0)
    left = centred - centred[:, chunk] @ np.linalg.lstsq(centred[:, chunk], centred, rcond=1e-10)[0]
    return np.asarray(left)


@pytest.mark.parametrize("layer", [generic, duplicated, collinear, relu_layer], ids=lambda layer: layer.__name__)
def test_without_ridge_regressions_are_least_squares(layer: Callable[[], Array]) -> None:
    features = layer()
    statistics = chunk_statistics(features, chunk_sizes=SIZES, n_chunks=3, seed=2, ridge=0.0)
    for k, order in enumerate(statistics.order.values):
        for i, size in enumerate(SIZES):
            left = projections(features, order[:size])
            expected = 1.0 - left.var(axis=0).sum() / features.var(axis=0).sum()
            np.testing.assert_allclose(statistics.r2.values[i, k], expected, rtol=0.0, atol=1e-10)
            expected = mean_off_diagonal(left)
            np.testing.assert_allclose(statistics.residual_correlation.values[i, k], expected, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("layer", [generic, duplicated, collinear, relu_layer], ids=lambda layer: layer.__name__)
def test_the_procedure_tends_to_least_squares(layer: Callable[[], Array]) -> None:
    features = layer()
    rng = np.random.default_rng(3)
    for size in (1, 5, 12, 23):
        chunk = rng.permutation(24)[:size]
        left, total = projections(features, chunk), features.var(axis=0)
        assert abs(r2(features, chunk, 1e-8) - (1.0 - left.var(axis=0).sum() / total.sum())) < 1e-9
        outside = outside_of(chunk, 24)
        expected = 1.0 - left[:, outside].var(axis=0).sum() / total[outside].sum()
        assert abs(r2_outside(features, chunk, 1e-8) - expected) < 1e-8


def test_the_procedure_on_cases_known_by_hand() -> None:
    # Orthogonal columns: those in the chunk are explained, the others not at all and uncorrelated.
    x = np.linalg.qr(np.c_[np.ones(40), np.random.default_rng(0).standard_normal((40, 6))])[0][:, 1:] * 40**0.5
    chunk = np.array([4, 1])
    assert abs(r2(x, chunk, 1e-8) - 2 / 6) < 1e-9
    assert abs(r2_outside(x, chunk, 1e-8)) < 1e-9
    assert residual_correlation(x, chunk, 1e-8) < 1e-7
    # A copy of the neuron outside: its two residuals are one.
    x[:, 5] = x[:, 0]
    assert abs(residual_correlation(x, chunk, 1e-8) - 1 / 15) < 1e-7
    assert abs(residual_correlation_outside(x, chunk, 1e-8) - 1 / 6) < 1e-7
    # A ridge of the size of the sum of squares halves the coefficient: a quarter of the variance is left.
    assert abs(r2(x[:, :1], np.array([0]), 40.0) - 0.75) < 1e-12
    # Logits (1, 0) twice and (0, 1): one label wrong.
    read = accuracy_and_loss(np.eye(2)[[0, 0, 1]], np.arange(2), np.eye(2), None, np.array([0, 1, 1]))
    np.testing.assert_allclose(read, (2 / 3, np.log1p(np.exp(1.0)) - 2 / 3), rtol=1e-14)


def labelled(n_classes: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    features = generic()
    readout, bias = rng.standard_normal((n_classes, 24)), rng.standard_normal(n_classes)
    noisy = features @ readout.T + bias + rng.standard_normal((300, n_classes))
    return {"features": features, "readout": readout, "bias": bias, "targets": noisy.argmax(axis=1)}


@pytest.mark.parametrize("with_bias", [True, False])
def test_accuracy_and_loss(with_bias: bool) -> None:
    data = labelled()
    if not with_bias:
        del data["bias"]
    statistics = chunk_statistics(**data, chunk_sizes=SIZES, n_chunks=4, seed=1)
    for k, order in enumerate(statistics.order.values):
        for i, size in enumerate(SIZES):
            accuracy, loss = accuracy_and_loss(
                data["features"], order[:size], data["readout"], data.get("bias"), data["targets"]
            )
            assert float(statistics.accuracy[i, k]) == pytest.approx(accuracy, abs=1e-12)
            assert float(statistics.error[i, k]) == pytest.approx(1.0 - accuracy, abs=1e-12)
            assert float(statistics.loss[i, k]) == pytest.approx(loss, rel=1e-9)
    assert float(statistics.accuracy[-1, 0]) > 0.8


def test_means_and_standard_errors() -> None:
    names = {"r2", "residual_correlation", "r2_outside", "residual_correlation_outside", "accuracy", "error", "loss"}
    statistics = chunk_statistics(**labelled(), n_chunks=6, seed=1)
    assert set(statistics.data_vars) >= names | {f"{n}_{s}" for n in names for s in ("mean", "standard_error")}
    for name in names:
        values = statistics[name].values
        np.testing.assert_allclose(statistics[f"{name}_mean"], values.mean(axis=1), rtol=1e-12)
        expected = values.std(axis=1, ddof=1) / 6**0.5
        np.testing.assert_allclose(statistics[f"{name}_standard_error"], expected, rtol=1e-9, atol=1e-15)
        assert statistics[f"{name}_mean"].dims == statistics[f"{name}_standard_error"].dims == ("chunk_size",)
    one = chunk_statistics(**labelled(), n_chunks=1, seed=1)
    assert all(np.isnan(one[f"{name}_standard_error"]).all() for name in names)
    without = chunk_statistics(generic(), n_chunks=2, seed=1)
    assert not {"accuracy", "error", "loss"} & set(without.data_vars)


def test_few_neurons_outside() -> None:
    statistics = chunk_statistics(generic(), chunk_sizes=[22, 23, 24], n_chunks=3, seed=1)
    np.testing.assert_array_equal(np.isnan(statistics.r2_outside).all("chunk"), [False, False, True])
    np.testing.assert_array_equal(np.isnan(statistics.residual_correlation_outside).all("chunk"), [False, True, True])


@pytest.mark.parametrize(
    ("width", "sizes"), [(2, [1, 2]), (16, [1, 2, 4, 8, 16]), (24, [1, 2, 4, 8, 16]), (31, [1, 2, 4, 8, 16])]
)
def test_default_sizes_are_powers_of_two(width: int, sizes: list[int]) -> None:
    statistics = chunk_statistics(generic(n_neurons=width), n_chunks=2, seed=1)
    assert statistics.chunk_size.values.tolist() == sizes


def test_chunks_are_permutations_that_depend_on_the_seed_and_their_number_alone() -> None:
    five, ten = (chunk_statistics(**labelled(), n_chunks=n, seed=3) for n in (5, 10))
    xr.testing.assert_equal(five[["order", "accuracy"]], ten[["order", "accuracy"]].isel(chunk=slice(5)))
    np.testing.assert_allclose(five.r2, ten.r2[:, :5], rtol=0.0, atol=1e-13)
    assert five.order.dims == ("chunk", "neuron")
    np.testing.assert_array_equal(np.sort(ten.order.values, axis=1), np.tile(np.arange(24), (10, 1)))
    assert len(np.unique(ten.order.values, axis=0)) == 10
    other = chunk_statistics(**labelled(), n_chunks=5, seed=4)
    assert (other.order.values != five.order.values).any(axis=1).all()
    fewer = chunk_statistics(**labelled(), chunk_sizes=[4], n_chunks=5, seed=3)
    np.testing.assert_array_equal(fewer.order, five.order)


def test_every_neuron_is_as_likely_in_a_chunk() -> None:
    order = chunk_statistics(generic(20, 6), chunk_sizes=[1], n_chunks=2000, seed=5).order.values
    for place in range(6):
        counts = np.bincount(order[:, place], minlength=6)
        assert np.abs(counts - 2000 / 6).max() < 5.0 * np.sqrt(2000 * 5 / 36)


def test_results_do_not_depend_on_threads() -> None:
    one, three = (chunk_statistics(**labelled(), n_chunks=7, seed=3, n_threads=n) for n in (1, 3))
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], three[name], err_msg=str(name))


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda x: x.astype(">f8"), lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x[::-1][::-1]],
    ids=["column-major", "big-endian", "strided", "reversed"],
)
def test_layouts(change: Callable[[Array], Array]) -> None:
    features = generic()
    given = change(features)
    given.flags.writeable = False
    xr.testing.assert_equal(chunk_statistics(given, n_chunks=2, seed=1), chunk_statistics(features, n_chunks=2, seed=1))
    np.testing.assert_array_equal(features, generic())


def test_missing_samples_are_counted_and_refused_or_dropped() -> None:
    data = labelled()
    complete = {name: data[name].copy() for name in data}
    data["features"][[7, 7, 200], [1, 5, 23]] = np.nan
    with pytest.raises(ValueError, match=r"features.*\b2 of 300 samples.*drop"):
        chunk_statistics(**data, n_chunks=2, seed=1)
    dropped = chunk_statistics(**data, n_chunks=2, seed=1, missing="drop")
    for name in ("features", "targets"):
        complete[name] = np.delete(complete[name], [7, 200], axis=0)
    by_hand = chunk_statistics(**complete, n_chunks=2, seed=1)
    xr.testing.assert_equal(dropped[list(by_hand.data_vars)], by_hand)
    with pytest.raises(ValueError, match="features"):
        chunk_statistics(np.full((30, 4), np.nan), n_chunks=2, seed=1, missing="drop")


BAD = {
    "one dimension": ({"features": np.ones(24)}, ValueError, "features"),
    "complex": ({"features": generic() * 1j}, TypeError, "features"),
    "empty": ({"features": np.empty((0, 24))}, ValueError, "features"),
    "infinite": ({"features": np.where(np.arange(24) == 3, np.inf, generic())}, ValueError, "features"),
    "all constant": ({"features": np.full((300, 24), 0.1)}, ValueError, "features"),
    "readout too narrow": ({"readout": np.ones((5, 23))}, ValueError, "readout"),
    "readout transposed": ({"readout": np.ones((24, 5))}, ValueError, "readout"),
    "readout not finite": ({"readout": np.full((5, 24), np.nan)}, ValueError, "readout"),
    "bias too long": ({"bias": np.ones(6)}, ValueError, "bias"),
    "label too large": ({"targets": np.full(300, 5)}, ValueError, "targets"),
    "label negative": ({"targets": np.full(300, -1)}, ValueError, "targets"),
    "labels not integers": ({"targets": np.full(300, 0.5)}, (TypeError, ValueError), "targets"),
    "targets too few": ({"targets": np.zeros(299, int)}, ValueError, "targets"),
    "readout without targets": ({"targets": None}, (TypeError, ValueError), "targets"),
    "targets without readout": ({"readout": None, "bias": None}, (TypeError, ValueError), "readout"),
    "bias without readout": ({"readout": None, "targets": None}, (TypeError, ValueError), "readout"),
    "chunk beyond the width": ({"chunk_sizes": [4, 25]}, ValueError, r"chunk_sizes.*25"),
    "chunk of none": ({"chunk_sizes": [0, 4]}, ValueError, "chunk_sizes"),
    "sizes unsorted": ({"chunk_sizes": [8, 4]}, ValueError, "chunk_sizes"),
    "sizes twice": ({"chunk_sizes": [4, 4]}, ValueError, "chunk_sizes"),
    "no sizes": ({"chunk_sizes": []}, ValueError, "chunk_sizes"),
    "sizes not integers": ({"chunk_sizes": [1.5]}, (TypeError, ValueError), "chunk_sizes"),
    "no chunks": ({"n_chunks": 0}, ValueError, "n_chunks"),
    "ridge negative": ({"ridge": -1e-8}, ValueError, "ridge"),
    "ridge not a number": ({"ridge": float("nan")}, ValueError, "ridge"),
    "seed negative": ({"seed": -1}, ValueError, "seed"),
    "first chunk negative": ({"first_chunk": -1}, ValueError, "first_chunk must lie between 0"),
    "missing": ({"missing": "ignore"}, ValueError, "missing"),
    "threads": ({"n_threads": 0}, ValueError, "n_threads"),
    "progress": ({"progress": "yes"}, TypeError, "progress"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {**labelled(), "n_chunks": 2, "seed": 1, **change}
    with pytest.raises(error, match=message):
        chunk_statistics(**arguments)


def test_parts_of_a_set_of_chunks_are_those_of_the_whole() -> None:
    features = generic()
    whole = chunk_statistics(features, n_chunks=7, seed=3, chunk_sizes=(1, 8, 24))
    parts = [
        chunk_statistics(features, n_chunks=n, seed=3, chunk_sizes=(1, 8, 24), first_chunk=k)
        for k, n in ((0, 2), (2, 5))
    ]
    for name in (*PROCEDURE, "order"):
        joined = np.concatenate([part[name].transpose("chunk", ...).values for part in parts])
        np.testing.assert_array_equal(joined, whole[name].transpose("chunk", ...).values)
    assert parts[1]["chunk"].values.tolist() == [2, 3, 4, 5, 6]
