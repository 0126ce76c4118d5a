"""Groups of neurons are the clones where there are any, and are said to be arbitrary or absent where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from wideangle import _core
from wideangle.representation import chunk_statistics, find_clones, synthetic_clones
from wideangle.representation._factors import fit_factors

Array = NDArray[Any]


def rand_index(a: Array, b: Array) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(np.asarray(a), np.asarray(b)))


def clones(n_clones: int, noise: float, seed: int = 1, n_samples: int = 10_000, width: int = 32) -> xr.Dataset:
    return synthetic_clones(n_samples, 8, n_clones, width, noise, seed)


def mixtures(n_neurons: int, n_signals: int, noise: float, seed: int = 1, n_samples: int = 5000) -> Array:
    """Return features of which each is a generic mixture of all signals."""
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((n_signals, n_neurons)) / n_signals**0.5
    signals = rng.standard_normal((n_samples, n_signals))
    return np.asarray(signals @ loadings + noise * rng.standard_normal((n_samples, n_neurons)))


def copies(n_copies: int, n_signals: int, noise: float, seed: int = 1, n_samples: int = 5000) -> Array:
    """Return noisy copies of signals: neuron i copies signal i modulo n_signals."""
    rng = np.random.default_rng(seed)
    signals = np.tile(rng.standard_normal((n_samples, n_signals)), n_copies)
    return np.asarray(signals + noise * rng.standard_normal(signals.shape))


@pytest.mark.parametrize("noise", [0.03, 0.3, 1.0])
@pytest.mark.parametrize("n_clones", [2, 4, 8])
def test_clones_are_recovered_exactly(n_clones: int, noise: float) -> None:
    layer = clones(n_clones, noise)
    found = find_clones(layer.features, seed=3)
    assert found.verdict == "stable"
    assert (int(found.n_signals), int(found.n_groups), int(found.n_insufficient)) == (32, n_clones, 0)
    assert rand_index(layer.clone, found.membership) == 1.0
    assert float(found.stability) > 0.9
    assert float(found.stability_of_mixtures.max()) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_samples", [1000, 3000, 30_000])
@pytest.mark.parametrize("n_clones", [2, 4, 8])
def test_recovery_needs_few_samples_where_noise_is_small(n_clones: int, n_samples: int, seed: int) -> None:
    layer = clones(n_clones, 0.2, seed, n_samples)
    found = find_clones(layer.features, seed=seed)
    assert found.verdict == "stable"
    assert rand_index(layer.clone, found.membership) == 1.0


@pytest.mark.parametrize("noise", [0.03, 0.3, 1.0])
def test_noise_is_that_of_the_layer(noise: float) -> None:
    layer = clones(4, noise)
    found = find_clones(layer.features, seed=1, n_starts=2)
    expected = noise**2 / ((layer.mixing**2).sum("signal") + noise**2)
    # A variance of N samples less the signals', of which each takes one and those of the neuron are fitted too.
    np.testing.assert_allclose(found.noise, expected, rtol=5 * (2 / 10_000) ** 0.5 + 2 * 32 / 10_000)


def test_groups_of_generic_mixtures_are_arbitrary() -> None:
    found = find_clones(mixtures(128, 16, 0.3), seed=1)
    assert found.verdict == "arbitrary"
    assert (int(found.n_signals), int(found.n_groups)) == (16, 8)
    assert float(found.stability) < 0.15
    # Any sixteen neurons carry the sixteen signals.
    assert (found.weakest_signal > 0.05).all()
    assert (found.consistency < 0.6).all()


def test_small_layers_of_mixtures_are_not_stable() -> None:
    verdicts = [find_clones(mixtures(12, 4, 0.3, seed=seed), seed=1).verdict for seed in range(20)]
    assert verdicts.count("stable") <= 3


def test_groups_hold_one_copy_of_each_signal_and_which_is_arbitrary() -> None:
    found = find_clones(copies(6, 20, 0.3), seed=1)
    assert found.verdict == "arbitrary"
    for group in range(6):
        assert sorted(np.flatnonzero(found.membership == group) % 20) == list(range(20))
    assert float(found.stability) < 0.15


@pytest.mark.parametrize("n_samples", [110, 200, 5000])
def test_unrelated_neurons_are_no_clones(n_samples: int) -> None:
    features = np.random.default_rng(n_samples).standard_normal((n_samples, 100))
    found = find_clones(features, seed=1)
    assert found.verdict == "no clones"
    assert int(found.n_signals) == 0
    assert (found.membership == -1).all()
    assert found.sizes["group"] == 0
    assert np.isnan(float(found.stability))


def test_more_signals_than_half_of_the_neurons_are_no_clones() -> None:
    found = find_clones(mixtures(60, 40, 0.1, n_samples=20_000), seed=1)
    assert found.verdict == "no clones"
    assert int(found.n_signals) > 30


def test_neurons_of_noise_are_in_no_group() -> None:
    layer = clones(4, 0.3)
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((10_000, 70)) * rng.uniform(0.1, 10.0, 70)
    order = rng.permutation(4 * 32 + 70)
    found = find_clones(np.hstack([layer.features, noise])[:, order], seed=1)
    expected = np.concatenate([layer.clone.values, np.full(70, -1)])[order]
    assert found.verdict == "stable"
    assert (int(found.n_groups), int(found.n_insufficient)) == (4, 0)
    np.testing.assert_array_equal(found.membership.values == -1, expected == -1)
    assert rand_index(expected, found.membership) == 1.0


def test_groups_without_a_signal_are_dissolved() -> None:
    """A signal that only three of 117 neurons have: there are three groups that carry everything."""
    features = np.delete(copies(6, 20, 0.3), [60, 80, 100], axis=1)
    found = find_clones(features, seed=1)
    assert int(found.n_signals) == 20
    assert (int(found.n_groups), int(found.n_insufficient)) == (3, 2)
    np.testing.assert_array_equal(np.sort(found.membership[[0, 20, 40]]), [0, 1, 2])
    np.testing.assert_array_equal(found.n_groups_of_start, np.full(10, 3))


def test_one_signal_makes_every_neuron_a_clone() -> None:
    found = find_clones(copies(12, 1, 0.5), seed=1)
    assert found.verdict == "stable"
    assert (int(found.n_signals), int(found.n_groups)) == (1, 12)
    np.testing.assert_array_equal(found.membership, np.arange(12))


def test_no_swap_raises_the_information() -> None:
    """Against determinants of the covariance with the noise that the result reports."""
    features = mixtures(26, 4, 0.7, n_samples=2000)
    found = find_clones(features, seed=4, size=4)
    noise = found.noise.values
    floor = np.maximum(0.25, noise)
    covariance = (np.corrcoef(features, rowvar=False) + np.diag(floor - noise)) / np.sqrt(np.outer(floor, floor))

    def information(group: Array) -> float:
        logs = [np.linalg.slogdet(covariance[np.ix_(group == a, group == a)])[1] for a in range(group.max() + 1)]
        return 0.5 * float(np.sum(logs))

    for start in range(10):
        group = found.membership_of_start.values[start]
        assert abs(information(group) - float(found.information[start])) < 1e-4
        gains = []
        for i in range(26):
            for j in range(i):
                if group[i] != group[j]:
                    swapped = group.copy()
                    swapped[[i, j]] = group[[j, i]]
                    gains.append(information(swapped) - information(group))
        assert len(gains) > 200
        assert max(gains) < 1e-4
    best = int(np.argmax(found.information.values))
    np.testing.assert_array_equal(found.membership, found.membership_of_start[best])


def test_growth_takes_the_neuron_that_least_squares_explain_least() -> None:
    features = mixtures(20, 5, 0.5, n_samples=400)
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred
    order = np.random.default_rng(3).permutation(20)
    path = _core.cpu_paths()[0]
    raw = _core.group_search(covariance, orders=order[None], size=5, n_threads=1, cpu_path=path, progress=None)
    left = list(order)
    for group in range(4):
        chosen = [left.pop(0)]
        while len(chosen) < 5:
            coefficients, *_ = np.linalg.lstsq(centred[:, chosen], centred[:, left], rcond=None)
            residual = ((centred[:, left] - centred[:, chosen] @ coefficients) ** 2).sum(axis=0)
            chosen.append(left.pop(int(np.argmax(residual))))
        assert sorted(chosen) == list(np.flatnonzero(raw["greedy"][0] == group))


def test_statistics_of_groups_are_those_of_chunks() -> None:
    layer = clones(4, 0.5)
    found = find_clones(layer.features, seed=1)
    features = layer.features.values
    for group in range(4):
        inside = found.membership.values == group
        inputs = features[:, inside] - features[:, inside].mean(axis=0)
        outputs = features[:, ~inside] - features[:, ~inside].mean(axis=0)
        residual = outputs - inputs @ np.linalg.lstsq(inputs, outputs, rcond=None)[0]
        correlation = np.corrcoef(residual, rowvar=False)[np.triu_indices(96, 1)]
        assert (
            abs(float(found.r2_outside[group]) - (1 - residual.var(axis=0).sum() / outputs.var(axis=0).sum())) < 1e-10
        )
        assert abs(float(found.residual_correlation_outside[group]) - np.abs(correlation).mean()) < 1e-6
        unit, _ = np.linalg.qr(inputs)
        other, _ = np.linalg.qr(outputs)
        smallest = np.linalg.svd(unit.T @ other, compute_uv=False).min()
        assert abs(float(found.weakest_signal[group]) - smallest**2) < 1e-9
    # Clones tell more of each other than chunks of the same size by chance do.
    chance = chunk_statistics(features, chunk_sizes=[32], seed=1)
    assert float(found.r2_outside.mean()) > float(chance.r2_outside_mean[0] + 5 * chance.r2_outside.std("chunk")[0])


def test_scales_and_offsets_of_neurons_do_not_matter() -> None:
    layer = clones(3, 0.3, n_samples=3000).features.values
    scales = 2.0 ** np.random.default_rng(1).integers(-20, 20, layer.shape[1])
    found, scaled = find_clones(layer, seed=1), find_clones(layer * scales, seed=1)
    xr.testing.assert_equal(found.drop_vars("r2_outside"), scaled.drop_vars("r2_outside"))
    shifted = find_clones(layer + np.random.default_rng(2).uniform(-10.0, 10.0, layer.shape[1]), seed=1)
    np.testing.assert_array_equal(shifted.membership, found.membership)


def test_order_of_neurons_does_not_matter() -> None:
    layer = clones(4, 0.3)
    order = np.random.default_rng(1).permutation(128)
    found = find_clones(layer.features, seed=1)
    permuted = find_clones(layer.features[:, order], seed=1)
    assert rand_index(found.membership[order], permuted.membership) == 1.0
    first = [int(np.flatnonzero(permuted.membership == group)[0]) for group in range(4)]
    assert first == sorted(first)


def test_constant_and_duplicated_neurons() -> None:
    features = np.hstack([mixtures(40, 5, 0.3)] * 2)
    features = np.insert(features, [0, 30, 80], [0.0, -3.0, 0.1], axis=1)
    found = find_clones(features, seed=1)
    constant = [0, 31, 82]
    assert (found.membership[constant] == -1).all()
    assert np.isnan(found.noise[constant]).all()
    assert np.isfinite(np.delete(found.noise.values, constant)).all()
    assert int(found.attrs["n_constant"]) == 3
    # Of each pair of duplicates one is in each group: all that the layer has of its own is in both of them.
    assert int(found.n_groups) == 2
    pairs = np.delete(found.membership.values, constant).reshape(2, 40)
    assert (pairs[0] != pairs[1]).all()
    assert (found.r2_outside > 1.0 - 1e-9).all()


def test_features_without_noise() -> None:
    layer = clones(4, 0.0, n_samples=2000)
    found = find_clones(layer.features, seed=1)
    assert int(found.n_signals) == 32
    assert rand_index(layer.clone, found.membership) == 1.0
    single = find_clones(layer.features.astype(np.float32), seed=1)
    assert rand_index(layer.clone, single.membership) == 1.0


def test_size_of_groups_can_be_given() -> None:
    features = mixtures(50, 6, 0.3)
    found = find_clones(features, seed=1, size=8)
    assert (int(found.n_groups), int(found.n_insufficient)) == (6, 0)
    assert (np.bincount(found.membership[found.membership >= 0]) == 8).all()
    assert int((found.membership == -1).sum()) == 2
    assert found.attrs["size"] == 8


def test_results_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    features = mixtures(64, 8, 0.4)
    found = find_clones(features, seed=7, n_threads=1)
    xr.testing.assert_identical(found, find_clones(features, seed=7, n_threads=3))
    more = find_clones(features, seed=7, n_starts=12)
    np.testing.assert_array_equal(found.membership_of_start, more.membership_of_start[:10])
    assert (find_clones(features, seed=8).membership_of_start != found.membership_of_start).any()


def test_samples_that_are_not_finite() -> None:
    features = clones(2, 0.3, n_samples=2000).features.values
    spoiled = np.insert(features, [5, 900], np.nan, axis=0)
    with pytest.raises(ValueError, match="features must be finite"):
        find_clones(spoiled, seed=1)
    dropped = find_clones(spoiled, seed=1, missing="drop")
    assert dropped.attrs["n_dropped"] == 2
    xr.testing.assert_equal(dropped, find_clones(features, seed=1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": np.ones((9, 3))}, ValueError, "features must vary"),
        ({"features": mixtures(30, 2, 0.5, n_samples=31)}, ValueError, "at least 2 samples more than neurons"),
        ({"features": np.zeros((0, 3))}, ValueError, "features must not be empty"),
        ({"features": 1j * mixtures(4, 2, 0.5, n_samples=9)}, TypeError, "features must hold real numbers"),
        ({"size": 0}, ValueError, "size must lie between 1 and 10"),
        ({"size": 11}, ValueError, "size must lie between 1 and 10"),
        ({"size": 2.0}, TypeError, "size must be an integer"),
        ({"n_starts": 1}, ValueError, "n_starts must lie between 2"),
        ({"seed": -1}, ValueError, "seed must lie between 0"),
        ({"missing": "ignore"}, ValueError, "missing must be one of"),
        ({"n_threads": 0}, ValueError, "n_threads must lie between 1"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_clones(**{"features": mixtures(20, 4, 0.5, n_samples=100), "seed": 1, **arguments})


def test_extreme_features() -> None:
    features = clones(2, 0.3, n_samples=2000).features.values
    expected = find_clones(features, seed=1).membership
    for scale in (1e98, 1e-120):
        np.testing.assert_array_equal(find_clones(features * scale, seed=1).membership, expected)
    # Squares underflow: neurons that vary too little to tell.
    found = find_clones(np.hstack([features, features[:, :3] * 1e-160]), seed=1)
    np.testing.assert_array_equal(found.membership, np.append(expected, [-1, -1, -1]))
    for few in (features[:, :1], features[:, :1] * 1e-160, features[:, :2] * 1e-160):
        none = find_clones(np.hstack([few, np.ones_like(few)]), seed=1)
        assert none.verdict == "no clones"
        assert (none.membership == -1).all()


@pytest.mark.parametrize("n_samples", [400, 4000, 40_000])
@pytest.mark.parametrize("n_neurons", [64, 128, 256])
def test_signals_are_counted(n_neurons: int, n_samples: int) -> None:
    features = mixtures(n_neurons, 24, 0.3, seed=n_neurons, n_samples=n_samples)
    assert fit_factors(np.corrcoef(features, rowvar=False), n_samples).number == 24


def test_progress_and_interruption() -> None:
    features = mixtures(40, 5, 0.4)
    shown = find_clones(features, seed=1, progress=True)
    xr.testing.assert_identical(shown, find_clones(features, seed=1))

    class StopError(Exception):
        pass

    def stop(done: int) -> None:
        raise StopError

    path = _core.cpu_paths()[0]
    orders = np.array([np.random.default_rng(k).permutation(40) for k in range(400)])
    covariance = np.cov(features, rowvar=False)
    with pytest.raises(StopError):
        _core.group_search(covariance, orders=orders, size=5, n_threads=2, cpu_path=path, progress=stop)


def test_stability_counts_pairs_of_neurons() -> None:
    """Against counts of pairs over neurons that are in a group of either start; those of no group are in no pair."""
    from wideangle.representation.groups import _stability

    a, b = np.array([0, 0, 0, 1, 1, 1, -1, -1, -1]), np.array([-1, -1, 0, 0, 1, 1, 1, 0, -1])
    pairs = [(i, j) for i in range(8) for j in range(i)]
    in_a = np.array([a[i] == a[j] >= 0 for i, j in pairs])
    in_b = np.array([b[i] == b[j] >= 0 for i, j in pairs])
    expected = in_a.sum() * in_b.sum() / len(pairs)
    index = ((in_a & in_b).sum() - expected) / ((in_a.sum() + in_b.sum()) / 2 - expected)
    assert abs(_stability(np.array([a, b])) - index) < 1e-12
