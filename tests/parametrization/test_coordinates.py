"""The coordinate check: named scalings pass, wrong ones are caught, and modules of one's own are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.parametrization import (
    Scaling,
    classify,
    coordinate_check,
    coordinate_table,
    scaling,
    write_coordinate_report,
)
from wideangle.scalings import SCALINGS

torch = pytest.importorskip("torch")

DATA = wa.data.load_digits(seed=0)
WIDTHS = (64, 128, 256, 512)


def check(name: Any, **options: Any) -> Any:
    arguments: dict[str, Any] = {"widths": WIDTHS} | options
    return coordinate_check(name, DATA, **arguments)


def assert_regime(result: Any, optimizer: Any = "sgd") -> None:
    """No verdict against the scaling, and the regime that classify tells."""
    for depth in result.depth.values:
        part = result.sel(depth=depth)
        expected = classify(scaling(result.attrs["scaling"], int(depth)), optimizer=optimizer).name
        assert part.regime.values.tolist() == [expected] * part.sizes["activation"], coordinate_table(result)
    assert "disagrees" not in result.verdict.values, coordinate_table(result)
    assert "disagrees" not in result.overall.values


@pytest.mark.parametrize("name", ["standard", "ntk", "mup", "ip-llr"])
def test_named_scalings_keep_what_they_promise(name: str) -> None:
    assert_regime(check(name, depths=(2,)))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", SCALINGS)
def test_every_named_scaling_at_four_depths(name: str, optimizer: Any) -> None:
    result = coordinate_check(name, DATA, depths=(1, 2, 3, 4), n_seeds=3, optimizer=optimizer, n_threads=2)
    assert_regime(result, optimizer)
    assert np.mean(result.overall == "agrees") >= 0.75
    assert set(result.overall.values.ravel()) <= {"agrees", "not resolved"}


@pytest.mark.parametrize(("name", "expected"), [("standard", "mup"), ("ntk", "mup"), ("mup", "ntk"), ("ip", "ip-llr")])
def test_networks_under_another_scaling_are_caught(name: str, expected: str) -> None:
    result = check(name, expected=expected, n_seeds=3)
    assert result.overall.item() == "disagrees"
    assert result.regime.item() != classify(scaling(expected, 3)).name


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("shift", [1, -1])
def test_one_learning_rate_that_is_wrong_is_caught_in_its_layer(layer: int, shift: int) -> None:
    mup = scaling("mup", 3)
    rates = [*mup.c]
    rates[layer] += shift
    wrong = Scaling(mup.a, mup.b, rates)
    result = check(wrong, expected="mup", n_seeds=3)
    assert result.overall.item() == "disagrees"
    if shift < 0:
        # What is too large leaves its leading order in later steps.
        assert result.update_verdict.sel(step=1, layer=layer + 1).item() == "disagrees"
    else:
        assert result.verdict.sel(layer=layer + 1).item() == "disagrees"
        # Smaller than it should be: other layers may move the less, but it is this layer's own share that shrinks.
        assert result.update_exponent.sel(step=4, layer=layer + 1).item() == pytest.approx(-1.0, abs=0.25)
        assert "disagrees" not in result.verdict.sel(layer=slice(1, layer)).values


def test_layers_beyond_a_shallow_network_are_empty() -> None:
    result = check("mup", depths=(1, 2), activations=("relu", "tanh"), widths=(16, 32, 64), n_seeds=2, n_steps=2)
    assert dict(result.sizes) == {"depth": 2, "activation": 2, "width": 3, "seed": 2, "step": 3, "layer": 3}
    shallow = result.sel(depth=1)
    assert np.isnan(shallow["size"].sel(layer=3)).all()
    assert (shallow.verdict.sel(layer=3) == "").all()
    assert np.isfinite(shallow["size"].sel(layer=[1, 2])).all()
    assert np.isnan(result.change_exponent.sel(step=0)).all()
    assert np.isfinite(result.size_exponent.sel(depth=2)).all()


def test_sizes_are_those_of_the_networks() -> None:
    mup = scaling("mup", 1)
    result = check(mup, widths=(8, 16, 32), n_seeds=2, n_steps=1, learning_rate=0.5, batch_size=4, seed=3)
    drawn = np.random.Generator(np.random.Philox(3)).permutation(len(DATA.x_train))[:4]
    x, y = DATA.x_train[drawn].astype(float), np.eye(10)[DATA.y_train[drawn]]
    # Two sets of 8, 4 and 2 networks; the second set of width 16 is looked at.
    seeds = np.random.SeedSequence(3).generate_state(28, np.uint64)[20:24] >> np.uint64(1)
    expected: dict[str, list[Any]] = {"size": [], "change": [], "update": []}
    for seed in seeds:
        model = wa.reference.build_scaled_mlp(mup, 16, n_inputs=64, n_outputs=10, seed=int(seed))
        first, last = (weight.detach().numpy().astype(float) for weight in model.weights)
        z = x @ first.T * 4.0
        f = np.maximum(z, 0.0) @ last.T / 4.0
        residual = (1.0 / (1.0 + np.exp(-f)) - y) / 4
        first_update = -0.5 * 4.0 * ((residual @ last / 4.0) * (z > 0)).T @ x
        last_update = -0.5 / 4.0 * residual.T @ np.maximum(z, 0.0)
        moved = x @ (first + first_update).T * 4.0
        output = np.maximum(moved, 0.0) @ (last + last_update).T / 4.0
        expected["size"].append((moved, output))
        expected["change"].append((moved - z, output - f))
        expected["update"].append((moved - z, np.maximum(moved, 0.0) @ last_update.T / 4.0))
    for name, networks in expected.items():
        found = result[name].isel(depth=0, activation=0, width=1, seed=1, step=1).values
        layers = (np.stack(layer) for layer in zip(*networks, strict=True))
        np.testing.assert_allclose(found, [np.sqrt(np.mean(values**2)) for values in layers], rtol=1e-9)


def test_output_bias_is_left_out() -> None:
    # A readout that does not learn, but for its bias.
    s = Scaling((0, 0), (0, "1/2"), (50, 50), bias_c=(50, 0), biases="zero")
    result = check(s, widths=(8, 16, 32), n_seeds=2, n_steps=1, learning_rate=0.5)
    assert result.change.sel(layer=2, step=1).max() < 1e-12
    sizes = result["size"].sel(layer=2)
    np.testing.assert_allclose(sizes.sel(step=1), sizes.sel(step=0), rtol=1e-9)


def test_smooth_activations_under_ip_llr_have_no_prediction() -> None:
    result = check("ip-llr", activations=("relu", "gelu"), widths=(16, 32, 64), n_seeds=2, n_steps=1)
    assert result.overall.sel(activation="gelu").item() == "no prediction"
    assert set(result.verdict.sel(activation="gelu").values.ravel()) == {"no prediction"}
    assert np.isnan(result.change_predicted.sel(activation="gelu")).all()
    assert result.overall.sel(activation="relu").item() != "no prediction"
    for name, depth in (("ip-llr", 2), ("mup", 3), ("ip-bias", 3)):
        result = check(name, depths=(depth,), activations=("gelu",), widths=(16, 32, 64), n_seeds=2, n_steps=1)
        assert result.overall.item() != "no prediction"


@pytest.mark.parametrize(
    ("name", "hidden", "activation", "expected"),
    [
        ("ip-non-centered", 2, "tanh", False),
        ("ip-non-centered", 2, "relu", True),
        ("ip-non-centered", 2, "gelu", True),
        ("hp", 3, "linear", False),
        ("hp", 2, "linear", False),
        ("hp", 2, "erf", False),
        ("hp", 1, "erf", True),
        ("hp", 3, "relu", True),
        ("ip-llr", 2, "sin", False),
        ("ip-llr", 2, "gelu", True),
        ("ip-llr", 3, "gelu", False),
        ("mup", 3, "tanh", True),
    ],
)
def test_where_exponents_of_generic_activations_hold(name: str, hidden: int, activation: str, expected: bool) -> None:
    from wideangle.parametrization._coordinate_cases import network_cases

    [[case]] = network_cases(name, None, (hidden,), (activation,), DATA, "sgd")
    assert case.has_prediction is expected


def test_tables_and_reports_of_parts_and_of_sizes_that_are_zero() -> None:
    result = check("mup", depths=(1,), widths=(8, 16, 32), n_seeds=2, n_steps=1)
    assert coordinate_table(result.isel(depth=0, activation=0)) == coordinate_table(result)
    for name in ("size", "change", "update"):
        result[name][:] = 0.0
    assert "<figure>" in report_of(result)
    for path in (Path("."), Path("missing") / "report.html"):
        with pytest.raises(OSError, match="path must be a file"):
            write_coordinate_report(result, path)


def test_networks_that_diverge_count_as_growing() -> None:
    # Squares of squares of a learning rate that grows like the width to the twelfth.
    fast = Scaling((0, 0, 0), (0, "1/2", "1/2"), (-12, -12, -12))
    options: dict[str, Any] = {"activations": ("abs",), "learning_rate": 1e-20, "n_seeds": 2, "n_steps": 6}
    result = check(fast, **options)
    assert result.diverged.isel(width=-1).all()
    assert result.regime.item() == "unstable"
    assert result.overall.item() != "disagrees"
    against = check(fast, expected="mup", **options)
    assert against.overall.item() == "disagrees"
    assert "left the range of floats" in report_of(against)


def test_the_result_depends_on_the_seed_alone() -> None:
    options: dict[str, Any] = {"widths": (8, 16, 32), "n_seeds": 2, "n_steps": 1, "depths": (1,)}
    before = torch.get_rng_state()
    one, same, other = (check("mup", seed=seed, **options) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.identical(same)
    assert one.identical(check("mup", seed=1, n_threads=2, **options))
    assert not one["size"].equals(other["size"])


def report_of(result: Any) -> str:
    path = Path("report.html")
    write_coordinate_report(result, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_table_and_report() -> None:
    result = check("standard", expected="mup", depths=(1, 2), widths=(16, 32, 64), n_seeds=2, n_steps=2)
    table = coordinate_table(result)
    assert table.count("standard against mup") == 2
    lines = table.splitlines()
    assert lines[0].startswith("1 hidden layer, relu, sgd, standard against mup: ")
    assert lines[1].split() == ["layer", "size", "at", "the", "start", "change", "update", "verdict"]
    assert lines[3].startswith("output  -1/2: ")
    ends = ("exponent", "low", "high")
    exponent, low, high = (round(float(result[f"size_{end}"][0, 0, 0, 1]), 2) + 0.0 for end in ends)
    assert f"-1/2: {exponent:.2f} [{low:.2f}, {high:.2f}]" in lines[3]
    page = report_of(result)
    assert page.count("<figure>") == 2
    assert page.count("data:image/svg+xml") == 4
    assert f"-1/2: {exponent:.2f} [{low:.2f}, {high:.2f}]" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "standard against mup" in page
    wrongs: list[Any] = [None, result["size"], result.assign_attrs(function="other")]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="result of coordinate_check"):
            coordinate_table(wrong)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scaling": "mupp"}, ValueError, "name must be one of"),
        ({"scaling": None}, TypeError, "scaling must be a name or a Scaling"),
        ({"scaling": 3}, TypeError, "scaling must be a Scaling"),
        ({"data": [[1.0]]}, TypeError, "data must be labelled"),
        ({"widths": (64, 128)}, ValueError, "at least 3 and increase"),
        ({"widths": (64, 64, 128)}, ValueError, "at least 3 and increase"),
        ({"depths": (0,)}, ValueError, r"depths\[0\]"),
        ({"depths": (2, 2)}, ValueError, "depths must be different"),
        ({"depths": 3}, TypeError, "depths must be a sequence"),
        ({"depths": ()}, ValueError, "depths must not be empty"),
        ({"scaling": scaling("mup", 2), "depths": (3,)}, ValueError, "depths must fit a Scaling"),
        ({"expected": scaling("mup", 2), "depths": (3,)}, ValueError, "depths must fit a Scaling"),
        ({"scaling": scaling("mup", 2), "expected": scaling("mup", 3)}, ValueError, "depths must fit a Scaling"),
        ({"activations": ("softmax",)}, ValueError, "activations must be one of"),
        ({"activations": "relu"}, TypeError, "activations must be a sequence"),
        ({"activations": ("relu", "relu")}, ValueError, "activations must be different"),
        ({"n_steps": 0}, ValueError, "n_steps"),
        ({"n_seeds": 1}, ValueError, "n_seeds"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite"),
        ({"first_learning_rate": -1.0}, ValueError, "first_learning_rate must be positive"),
        ({"optimizer": "muon"}, ValueError, "optimizer must be one of"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 10**6}, ValueError, "data has 1347 training samples"),
        ({"base_width": 64}, ValueError, "base_width must be left out"),
        ({"confidence": 1.0}, ValueError, "confidence must be positive and below 1"),
        ({"tolerance": 0.0}, ValueError, "tolerance must be positive"),
        ({"seed": -1}, ValueError, "seed"),
        ({"progress": "yes"}, TypeError, "progress must be True or False"),
        ({"widths": (64, 128, 2**24)}, ValueError, "networks of width 16777216 need"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"module": torch.nn.Linear(3, 2)}, TypeError, "module must be a function of the width"),
        ({"module": 3}, TypeError, "module must be a function of the width"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"scaling": "mup", "data": DATA, "widths": WIDTHS} | change
    with pytest.raises(error, match=message):
        coordinate_check(arguments.pop("scaling"), arguments.pop("data"), **arguments)
