"""Random chunks of a layer in studies: blocks are pure, and say what the plain function says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies._method_files import Kept
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

Run = Callable[..., Block]
Pure = Callable[..., None]

CLONES: dict[str, Any] = {
    "n_inputs": 200,
    "latent_dim": 3,
    "n_clones": 3,
    "width": 8,
    "noise": 0.5,
    "layer_seed": 2,
    "chunk_sizes": [1, 5, 24],
    "readout": True,
}
NAMES = ("r2", "residual_correlation", "r2_outside", "residual_correlation_outside", "accuracy", "error", "loss")


def plain(number: int, **change: Any) -> Any:
    layer = wa.representation.synthetic_clones(200, 3, 3, 8, 0.5, seed=2)
    return wa.representation.chunk_statistics(
        layer.features,
        chunk_sizes=(1, 5, 24),
        n_chunks=number,
        seed=7,
        readout=layer.readout,
        bias=layer.bias,
        targets=layer.targets,
        **change,
    )


def assert_same(block: Block, expected: Any, first: int, names: tuple[str, ...] = NAMES) -> None:
    assert set(block.variables) == set(names)
    for name in names:
        assert block.variables[name].dims == ("chunk_size",)
        values: Any = block.variables[name].samples
        np.testing.assert_array_equal(values, expected[name].values.T[first:], err_msg=name)
    np.testing.assert_array_equal(block.coordinates["chunk_size"], expected.chunk_size.values)


@pytest.mark.parametrize("ridge", [1e-8, 0.5])
def test_samples_do_not_depend_on_blocks(assert_pure: Pure, ridge: float) -> None:
    assert_pure("chunk_statistics", {**CLONES, "ridge": ridge}, 40, (1, 16, 3, 20))
    assert_pure("chunk_statistics", {**CLONES, "ridge": ridge}, 20, (1, 16, 3), first=2**40 + 5)


def test_block_is_what_the_function_returns(run: Run) -> None:
    assert_same(run("chunk_statistics", {**CLONES, "ridge": 0.1}, 5, 6), plain(11, ridge=0.1), 5)


def test_only_what_is_wanted_is_measured(run: Run) -> None:
    block = run("chunk_statistics", CLONES, 0, 3, Wanted(variables=("loss",)))
    assert_same(block, plain(3), 0, ("loss",))
    block = run("chunk_statistics", {**CLONES, "readout": False}, 0, 3)
    assert_same(block, plain(3), 0, NAMES[:4])


def test_layers_may_come_from_files(run: Run, tmp_path: Path) -> None:
    layer = wa.representation.synthetic_clones(200, 3, 3, 8, 0.5, seed=2)
    names = ("features", "readout", "bias", "targets")
    np.savez(tmp_path / "layer.npz", **{name: layer[name].values for name in names})  # type: ignore[arg-type]
    np.save(tmp_path / "layer.npy", layer.features.values)
    parameters = {"chunk_sizes": [1, 5, 24], "path": str(tmp_path / "layer.npz"), "readout": True}
    assert_same(run("chunk_statistics", parameters, 2, 3), plain(5), 2)
    parameters = {"chunk_sizes": [1, 5, 24], "path": str(tmp_path / "layer.npy")}
    assert_same(run("chunk_statistics", parameters, 2, 3), plain(5), 2, NAMES[:4])
    with pytest.raises(ValueError, match=r"readout needs the entries readout and targets, which .*layer.npy lacks"):
        METHODS["chunk_statistics"].prepare({**parameters, "readout": True})


def test_a_changed_file_is_another_layer(run: Run, tmp_path: Path) -> None:
    method: Any = METHODS["chunk_statistics"]
    path = tmp_path / "layer.npy"
    rng = np.random.default_rng(1)
    found = []
    for time in (1, 2):
        np.save(path, rng.standard_normal((50, 8)))
        os.utime(path, ns=(time, time))  # clocks may be coarse
        parameters = {"path": str(path)}
        values: Any = run("chunk_statistics", parameters, 0, 1, Wanted(variables=("r2",))).variables["r2"].samples
        found.append((method.fingerprint(method.prepare(parameters)), values[0, 0]))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
    assert method.fingerprint(method.prepare(CLONES)) == ""


def test_missing_inputs_are_dropped_if_asked_for(run: Run, tmp_path: Path) -> None:
    features = np.random.default_rng(1).standard_normal((50, 8))
    features[3, 2] = np.nan
    np.save(tmp_path / "layer.npy", features)
    parameters = {"path": str(tmp_path / "layer.npy")}
    with pytest.raises(ValueError, match='give missing="drop"'):
        run("chunk_statistics", parameters, 0, 3)
    block = run("chunk_statistics", {**parameters, "missing": "drop"}, 0, 3)
    expected = wa.representation.chunk_statistics(features, missing="drop", n_chunks=3, seed=7)
    assert_same(block, expected, 0, NAMES[:4])


def test_few_inputs_warn() -> None:
    with pytest.warns(UserWarning, match="24 inputs of 24 neurons"):
        METHODS["chunk_statistics"].prepare({**CLONES, "n_inputs": 24})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_clone": 10}, ValueError, "'chunk_statistics' has no 'n_clone'; did you mean 'n_clones'"),
        ({"n_inputs": 9}, ValueError, "n_inputs must be at least width \\+ 2 = 10"),
        ({"width": 2.5}, TypeError, "width must be an integer"),
        ({"noise": -1.0}, ValueError, "noise must lie in"),
        ({"layer_seed": -1}, ValueError, "layer_seed must lie between 0"),
        ({"chunk_sizes": [5, 1]}, ValueError, "chunk_sizes must hold increasing numbers"),
        ({"chunk_sizes": [25]}, ValueError, "chunk_sizes\\[0\\] must lie between 1 and 24"),
        ({"ridge": -1.0}, ValueError, "ridge must lie in"),
        ({"missing": "skip"}, ValueError, "missing must be one of"),
        ({"readout": 1}, TypeError, "readout must be True or False"),
        ({"path": "layer.npy"}, ValueError, "takes the path of a layer or draws one, got path and n_inputs"),
        ({"n_inputs": 10**9, "n_clones": 10**6}, ValueError, "GiB and this machine has"),
    ],
)
def test_bad_parameters_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        METHODS["chunk_statistics"].prepare({**CLONES, **change})


def test_bad_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    for path, message in (
        ("layer.txt", "suffix .npz or .npy, got '.*layer.txt'"),
        ("layer.npz", r"can be read here and on every worker, got '.*layer.npz' \(No such file"),
        ("folder.npz", "got the directory"),
        ("damaged.npz", "no readable .npz archive"),
    ):
        with pytest.raises(ValueError, match=message):
            METHODS["chunk_statistics"].prepare({"path": str(tmp_path / path)})
    with pytest.raises(TypeError, match="path must be the path of a file"):
        METHODS["chunk_statistics"].prepare({"path": 1})
    with pytest.raises(ValueError, match="needs the parameter 'n_inputs'"):
        METHODS["chunk_statistics"].prepare({"noise": 0.5})


def test_kept_results_are_bounded_and_made_again() -> None:
    made: list[str] = []

    def make(key: str) -> Callable[[], tuple[str, int]]:
        def made_now() -> tuple[str, int]:
            made.append(key)
            return key.upper(), 40

        return made_now

    kept: Kept[str] = Kept(100)
    for key in "abacab":
        assert kept.get(key, make(key)) == key.upper()
    assert made == ["a", "b", "c", "b"]
    large: Kept[int] = Kept(10)
    assert [large.get("x", lambda: (1, 50)), large.get("x", lambda: (2, 50))] == [1, 1]
