"""Networks of several widths, against the same training written in NumPy and float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import wideangle as wa
from wideangle.representation import train_widths

torch = pytest.importorskip("torch")

PERFORMANCE = ("train_loss", "train_error", "test_loss", "test_error")


def clusters(n_train: int = 70, n_test: int = 31) -> wa.data.LabelledData:
    """Return three classes of points, which touch, about centres in four dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 4))

    def draw(n_samples: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        labels = np.arange(n_samples) % 3
        return centres[labels] + 0.4 * rng.normal(size=(n_samples, 4)), labels

    return wa.data.LabelledData(*draw(n_train), *draw(n_test), name="clusters")


DATA = clusters()
GOOD: dict[str, Any] = {"n_runs": 2, "weight_decay": 1e-3, "seed": 1, "batch_size": 16, "n_threads": 1}


def train(widths: Any, **arguments: Any) -> xr.Dataset:
    return train_widths(DATA, widths, **{**GOOD, **arguments})


def seeds(seed: int, *network: int) -> list[int]:
    """Return the seeds of weights and of the order of samples of (width, run, member), as documented."""
    return [int(each) for each in np.random.SeedSequence(seed, spawn_key=network).generate_state(2, np.uint64)]


def orders_of_samples(seed: int, n_samples: int) -> Any:
    """Yield the order of samples of each epoch."""
    state = np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0]))
    while True:
        yield torch.randperm(n_samples, generator=generator).numpy()


class Perceptron:
    """A ReLU network in float64 with its own back-propagation."""

    def __init__(self, module: Any) -> None:
        self.parameters = [p.detach().numpy().astype(np.float64) for p in module.parameters()]
        self.momenta = [np.zeros_like(p) for p in self.parameters]

    def layers(self, x: NDArray[Any]) -> list[NDArray[np.float64]]:
        values = [x.astype(np.float64)]
        for place in range(0, len(self.parameters), 2):
            weight, bias = self.parameters[place : place + 2]
            z = values[-1] @ weight.T + bias
            values.append(z if place == len(self.parameters) - 2 else np.maximum(z, 0.0))
        return values

    def step(self, x: NDArray[Any], y: NDArray[Any], rate: float, momentum: float, decay: float) -> None:
        values = self.layers(x)
        delta = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        delta = (delta / delta.sum(axis=1, keepdims=True) - np.eye(delta.shape[1])[y]) / len(y)
        gradients: list[NDArray[np.float64]] = []
        for layer in range(len(values) - 2, -1, -1):
            gradients = [delta.T @ values[layer], delta.sum(axis=0), *gradients]
            delta = (delta @ self.parameters[2 * layer]) * (values[layer] > 0.0)
        for p, v, g in zip(self.parameters, self.momenta, gradients, strict=True):
            v *= momentum
            v += g + decay * p
            p -= rate * v


def loss_and_error(outputs: NDArray[np.float64], y: NDArray[Any]) -> tuple[float, float]:
    log_sums = np.log(np.exp(outputs - outputs.max(axis=1, keepdims=True)).sum(axis=1)) + outputs.max(axis=1)
    return float((log_sums - outputs[np.arange(len(y)), y]).mean()), float((outputs.argmax(axis=1) != y).mean())


def test_curves_and_layers_agree_with_back_propagation_in_numpy() -> None:
    found = train([5, 6], until=7, keep=[0, 3], weight_decay=0.02, momentum=0.8, learning_rate=0.07, seed=3)
    weight_seed, batch_seed = seeds(3, 6, 1, 0)
    module = wa.reference.build_mlp((6, 6), n_inputs=4, n_outputs=3, seed=weight_seed, bias=True)
    mine, orders = Perceptron(module), orders_of_samples(batch_seed, 70)
    expected, kept = [], {}
    for epoch in range(8):
        train_layers, test_layers = mine.layers(DATA.x_train), mine.layers(DATA.x_test)
        expected.append(
            (*loss_and_error(train_layers[-1], DATA.y_train), *loss_and_error(test_layers[-1], DATA.y_test))
        )
        kept[str(epoch)] = kept["last"] = train_layers[-2], test_layers[-2], *(p.copy() for p in mine.parameters[-2:])
        order = next(orders)
        for start in range(0, 70, 16):
            batch = order[start : start + 16]
            mine.step(DATA.x_train[batch], DATA.y_train[batch], 0.07, 0.8, 0.02)
    network = found.sel(width=6, run=1)
    # Float32 rounds by 6e-8, and 35 steps through three layers amplify that by less than a thousand.
    np.testing.assert_allclose(np.transpose([network[name] for name in PERFORMANCE]), expected, rtol=1e-4, atol=1e-12)
    final = [network[f"final_{name}"].item() for name in PERFORMANCE]
    np.testing.assert_allclose(final, expected[-1], rtol=1e-4, atol=1e-12)
    assert network.train_loss[-1] < 0.5 * network.train_loss[0]
    assert list(found.kept.values) == ["0", "3", "last"]
    names = ("train_features_6", "test_features_6", "readout_6", "bias_6")
    for label in found.kept.values:
        for name, value in zip(names, kept[label], strict=True):
            layer = network[name].sel(kept=label)
            assert layer.dtype == np.float32
            np.testing.assert_allclose(layer, value, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(network.kept_epoch, [0, 3, 7])
    np.testing.assert_array_equal(found.train_targets, DATA.y_train)
    np.testing.assert_array_equal(found.test_targets, DATA.y_test)


def test_dimensions_of_all_variables() -> None:
    found = train([4, 6], until=2, member_width=2, n_hidden=1)
    curve, final = ("width", "run", "epoch"), ("width", "run")
    expected: dict[str, Any] = dict.fromkeys(PERFORMANCE, curve) | {f"final_{name}": final for name in PERFORMANCE}
    for width in (4, 6):
        expected |= {
            f"{part}_features_{width}": ("run", "kept", f"{part}_sample", f"neuron_{width}")
            for part in ("train", "test")
        }
        expected |= {
            f"readout_{width}": ("run", "kept", "class", f"neuron_{width}"),
            f"bias_{width}": ("run", "kept", "class"),
        }
    ensembles = ("ensemble_test_error", "ensemble_test_loss", "logit_ensemble_test_error", "logit_ensemble_test_loss")
    expected |= dict.fromkeys((*ensembles, "epochs_to_zero_training_error", "status"), final)
    expected |= {"kept_epoch": ("width", "run", "kept"), "n_members": ("width",)}
    expected |= dict.fromkeys(("member_test_error", "member_status"), ("run", "member"))
    expected |= {f"{part}_targets": (f"{part}_sample",) for part in ("train", "test")}
    assert {name: each.dims for name, each in found.data_vars.items()} == expected
    sizes = {"width": 2, "run": 2, "epoch": 3, "kept": 1, "class": 3, "member": 3, "train_sample": 70}
    assert dict(found.sizes) == sizes | {"test_sample": 31, "neuron_4": 4, "neuron_6": 6}
    assert found.attrs["until"] == 2
    assert found.attrs["member_width"] == 2


def test_zero_training_error_is_the_first_epoch_without_errors() -> None:
    found = train([8, 16], extra_epochs=4, keep=["zero training error", 1], learning_rate=0.02)
    assert (found.status == 0).all()
    assert list(found.kept.values) == ["1", "zero training error", "last"]
    for width, run in itertools.product((8, 16), (0, 1)):
        network = found.sel(width=width, run=run)
        zero = int(network.epochs_to_zero_training_error)
        assert (network.train_error[:zero] > 0).all()
        assert network.train_error[zero] == 0
        for name in PERFORMANCE:
            assert network[name][: zero + 5].notnull().all()
            assert network[name][zero + 5 :].isnull().all()
            assert network[f"final_{name}"] == network[name][zero + 4]
        np.testing.assert_array_equal(network.kept_epoch, [1, zero, zero + 4])
        alone = train([width], until=zero, learning_rate=0.02).sel(run=run, kept="last")
        for name in ("train_features", "test_features", "readout", "bias"):
            kept = network[f"{name}_{width}"]
            xr.testing.assert_equal(
                kept.sel(kept="zero training error", drop=True),
                alone[f"{name}_{width}"].drop_vars(["kept", "run"]).assign_coords(run=run, width=width),
            )
    zeros = found.epochs_to_zero_training_error
    assert len(np.unique(zeros)) > 1
    assert found.sizes["epoch"] == zeros.max() + 5


def test_a_network_that_does_not_come_to_zero_training_error() -> None:
    found = train([1, 16], max_epochs=30, extra_epochs=2, keep=["zero training error", 31], n_runs=1).sel(run=0)
    narrow, wide = found.sel(width=1), found.sel(width=16)
    assert (narrow.status.item(), wide.status.item()) == (2, 0)
    assert np.isnan(narrow.epochs_to_zero_training_error)
    assert narrow.train_error.notnull().sum() == 31
    assert narrow.final_train_error > 0
    assert found.train_features_1.isnull().all(["train_sample", "neuron_1"]).values.tolist() == [True, True, False]
    np.testing.assert_array_equal(narrow.kept_epoch, [np.nan, np.nan, 30])
    assert wide.epochs_to_zero_training_error < 29
    assert wide.kept_epoch[2] == wide.epochs_to_zero_training_error + 2


def test_zero_training_error_is_recorded_but_does_not_stop_a_number_of_epochs() -> None:
    until = train([16], until=40)
    assert (until.epochs_to_zero_training_error < 40).all()
    assert until.train_loss.notnull().all()
    assert until.sizes["epoch"] == 41
    assert (until.status == 0).all()


def test_ensembles_are_means_over_members() -> None:
    found = train([6, 9, 14, 18], member_width=6, until=6, n_runs=2)
    assert found.n_members.values.tolist() == [1, 0, 0, 3]
    for run in range(2):
        outputs = []
        for member in range(3):
            weight_seed, batch_seed = seeds(1, 6, run, member)
            module = wa.reference.build_mlp((6, 6), n_inputs=4, n_outputs=3, seed=weight_seed, bias=True)
            mine, orders = Perceptron(module), orders_of_samples(batch_seed, 70)
            for order in itertools.islice(orders, 6):
                for start in range(0, 70, 16):
                    batch = order[start : start + 16]
                    mine.step(DATA.x_train[batch], DATA.y_train[batch], 0.05, 0.9, 1e-3)
            outputs.append(mine.layers(DATA.x_test)[-1])
        exponentials = np.exp(outputs)
        probabilities = (exponentials / exponentials.sum(axis=2, keepdims=True)).mean(axis=0)
        for name, logits in (("", np.log(probabilities)), ("logit_", np.mean(outputs, axis=0))):
            expected = loss_and_error(logits, DATA.y_test)
            at = found.sel(width=18, run=run)
            names = (f"{name}ensemble_test_loss", f"{name}ensemble_test_error")
            np.testing.assert_allclose([at[each] for each in names], expected, rtol=1e-4)
        singles = [loss_and_error(each, DATA.y_test)[1] for each in outputs]
        np.testing.assert_allclose(found.member_test_error.sel(run=run), singles, rtol=1e-12)
    assert (found.logit_ensemble_test_loss.sel(width=18) != found.ensemble_test_loss.sel(width=18)).all()
    one = found.sel(width=6)
    for name in ("ensemble_", "logit_ensemble_"):
        np.testing.assert_array_equal(one[f"{name}test_error"], one.final_test_error)
        np.testing.assert_allclose(one[f"{name}test_loss"], one.final_test_loss, rtol=1e-6)
        assert found[f"{name}test_error"].sel(width=[9, 14]).isnull().all()
    assert (found.member_status == 0).all()


def test_members_need_not_be_among_the_widths() -> None:
    found = train([6, 12], member_width=3, until=3)
    assert found.n_members.values.tolist() == [2, 4]
    assert "readout_3" not in found
    more = train([3, 6, 12], member_width=3, until=3)
    xr.testing.assert_equal(more.member_test_error, found.member_test_error)
    xr.testing.assert_equal(more.ensemble_test_loss.sel(width=[6, 12]), found.ensemble_test_loss)
    np.testing.assert_array_equal(more.final_test_error.sel(width=3), more.member_test_error.isel(member=0))


def test_other_widths_and_runs_do_not_matter() -> None:
    few = train([8], until=4, n_runs=1)
    many = train([4, 8, 16], until=4, n_runs=3, member_width=4, keep=[0])
    same = many.sel(width=[8], run=[0], kept=["last"])[list(few.data_vars)]
    xr.testing.assert_equal(same.drop_vars(["neuron_8"], errors="ignore"), few)
    starts = many.train_loss.isel(epoch=0).values.ravel()
    assert len(np.unique(starts)) == 9
    assert len(np.unique(many.member_test_error.values[:, 1:])) > 1
    other = train([8], until=4, n_runs=1, seed=2)
    assert other.train_loss[0, 0, 0] != few.train_loss[0, 0, 0]


def test_no_two_networks_share_a_seed() -> None:
    from wideangle.representation._training_plan import check_plan

    arguments: dict[str, Any] = {
        "until": 1,
        "weight_decay": 0,
        "seed": 1,
        "n_hidden": 1,
        "learning_rate": 1,
        "momentum": 0,
        "batch_size": 1,
        "max_epochs": 1,
        "extra_epochs": 0,
        "keep": "last",
    }
    plan = check_plan(DATA, range(1, 13), n_runs=5, member_width=1, **arguments)
    networks = plan.networks()
    assert len(networks) == 5 * (12 + 11)
    assert len({seed for network in networks for seed in plan.seeds(network)}) == 2 * len(networks)


def test_threads_and_progress_do_not_change_results(capsys: pytest.CaptureFixture[str]) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    one = train([4, 32], until=5, member_width=4)
    assert capsys.readouterr().err == ""
    for n_threads in (2, 5, None):
        xr.testing.assert_identical(train([4, 32], until=5, member_width=4, n_threads=n_threads, progress=True), one)
    assert "networks" in capsys.readouterr().err
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_divergence_is_a_status_and_leaves_nan() -> None:
    found = train([8, 16], learning_rate=1e25, keep=[0], member_width=8)
    assert (found.status == 1).all()
    assert (found.member_status == 1).all()
    assert found.train_loss.isel(epoch=0).notnull().all()
    assert found.epochs_to_zero_training_error.isnull().all()
    for name in ("final_train_error", "final_test_loss", "ensemble_test_error", "logit_ensemble_test_loss"):
        assert found[name].isnull().all(), name
    for name in ("train_features_8", "readout_16", "bias_16", "test_features_16"):
        assert found[name].sel(kept="0").notnull().all(), name
        assert found[name].sel(kept="last").isnull().all(), name


def test_a_member_that_diverges_takes_its_ensembles_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from wideangle.reference.epoch_training import train_epochs

    def sometimes(model: Any, data: Any, descent: Any, *, seed: int, **arguments: Any) -> Any:
        if seed == seeds(1, 4, 1, 1)[1]:
            descent = descent._replace(learning_rate=1e25)
        return train_epochs(model, data, descent, seed=seed, **arguments)

    before = train([4, 8, 12], until=3, member_width=4)
    monkeypatch.setattr("wideangle.representation.width_training.train_epochs", sometimes)
    found = train([4, 8, 12], until=3, member_width=4)
    np.testing.assert_array_equal(found.member_status, [[0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(found.ensemble_test_error.isnull(), [[False, False], [False, True], [False, True]])
    xr.testing.assert_equal(found.ensemble_test_loss.sel(run=0), before.ensemble_test_loss.sel(run=0))
    xr.testing.assert_equal(found.final_test_loss, before.final_test_loss)
    assert found.member_test_error.isnull().sum() == 1


def test_layers_go_into_chunk_statistics_as_they_are() -> None:
    layer = train([16], until=5).sel(run=1, kept="last", width=16)
    for part in ("train", "test"):
        statistics = wa.representation.chunk_statistics(
            layer[f"{part}_features_16"],
            readout=layer.readout_16,
            bias=layer.bias_16,
            targets=layer[f"{part}_targets"],
            n_chunks=3,
            seed=1,
        )
        np.testing.assert_allclose(statistics.error.sel(chunk_size=16), layer[f"final_{part}_error"], atol=1e-12)
        np.testing.assert_allclose(statistics.loss.sel(chunk_size=16), layer[f"final_{part}_loss"], rtol=1e-5)


def test_clones_form_past_zero_training_error_and_under_weight_decay_only() -> None:
    data = wa.data.load_digits(seed=1)

    def explained(weight_decay: float) -> list[float]:
        found = train_widths(
            data, [128], n_runs=1, weight_decay=weight_decay, extra_epochs=100, keep=["zero training error"], seed=1
        )
        return [
            float(
                wa.representation.chunk_statistics(
                    found.train_features_128.sel(run=0, kept=label), seed=1, chunk_sizes=[16], n_chunks=10
                ).r2_outside_mean[0]
            )
            for label in ("zero training error", "last")
        ]

    before, after = explained(5e-3)
    without_before, without_after = explained(0.0)
    assert after > 0.9
    assert max(before, without_before, without_after) < 0.7


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_stops_training(interrupt: Callable[[str, str, str], str], n_threads: int) -> None:
    setup = """
    import wideangle as wa
    data = wa.data.load_digits(seed=1)
    def train(until, n_threads):
        return wa.representation.train_widths(
            data, [16, 128], n_runs=2, until=until, weight_decay=0, seed=1, n_threads=n_threads
        )
    train(1, 2)
    """
    assert interrupt(setup, f"train(10**6, {n_threads})", "print(train(1, 2).sizes['epoch'])") == "2\n"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": np.zeros((3, 3))}, TypeError, "data must be a LabelledData"),
        ({"data": (DATA.x_train, DATA.y_train)}, TypeError, "data must be a LabelledData"),
        ({"data": wa.data.LabelledData([[1.0]], [0], [[1.0]], [0], name="one"), "batch_size": 1}, ValueError, "data"),
        ({"widths": 16}, TypeError, "widths must be a sequence of integers"),
        ({"widths": [16, 8]}, ValueError, "widths must hold increasing"),
        ({"widths": [8, 8]}, ValueError, "widths must hold increasing"),
        ({"widths": []}, ValueError, "widths must hold increasing"),
        ({"widths": [0, 8]}, ValueError, r"widths\[0\] must lie between 1"),
        ({"widths": [8.0]}, TypeError, r"widths\[0\] must be an integer"),
        ({"n_runs": 0}, ValueError, "n_runs"),
        ({"n_runs": True}, TypeError, "n_runs"),
        ({"until": "zero error"}, ValueError, "until must be 'zero training error' or an integer, got 'zero error'"),
        ({"until": 0}, ValueError, "until must lie between 1"),
        ({"until": 1.5}, TypeError, "until must be an integer"),
        ({"until": None}, TypeError, "until must be an integer"),
        ({"weight_decay": -1e-3}, ValueError, r"weight_decay must lie in \[0, inf\)"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay must be finite"),
        ({"weight_decay": "1"}, TypeError, "weight_decay must be a real number"),
        ({"seed": -1}, ValueError, "seed"),
        ({"n_hidden": 0}, ValueError, "n_hidden"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be positive"),
        ({"momentum": 1}, ValueError, r"momentum must lie in \[0, 1\)"),
        ({"batch_size": 71}, ValueError, "batch_size must lie between 1 and 70"),
        ({"max_epochs": 0}, ValueError, "max_epochs"),
        ({"extra_epochs": -1}, ValueError, "extra_epochs"),
        ({"until": 5, "extra_epochs": 1}, ValueError, "extra_epochs must lie between 0 and 0.*until='zero training"),
        ({"keep": "first"}, ValueError, "keep must hold 'last', 'zero training error' or integers, got 'first'"),
        ({"keep": 3}, TypeError, "keep must be 'last' or a sequence"),
        ({"keep": [3, 3]}, ValueError, "keep must not hold anything twice"),
        ({"keep": ["last", "last"]}, ValueError, "keep must not hold anything twice"),
        ({"keep": [-1]}, ValueError, r"keep\[0\] must lie between 0"),
        ({"keep": ["last", 6], "until": 5}, ValueError, r"keep\[1\] must lie between 0 and 5"),
        ({"keep": [531], "extra_epochs": 30}, ValueError, r"keep\[0\] must lie between 0 and 530"),
        ({"keep": [1.0]}, TypeError, r"keep\[0\] must be an integer"),
        ({"member_width": 3}, ValueError, "member_width must divide one of the widths, got 3"),
        ({"member_width": 9}, ValueError, "member_width must lie between 1 and 8"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"widths": [2**20], "n_runs": 1000, "keep": range(100)}, ValueError, "GiB"),
        ({"n_runs": 10**6, "member_width": 1, "widths": [2**20]}, ValueError, "GiB"),
    ],
)
def test_bad_arguments_are_refused_before_any_training(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    monkeypatch.setattr("wideangle.representation.width_training._train_all", lambda *_: pytest.fail("trained"))
    given = {"data": DATA, "widths": [4, 8], **GOOD, **arguments}
    with pytest.raises(error, match=message):
        train_widths(given.pop("data"), given.pop("widths"), **given)


def test_arguments_of_numpy() -> None:
    found = train(np.array([4, 6], dtype=np.int32), until=np.int64(2), keep=np.array([1]), weight_decay=np.float32(0.5))
    plain = train([4, 6], until=2, keep=[1], weight_decay=0.5)
    xr.testing.assert_identical(found, plain)
