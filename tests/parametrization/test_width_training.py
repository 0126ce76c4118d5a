"""Training by width and scaling, against steps by hand and what theory says of learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.data import LabelledData, load_digits
from wideangle.parametrization import Scaling, scaling, train_widths

torch = pytest.importorskip("torch")

from wideangle.reference import build_scaled_mlp, calibrate_first_step, scaled_optimizer  # noqa: E402

RNG = np.random.default_rng(0)
SMALL = LabelledData(
    RNG.standard_normal((40, 6)), np.arange(40) % 3, RNG.standard_normal((12, 6)), np.arange(12) % 3, name="noise"
)
DIGITS = load_digits(seed=0)
MEASURED = ("diversity", "dimension", "numerical_rank", "participation_rank", "norm_ratio")


def by_hand(name: str, seed: int, rate: float, first: float, steps: int) -> Any:
    """A network of width 20 after steps on all samples of SMALL at once."""
    model = build_scaled_mlp(scaling(name, 2), 20, n_inputs=6, n_outputs=3, seed=seed)
    optimizer = scaled_optimizer(model, learning_rate=rate, first_learning_rate=first)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(SMALL.x_train)), torch.tensor(SMALL.y_train))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("name", ["mup", "ip-llr", "hp", "ip-bias"])
def test_steps_are_those_of_the_network_and_its_optimizer(name: str) -> None:
    runs = train_widths(
        name,
        SMALL,
        widths=[20],
        n_hidden=2,
        learning_rate=0.3,
        first_learning_rate=0.7,
        n_steps=5,
        batch_size=None,
        record=[0, 1, 5],
        n_probes=4,
        seed=3,
    ).isel(scaling=0, width=0, run=0)
    weight_seed = int(np.random.SeedSequence(3, spawn_key=(0, 20)).generate_state(1, np.uint64)[0])
    start, _ = by_hand(name, weight_seed, 0.3, 0.7, 0)
    x, y = torch.tensor(SMALL.x_test), torch.tensor(SMALL.y_test)
    for steps in (1, 5):
        model, losses = by_hand(name, weight_seed, 0.3, 0.7, steps)
        np.testing.assert_allclose(runs.loss[:steps], losses, rtol=1e-5)
        at = runs.sel(record=steps)
        outputs = model(x).detach()
        np.testing.assert_allclose(at.output, outputs[:4], rtol=1e-4, atol=1e-5)
        assert at.test_loss.item() == pytest.approx(torch.nn.functional.cross_entropy(outputs, y).item(), rel=1e-5)
        assert at.test_accuracy.item() == pytest.approx(np.mean(outputs.argmax(dim=1).numpy() == SMALL.y_test))
        for layer, (weight, initial) in enumerate(zip(model.weights, start.weights, strict=True), start=1):
            dropped = name == "hp" and layer == 2
            update = weight.detach().numpy() - (0.0 if dropped else initial.detach().numpy())
            singular = np.linalg.svd(update.astype(np.float64), compute_uv=False)
            assert at.norm_ratio.sel(layer=layer).item() == pytest.approx(
                np.linalg.norm(singular) / singular[0], rel=1e-4
            )
    assert runs.learning_rate == 0.3
    np.testing.assert_array_equal(runs.first_learning_rate, [0.7] * 3)
    assert runs.status == 0


def test_diversity_is_measured_on_preactivations_of_test_samples() -> None:
    runs = train_widths(
        "ip-non-centered", SMALL, widths=[20], n_hidden=2, learning_rate=0.1, n_steps=1, batch_size=None, record=[0]
    ).isel(scaling=0, width=0, run=0, record=0)
    seed = int(np.random.SeedSequence(0, spawn_key=(0, 20)).generate_state(1, np.uint64)[0])
    model, _ = by_hand("ip-non-centered", seed, 0.1, 0.1, 0)
    for layer, values in enumerate(model.preactivations(torch.tensor(SMALL.x_test)), start=1):
        h = values.detach().numpy().astype(np.float64)
        h -= h.mean(axis=0)
        expected = np.sqrt(np.mean((h - h.mean(axis=1, keepdims=True)) ** 2) / np.mean(h**2))
        assert runs.diversity.sel(layer=layer).item() == pytest.approx(expected, rel=1e-4)
        eigenvalues = np.linalg.eigvalsh(h.T @ h)
        expected = eigenvalues.sum() ** 2 / np.sum(eigenvalues**2)
        assert runs.dimension.sel(layer=layer).item() == pytest.approx(expected, rel=1e-3)


def test_scalings_begin_alike_and_runs_depend_on_nothing_else() -> None:
    options: dict[str, Any] = {"n_hidden": 2, "learning_rate": 0.2, "n_steps": 3, "batch_size": 16}
    both = train_widths(["ntk", "standard"], SMALL, widths=[10, 30], n_runs=2, **options)
    one = train_widths("standard", SMALL, widths=[30], n_runs=1, **options)
    np.testing.assert_array_equal(both.loss.sel(scaling="standard", width=30, run=0), one.loss[0, 0, 0])
    # These two are the same function at the start; their first layers are, in the order of samples too.
    np.testing.assert_allclose(both.loss.isel(step=0, scaling=0), both.loss.isel(step=0, scaling=1), rtol=1e-5)
    start = both.output.sel(record=0)
    np.testing.assert_allclose(start.isel(scaling=0), start.isel(scaling=1), rtol=1e-4, atol=1e-6)
    assert abs(start.isel(run=0) - start.isel(run=1)).min(["probe", "class"]).min() > 0.0
    assert both.output.sizes["probe"] == 12


def test_results_do_not_depend_on_threads() -> None:
    options: dict[str, Any] = {"widths": [32, 64], "n_hidden": 2, "learning_rate": 0.2, "n_steps": 5, "batch_size": 20}
    before = torch.get_num_threads()
    one, three = (train_widths(["mup", "ip-llr"], SMALL, n_threads=threads, **options) for threads in (1, 3))
    xr.testing.assert_identical(one, three)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_training(interrupt: Callable[[str, str, str], str], n_threads: int) -> None:
    setup = """
    import wideangle as wa
    data = wa.data.load_digits(seed=1)
    options = dict(widths=[32, 64], n_hidden=2, learning_rate=0.1, record=[0], n_threads=2)
    wa.parametrization.train_widths("mup", data, n_steps=2, **options)
    """
    call = f"wa.parametrization.train_widths('mup', data, n_steps=10**6, **(options | dict(n_threads={n_threads})))"
    after = "print(wa.parametrization.train_widths('mup', data, n_steps=2, **options).status.values.ravel())"
    assert interrupt(setup, call, after) == "[0 0]\n"


def test_first_learning_rates() -> None:
    options: dict[str, Any] = {"widths": [16, 32], "n_hidden": 2, "n_steps": 1, "record": [1], "batch_size": None}
    runs = train_widths(["hp", "mup", "ip-llr"], SMALL, learning_rate=0.2, **options)
    seed = int(np.random.SeedSequence(0, spawn_key=(0, 32)).generate_state(1, np.uint64)[0])
    model = build_scaled_mlp(scaling("ip-llr", 2), 32, n_inputs=6, n_outputs=3, seed=seed)
    calibrated = calibrate_first_step(model, SMALL.x_train, SMALL.y_train, size=(1.0, 1.0, 0.1))
    np.testing.assert_allclose(runs.first_learning_rate, [calibrated, [0.2] * 3, calibrated], rtol=1e-3)
    alone = train_widths("hp", SMALL, learning_rate=0.2, **options)
    np.testing.assert_allclose(alone.first_learning_rate, [calibrated], rtol=1e-3)
    rates = {"hp": 0.1, "mup": 0.3, "ip-llr": 0.5}
    given = train_widths(["hp", "ip-llr"], SMALL, learning_rate=0.2, first_learning_rate={"ip-llr": 3.0}, **options)
    np.testing.assert_array_equal(given.first_learning_rate, np.full((2, 3), 3.0))
    apart = train_widths(list(rates), SMALL, learning_rate=rates, first_learning_rate={"hp": 2.0}, **options)
    np.testing.assert_array_equal(apart.learning_rate, list(rates.values()))
    np.testing.assert_allclose(apart.first_learning_rate, [[2.0] * 3, [0.3] * 3, calibrated], rtol=1e-3)
    smooth = train_widths(["hp", "ip-llr"], SMALL, learning_rate=0.2, activation="gelu", **options)
    assert abs(np.log(smooth.first_learning_rate[0, 1] / smooth.first_learning_rate[1, 1])) > 0.1
    again = train_widths("ip-llr", SMALL, learning_rate=0.2, first_learning_rate={"ip-llr": calibrated}, **options)
    np.testing.assert_array_equal(again.loss, runs.loss.sel(scaling=["ip-llr"]))
    # Only the literature's own scalings share a first step, not what bears their names.
    llr = scaling("ip-llr", 2)
    own = Scaling(llr.a, llr.b, llr.c, c_first=(-1, -2, -1.5), name="ip-llr")
    named, other = (
        train_widths(["hp", replace(own, name=name)], SMALL, learning_rate=0.2, **options)
        for name in ("ip-llr", "mine")
    )
    np.testing.assert_array_equal(named.first_learning_rate, other.first_learning_rate)
    np.testing.assert_allclose(named.first_learning_rate[0], calibrated, rtol=1e-3)
    assert abs(np.log(named.first_learning_rate[1, 0] / calibrated[0])) > 0.1
    # With one hidden layer no first step differs from the others.
    shallow = train_widths(["hp", "ip-llr"], SMALL, learning_rate=0.2, **(options | {"n_hidden": 1}))
    np.testing.assert_array_equal(shallow.first_learning_rate, 0.2)
    adam = train_widths(["mup", "ip-llr"], SMALL, learning_rate=0.01, optimizer="adam", **options)
    np.testing.assert_array_equal(adam.first_learning_rate, np.full((2, 3), 0.01))


def test_integrable_networks_of_four_layers_do_not_learn_and_mup_does() -> None:
    runs = train_widths(["ip", "mup", "ip-llr"], DIGITS, widths=[128], n_hidden=4, learning_rate=0.3, n_steps=100)
    last = runs.isel(width=0, run=0, record=-1)
    moved = abs(runs.output - runs.output.isel(record=0)).max(["width", "run", "record", "probe", "class"])
    assert moved.sel(scaling="ip") < 1e-3
    assert moved.sel(scaling="mup") > 1.0
    assert abs(last.train_loss.sel(scaling="ip").item() - np.log(10.0)) < 1e-3
    assert last.train_loss.sel(scaling="mup") < 0.1
    assert last.test_accuracy.sel(scaling="mup") > 0.9
    assert last.train_loss.sel(scaling="ip-llr") < 2.0


def test_neurons_are_alike_where_weights_have_a_mean() -> None:
    runs = train_widths(
        ["mup", "ip-non-centered", "ip-bias"], DIGITS, widths=[64, 256], n_hidden=4, learning_rate=0.1, n_steps=2
    )
    inner = runs.diversity.isel(run=0, record=-1).sel(layer=[2, 3])
    assert np.all(inner.sel(scaling="mup") > 0.9)
    wide, narrow = (inner.sel(scaling="ip-non-centered", width=width) for width in (256, 64))
    assert np.all(wide < [0.6, 0.2])
    # Fluctuations around the common function fall like the root of the width.
    assert np.all(wide < 0.75 * narrow)
    flat = runs.dimension.isel(run=0, record=-1).sel(layer=[3, 4], width=256)
    assert np.all(flat.sel(scaling="ip-bias") < 0.2 * flat.sel(scaling="mup"))
    assert np.all(flat.sel(scaling="ip-non-centered") < 1.1)


def test_updates_of_the_first_step_have_at_most_the_rank_of_the_batch() -> None:
    runs = train_widths("mup", DIGITS, widths=[64], n_hidden=2, learning_rate=0.5, n_steps=1, batch_size=7)
    first = runs.isel(scaling=0, width=0, run=0).sel(record=1)
    assert first.numerical_rank.sel(layer=1) == 7
    assert first.numerical_rank.sel(layer=2) == 7
    assert np.all(first.participation_rank <= first.numerical_rank)
    assert np.all(first.norm_ratio**2 <= first.participation_rank * (1.0 + 1e-6))
    before = runs.isel(scaling=0, width=0, run=0).sel(record=0)
    np.testing.assert_array_equal(before.numerical_rank, 0)
    assert np.all(np.isnan(before.norm_ratio))


def test_diverged_networks_have_a_status_and_leave_others_alone() -> None:
    options: dict[str, Any] = {"widths": [32], "n_hidden": 2, "n_steps": 40, "record": [0, 20, 40]}
    rates = {"mup": 0.1, "ntk": 1e4}
    runs = train_widths(["mup", "ntk"], SMALL, learning_rate=rates, batch_size=20, **options)
    np.testing.assert_array_equal(runs.status.values.ravel(), [0, 1])
    bad = runs.sel(scaling="ntk").isel(width=0, run=0)
    assert np.isfinite(bad.loss[0])
    assert np.isnan(bad.loss[-1])
    diverged = int(np.isnan(bad.loss.values).argmax())
    assert np.all(np.isnan(bad.loss[diverged:]))
    assert np.isnan(bad.train_loss[-1])
    assert all(np.all(np.isnan(bad[name].sel(record=40))) for name in MEASURED)
    alone = train_widths("mup", SMALL, learning_rate=0.1, batch_size=20, **options)
    np.testing.assert_array_equal(runs.loss.sel(scaling="mup"), alone.loss[0])
    # The last of the steps may be the one too many.
    last = train_widths("ntk", SMALL, widths=[32], n_hidden=2, learning_rate=1e38, n_steps=1, record=[0], batch_size=20)
    assert last.status.item() == 1


def test_own_scalings_and_one_number_of_layers() -> None:
    mine = Scaling((0, "1/2", "1/2"), (0, 0, 0), (0, 0, 0), name="mine")
    options: dict[str, Any] = {"widths": [12], "n_hidden": 2, "learning_rate": 0.1, "n_steps": 2, "batch_size": 10}
    runs = train_widths([mine, "ntk"], SMALL, **options)
    assert list(runs.scaling.values) == ["mine", "ntk"]
    np.testing.assert_array_equal(runs.loss.sel(scaling="mine"), runs.loss.sel(scaling="ntk"))
    for activation in ("gelu", "tanh", "elu"):
        assert train_widths(mine, SMALL, activation=activation, **options).status == 0


@pytest.mark.slow
def test_hybrid_and_large_first_step_approach_each_other() -> None:
    runs = train_widths(
        ["ip-llr", "hp"],
        DIGITS,
        widths=[64, 1024],
        n_hidden=2,
        learning_rate=0.1,
        n_steps=10,
        record=[5],
        n_runs=4,
        n_probes=64,
    )
    output = runs.output.isel(record=0)
    gap = np.sqrt(((output.sel(scaling="ip-llr") - output.sel(scaling="hp")) ** 2).mean(["run", "probe", "class"]))
    size = np.sqrt((output.sel(scaling="hp") ** 2).mean(["run", "probe", "class"]))
    ratio = (gap / size).values
    # Like the root of the width: a factor of four here.
    assert ratio[1] < ratio[0] / 2.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scalings": "sp"}, ValueError, r"scalings\[0\] must be one of"),
        ({"scalings": []}, ValueError, "scalings must not be empty"),
        ({"first_learning_rate": (1.0, 2.0)}, ValueError, "one for each of 3 layers"),
        ({"scalings": "ip-llr", "widths": [2], "n_hidden": 6}, ValueError, "'ip-llr' cannot be calibrated at width 2"),
        ({"scalings": 3}, TypeError, "scalings must be a sequence"),
        ({"scalings": ["mup", 3]}, TypeError, r"scalings\[1\] must be a name or a Scaling"),
        ({"scalings": ["mup", "mup"]}, ValueError, "'mup' twice"),
        ({"scalings": scaling("mup", 3)}, ValueError, "must have 2 hidden layers"),
        ({"data": np.zeros((3, 3))}, TypeError, "data must be labelled"),
        ({"n_hidden": 0}, ValueError, "n_hidden"),
        ({"widths": [20, 10]}, ValueError, "widths"),
        ({"widths": []}, ValueError, "widths"),
        ({"activation": "softmax"}, ValueError, "activation"),
        ({"weight_variance": 0.0}, ValueError, "weight_variance"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": {"mup": 0.1}}, ValueError, r"none for \['ntk'\]"),
        ({"learning_rate": {"mup": 0.1, "ntk": -1.0}}, ValueError, r"learning_rate\['ntk'\] must be positive"),
        ({"first_learning_rate": {"ip": 1.0}}, ValueError, "first_learning_rate must have the names"),
        ({"first_learning_rate": np.inf}, ValueError, "first_learning_rate must be finite"),
        ({"n_steps": 0}, ValueError, "n_steps"),
        ({"batch_size": 41}, ValueError, "at most the 40 training samples"),
        ({"n_runs": 0}, ValueError, "n_runs"),
        ({"optimizer": "muon"}, ValueError, "optimizer"),
        ({"record": [0, 300]}, ValueError, r"record\[1\]"),
        ({"record": [5, 1]}, ValueError, "record must hold increasing numbers"),
        ({"record": []}, ValueError, "record must hold increasing numbers"),
        ({"record": 5}, TypeError, "record must be a sequence"),
        ({"n_probes": -1}, ValueError, "n_probes"),
        ({"seed": -1}, ValueError, "seed"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"progress": 1}, TypeError, "progress"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"scalings": ["mup", "ntk"], "data": SMALL, "widths": [8], "n_hidden": 2}
    arguments |= {"learning_rate": 0.1, "batch_size": 20} | change
    with pytest.raises(error, match=message):
        train_widths(arguments.pop("scalings"), arguments.pop("data"), **arguments)
