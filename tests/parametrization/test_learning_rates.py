"""Optimal learning rates: of losses with a known optimum, and of networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle.data import LabelledData, load_digits
from wideangle.parametrization import scaling, train_learning_rates
from wideangle.parametrization._optima import find_optima

torch = pytest.importorskip("torch")

from wideangle.reference.scaled import build_scaled_mlp, scaled_optimizer  # noqa: E402

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0, 1024.0])
RATES = 2.0 ** np.arange(-12.0, 4.1, 0.5)
RNG = np.random.default_rng(0)
SMALL = LabelledData(
    RNG.standard_normal((40, 6)), np.arange(40) % 3, RNG.standard_normal((12, 6)), np.arange(12) % 3, name="noise"
)


def valley(rng: np.random.Generator, slope: float, *, left: float = 0.3, right: float = 0.3, runs: int = 3) -> Any:
    """Losses (width, rate, run) with optima that scatter, and the log2 of the true ones."""
    true = rng.uniform(-0.25, 0.25) - 4.0 + slope * (np.log2(WIDTHS) - 8.0)
    distance = np.log2(RATES)[None, :, None] - true[:, None, None] - 0.1 * rng.standard_normal((len(WIDTHS), 1, runs))
    curve = np.where(distance < 0.0, left, right) * distance**2
    noise = 0.02 * rng.standard_normal((len(WIDTHS), 1, runs)) + 0.01 * rng.standard_normal(curve.shape)
    return 0.05 * np.exp(curve + noise), true


@pytest.mark.parametrize("phase", [0.0, 0.13, 0.25, -0.2])
def test_parabola_has_its_optimum_exactly(phase: float) -> None:
    true = -4.0 + phase - 0.5 * (np.log2(WIDTHS) - 8.0)
    losses = np.exp(0.4 * (np.log2(RATES)[None, :, None] - true[:, None, None]) ** 2) * np.ones((1, 1, 2))
    optima = find_optima(RATES, losses, WIDTHS, seed=0)
    np.testing.assert_allclose(optima.best, true, atol=1e-9)
    assert optima.drift == pytest.approx(-0.5)
    assert optima.verdict == "does not transfer"
    # On a grid that is not uniform too.
    uneven = np.sort(np.concatenate([RATES[::2], RATES[1:12:4]]))
    losses = np.exp(0.1 * (np.log2(uneven)[None, :, None] - true[:, None, None]) ** 2) * np.ones((1, 1, 2))
    np.testing.assert_allclose(find_optima(uneven, losses, WIDTHS, seed=0).best, true, atol=1e-9)


@pytest.mark.parametrize("shape", [{}, {"left": 0.15, "right": 1.5}])
@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_intervals_hold_the_truth(shape: dict[str, Any], slope: float) -> None:
    rng = np.random.default_rng(1)
    inside = np.zeros((150, 2))
    verdicts = []
    for repetition in range(len(inside)):
        losses, true = valley(rng, slope, **shape)
        optima = find_optima(RATES, losses, WIDTHS, seed=repetition)
        inside[repetition] = (
            np.mean((optima.low < true) & (true < optima.high)),
            (optima.drift_low < slope < optima.drift_high),
        )
        assert np.all(optima.high - optima.low < 1.5)
        verdicts.append(optima.verdict)
    # The grid's spacing is added, so that there are more than 95%.
    assert np.all(inside.mean(axis=0) > 0.93)
    # A right verdict nearly always, and the opposite one never.
    right, wrong = ("transfers", "does not transfer") if slope == 0.0 else ("does not transfer", "transfers")
    assert verdicts.count(right) > 0.9 * len(verdicts)
    assert verdicts.count(wrong) == 0


def test_scatter_between_runs_widens_intervals() -> None:
    rng = np.random.default_rng(2)
    losses, _ = valley(rng, 0.0)
    shifted = np.stack([np.roll(losses[:, :, 0], shift, axis=1) for shift in (-2, 0, 2)], axis=2)
    assert find_optima(RATES, losses, WIDTHS, seed=0).verdict == "transfers"
    wide = find_optima(RATES, shifted, WIDTHS, seed=0)
    assert wide.verdict == "unresolved"
    assert np.all(wide.high - wide.low > 2.0)


def test_optima_next_to_diverged_runs_and_at_the_ends() -> None:
    losses, true = valley(np.random.default_rng(3), 0.0)
    cliff = np.where(np.log2(RATES)[None, :, None] > true[:, None, None] + 0.2, np.inf, losses)
    optima = find_optima(RATES, cliff, WIDTHS, seed=0)
    # Below the edge, which lies 0.2 above the true optimum, by up to twice the spacing.
    assert np.all((true - 0.8 < optima.best) & (optima.best < true + 0.2))
    assert optima.verdict == "transfers"
    for part in (slice(20, None), slice(0, 12)):
        ends = find_optima(RATES[part], losses[:, part], WIDTHS, seed=0)
        assert np.all(np.isnan(ends.best))
        assert np.isnan(ends.drift)
        assert ends.verdict == "unresolved"
    nothing = find_optima(RATES, np.full_like(losses, np.inf), WIDTHS, seed=0)
    assert np.all(np.isnan(nothing.best))
    assert nothing.verdict == "unresolved"
    assert find_optima(RATES, np.zeros_like(losses), WIDTHS, seed=0).verdict == "unresolved"


def test_losses_are_those_of_steps_by_hand() -> None:
    grids = {"mup": [0.1, 0.2, 0.4], "ntk": [0.2, 0.8, 1e30]}
    runs = train_learning_rates(
        list(grids),
        SMALL,
        learning_rates=grids,
        widths=[8, 16, 32],
        n_hidden=1,
        n_steps=4,
        batch_size=None,
        n_runs=2,
        seed=5,
    )
    np.testing.assert_array_equal(runs.learning_rate, [0.1, 0.2, 0.4, 0.8, 1e30])
    assert np.all(np.isnan(runs.loss.sel(scaling="ntk", learning_rate=[0.1, 0.4])))
    status = runs.status.sel(scaling="ntk").isel(width=0, run=0)
    np.testing.assert_array_equal(status, [2, 0, 2, 0, 1])
    assert np.all(np.isinf(runs.loss.sel(scaling="ntk", learning_rate=1e30)))
    seed = int(np.random.SeedSequence(5, spawn_key=(1, 16)).generate_state(1, np.uint64)[0])
    model = build_scaled_mlp(scaling("mup", 1), 16, n_inputs=6, n_outputs=3, seed=seed)
    optimizer = scaled_optimizer(model, learning_rate=0.2)
    x, y = torch.tensor(SMALL.x_train), torch.tensor(SMALL.y_train)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    expected = torch.nn.functional.cross_entropy(model(x), y).item()
    found = runs.loss.sel(scaling="mup", width=16, learning_rate=0.2, run=1).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_mup_transfers_between_narrow_networks_and_standard_with_adam_does_not() -> None:
    rates = {"mup": 2.0 ** np.arange(-5.0, 0.1, 0.5), "standard": 2.0 ** np.arange(-9.0, -2.9, 0.5)}
    runs = train_learning_rates(
        list(rates),
        load_digits(seed=1),
        learning_rates=rates,
        widths=[16, 32, 64, 128],
        optimizer="adam",
        n_steps=15,
        n_runs=3,
    )
    assert runs.drift.sel(scaling="standard") < -0.3
    assert abs(runs.drift.sel(scaling="mup")) < 0.25
    assert runs.verdict.sel(scaling="standard") == "does not transfer"
    assert runs.verdict.sel(scaling="mup") != "does not transfer"


@pytest.mark.slow
def test_mup_transfers_and_standard_does_not_from_64_to_1024() -> None:
    rates = {"mup": 2.0 ** np.arange(-3.0, 2.1, 0.5), "standard": 2.0 ** np.arange(-4.0, 2.1, 0.5)}
    runs = train_learning_rates(list(rates), load_digits(seed=1), learning_rates=rates, n_steps=30, n_threads=2)
    np.testing.assert_array_equal(runs.verdict, ["transfers", "does not transfer"])
    assert np.all(runs.best_low < runs.best)
    assert np.all(runs.best < runs.best_high)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": [8, 16]}, ValueError, "widths must be at least 3"),
        ({"n_runs": 1}, ValueError, "n_runs must be at least 2"),
        ({"learning_rates": [0.1, 0.2]}, ValueError, "learning_rates must be at least three"),
        ({"learning_rates": [0.4, 0.2, 0.1]}, ValueError, "learning_rates must increase"),
        ({"learning_rates": [0.0, 0.2, 0.4]}, ValueError, "positive"),
        ({"learning_rates": [0.1, 0.2, np.nan]}, ValueError, "finite"),
        ({"learning_rates": {"ntk": [0.1, 0.2, 0.4]}}, ValueError, "name every scaling"),
        ({"learning_rates": {"mup": [0.1, 0.2]}}, ValueError, r"learning_rates\['mup'\]"),
        ({"scalings": "huge"}, ValueError, "scalings"),
        ({"data": None}, TypeError, "data must be labelled"),
        ({"optimizer": "lamb"}, ValueError, "optimizer"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"scalings": "mup", "data": SMALL, "learning_rates": [0.1, 0.2, 0.4]}
    arguments |= {"widths": [4, 8, 16], "n_steps": 2, "batch_size": 20} | change
    with pytest.raises(error, match=message):
        train_learning_rates(arguments.pop("scalings"), arguments.pop("data"), **arguments)
