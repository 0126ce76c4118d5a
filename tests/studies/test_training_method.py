"""Networks in training in studies: blocks are pure, and say what the plain function says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

Run = Callable[..., Block]
Pure = Callable[..., None]

X = [[-1.0, 0.5], [-0.2, 0.1], [0.3, -0.7], [0.9, 0.4], [0.1, 1.3]]
Y = [-1, -1, 1, 1, 1]
TRAINING: dict[str, Any] = {
    "width": 5,
    "depth": 2,
    "bias_variance": 0.5,
    "data": {"x": X, "y": Y},
    "n_steps": 40,
    "batch": 2,
    "learning_rate": 0.1,
    "noise": 0.1,
    "record": [0, 7, 40],
    "keep": ["tangent_kernel"],
}
UNSTABLE = {"activation": "linear", "loss": "squared", "learning_rate": 0.2, "n_steps": 300, "record": [0, 20, 300]}


def plain(number: int, parameters: dict[str, Any]) -> Any:
    options = {
        key: value for key, value in parameters.items() if key not in ("width", "depth", "bias_variance", "data")
    }
    return wa.response.simulate_training(
        wa.MLP((5, 5), bias_variance=0.5), (np.array(X), np.array(Y)), n_networks=number, seed=7, **options
    )


def samples(block: Block, name: str) -> Any:
    values = block.variables[name].samples
    assert values is not None
    return values


def diverged(block: Block) -> list[int]:
    total: Any = block.variables["diverged"].reduced["total"]
    return list(map(int, total.values))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"replacement": False, "activation": "tanh", "biases": "hidden", "parametrization": "ntk"},
        {"batch": "full", "method": "flow", "noise": None, "activation": "tanh"},
        UNSTABLE,
    ],
    ids=["descent", "permuted", "flow", "unstable"],
)
def test_samples_do_not_depend_on_blocks(assert_pure: Pure, change: dict[str, Any]) -> None:
    assert_pure("simulate_training", {**TRAINING, **change}, 60, (1, 16, 3, 31, 9))
    assert_pure("simulate_training", {**TRAINING, **change}, 20, (1, 16, 3), first=2**40 + 5)


@pytest.mark.parametrize("change", [{}, UNSTABLE, {"biases": False}], ids=["descent", "unstable", "no biases"])
def test_block_is_what_the_function_returns(run: Run, change: dict[str, Any]) -> None:
    parameters = {**TRAINING, **change}
    block = run("simulate_training", parameters, 5, 30)
    expected = plain(35, parameters).isel(network=slice(5, None))
    for name, dims in (
        ("loss", ("time",)),
        ("outputs", ("time", "input")),
        ("tangent_kernel", ("time", "input", "other_input")),
    ):
        assert block.variables[name].dims == dims
        np.testing.assert_array_equal(samples(block, name), expected[name].values)
    np.testing.assert_array_equal(block.coordinates["time"], expected.time.values)
    assert diverged(block) == np.isnan(expected.outputs).any("sample").sum("network").values.tolist()
    assert diverged(block)[-1] == int(expected.status.sum())


def test_diverged_networks_are_counted(run: Run) -> None:
    counts = diverged(run("simulate_training", {**TRAINING, **UNSTABLE}, 0, 30))
    assert counts[0] == 0
    assert 0 < counts[2] < 30
    assert counts[1] <= counts[2]


def test_only_what_is_wanted_is_returned(run: Run) -> None:
    assert set(run("simulate_training", TRAINING, 0, 3, Wanted(variables=("loss",))).variables) == {"loss"}
    without = {key: value for key, value in TRAINING.items() if key != "keep"}
    assert set(run("simulate_training", without, 0, 3).variables) == {"loss", "outputs", "diverged"}


def test_data_may_come_from_a_file(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array(X), y=np.array(Y), other=np.zeros(3))
    expected = samples(run("simulate_training", TRAINING, 0, 3), "outputs")
    method: Any = METHODS["simulate_training"]
    assert method.fingerprint(method.prepare(TRAINING)) == ""
    for data in (str(tmp_path / "data.npz"), {"path": str(tmp_path / "data.npz")}):
        parameters = {**TRAINING, "data": data}
        np.testing.assert_array_equal(samples(run("simulate_training", parameters, 0, 3), "outputs"), expected)
        assert len(method.fingerprint(method.prepare(parameters))) == 64


def test_files_that_change_or_are_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def described() -> wa.studies.Study:
        return wa.studies.Study("simulate_training", samples=4, seed=1, parameters={**TRAINING, "data": "data.npz"})

    begun, other = tmp_path / "begun", tmp_path / "other"
    for folder, inputs in ((begun, np.array(X)), (other, 2.0 * np.array(X))):
        folder.mkdir()
        np.savez(folder / "data.npz", x=inputs, y=np.array(Y))
    monkeypatch.chdir(begun)
    study = described()
    wa.studies.run(study, "s.zarr", progress=False, max_time=1e-9).close()
    monkeypatch.chdir(other)
    assert described().identity != study.identity
    with pytest.raises(wa.studies.StoreError, match=r"holds another study \(a file that it reads has changed since\)"):
        wa.studies.run(described(), begun / "s.zarr", progress=False)
    # What counts is the content of the file, not where it is.
    shutil.copy(begun / "data.npz", other / "data.npz")
    assert described().identity == study.identity
    assert wa.studies.run(described(), begun / "s.zarr", progress=False).attrs["state"] == "complete"
    monkeypatch.chdir(tmp_path)
    message = (
        f"looked for as {tmp_path}/data.npz.; go to the folder where the study was begun, or begin one with the whole"
    )
    with pytest.raises(ValueError, match=message):
        described()


def test_digits_are_images_of_two_classes() -> None:
    prepared = METHODS["simulate_training"].prepare({**TRAINING, "data": {"digits": [7, 3], "n_inputs": 30}})
    digits = wa.data.load_digits(seed=0)
    for k in range(30):
        row = np.flatnonzero((digits.x_train == prepared.run.x[k]).all(axis=1))[0]
        assert digits.y_train[row] == (3 if prepared.run.y[k] > 0.0 else 7)
    assert set(np.unique(prepared.run.y)) == {-1.0, 1.0}
    every = METHODS["simulate_training"].prepare({**TRAINING, "data": {"digits": [7, 3]}})
    assert len(every.run.x) == np.isin(digits.y_train, (3, 7)).sum()


def test_cells_share_their_data() -> None:
    cells = [METHODS["simulate_training"].prepare({**TRAINING, "learning_rate": rate}) for rate in (0.1, 0.2)]
    assert np.shares_memory(cells[0].run.x, cells[1].run.x)
    assert not cells[0].run.x.flags.writeable


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 3}, ValueError, "'simulate_training' has no 'steps'; did you mean 'n_steps'"),
        ({"batch": 6}, ValueError, "batch must lie between 1 and 5"),
        ({"record": [5, 50]}, ValueError, r"record\[1\] must lie between 0 and 40"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate must be positive"),
        ({"loss": "squares"}, ValueError, "loss must be one of"),
        ({"noise": 2.0}, ValueError, "noise must be between 0 and 1"),
        ({"keep": ["hidden_activations"]}, ValueError, "keep must hold 'tangent_kernel' or nothing in a study"),
        ({"keep": ["kernel"]}, ValueError, "keep must hold names from"),
        ({"method": "flow"}, ValueError, "batch must be 'full' for method='flow'"),
        ({"activation": "reul"}, ValueError, "activation must be one of"),
        ({"data": {"x": X, "y": [0] * 5}}, ValueError, "y must be -1 or 1 for the cross-entropy loss"),
        ({"data": {"x": X, "y": Y[:3]}}, ValueError, "y must hold one label for each of the 5 rows"),
        ({"data": {"x": X[0], "y": Y}}, ValueError, r"x must have shape \(input, feature\)"),
        ({"data": {"x": X, "z": Y}}, ValueError, "data has no 'z'"),
        ({"data": {"x": X}}, ValueError, "data must be given in one way, got x; give a table"),
        ({"data": 3}, TypeError, "data must be a table or a path, got int"),
        ({"data": "missing.npz"}, ValueError, "path of data must be a file with the suffix .npz that can be read here"),
        ({"data": {"digits": [1, 1]}}, ValueError, "digits must be different"),
        ({"data": {"digits": [1, 10]}}, ValueError, r"digits\[1\] must lie between 0 and 9"),
        ({"data": {"digits": 3}}, TypeError, "digits must be a list of two digits"),
        ({"data": {"digits": [1, 2], "n_inputs": 1000}}, ValueError, "n_inputs must lie between 1 and"),
        ({"data": {"digits": [1, 2], "split_seed": -1}}, ValueError, "split_seed must lie between"),
        ({"width": 10**6, "depth": 3}, ValueError, "GiB and this machine has"),
    ],
)
def test_bad_parameters_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        METHODS["simulate_training"].prepare({**TRAINING, **change})


@pytest.mark.parametrize(("entries", "message"), [({"x": X}, "found entries x, expected x and y"), ({}, "other names")])
def test_bad_files_are_named(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **(entries or {"z": np.zeros(2)}))
    with pytest.raises(ValueError, match=message):
        METHODS["simulate_training"].prepare({**TRAINING, "data": str(path)})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="found no readable"):
        METHODS["simulate_training"].prepare({**TRAINING, "data": str(path)})


def test_costs_are_those_of_steps_and_unknown_for_flow() -> None:
    method = METHODS["simulate_training"]
    short, long = (method.cost(method.prepare({**TRAINING, "n_steps": n, "record": 40})) for n in (400, 4000))
    assert short is not None
    assert long is not None
    assert 5.0 < long / short < 15.0
    assert method.cost(method.prepare({**TRAINING, "method": "flow", "batch": "full", "noise": None})) is None
