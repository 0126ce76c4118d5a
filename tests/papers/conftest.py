"""The reproductions, much reduced, made once for all tests of them."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from wideangle.data import LabelledData
from wideangle.papers import _frame, dynamics, parametrization, propagation, representation, response


class Reduced(NamedTuple):
    """A reduced reproduction of a paper."""

    paper: ModuleType
    job: Any
    result: _frame.Reproduction[Any]


def clouds(classes: int, features: int, shift: np.ndarray, split: int, size: int) -> LabelledData:
    """Well separated clouds."""
    labels = np.arange(size) % classes
    x = (np.random.default_rng(8).normal(size=(size, features)) + shift[labels]).astype(np.float32)
    return LabelledData(x[:split], labels[:split], x[split:], labels[split:], name="clouds")


@pytest.fixture(scope="session")
def reduced_propagation(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    pytest.importorskip("torch")
    job = propagation.Job(
        data=clouds(3, 6, 3.0 * np.eye(6), 200, 300),
        out=tmp_path_factory.mktemp("propagation"),
        seed=3,
        n_samples=20_000,
        n_tested=20_000,
        n_gram_samples=2_000,
        architectures=[(20,) * 2, (10,) * 4, (6, 9, 6), (8,) * 12],
        n_runs=2,
        steps=15,
        n_workers=1,
    )
    return Reduced(propagation, job, propagation.reproduce(job))


@pytest.fixture(scope="session")
def reduced_dynamics(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    pytest.importorskip("torch")
    job = dynamics.Job(
        # Images of 4 x 4 pixels, with nothing of a class where the patch goes.
        data=clouds(4, 16, 1.5 * np.eye(16)[5:], 200, 400),
        out=tmp_path_factory.mktemp("dynamics"),
        seed=3,
        n_networks=3,
        n_grid=21,
        learning_rates=(0.4, 0.2, 0.1),
        n_runs=3,
        steps=60,
        widths=(64, 256),
        n_wide=8,
    )
    return Reduced(dynamics, job, dynamics.reproduce(job))


@pytest.fixture(scope="session")
def reduced_parametrization(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    pytest.importorskip("torch")
    job = parametrization.Job(
        data=clouds(3, 6, 3.0 * np.eye(6), 200, 300),
        out=tmp_path_factory.mktemp("parametrization"),
        seed=3,
        widths=(16, 32, 64, 128),
        n_seeds=3,
        width=48,
        n_steps=20,
        batch_size=50,
        n_hybrid=2,
        n_compared=8,
        n_threads=2,
    )
    return Reduced(parametrization, job, parametrization.reproduce(job))


@pytest.fixture(scope="session")
def reduced_representation(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    pytest.importorskip("torch")
    job = representation.Job(
        data=clouds(4, 6, 8.0 * np.eye(6), 400, 500),
        out=tmp_path_factory.mktemp("representation"),
        seed=3,
        widths=(8, 16, 32),
        n_runs=2,
        extra_epochs=10,
        n_chunks=5,
        n_layers=2,
        n_samples=1500,
        n_threads=2,
    )
    return Reduced(representation, job, representation.reproduce(job))


@pytest.fixture(scope="session")
def reduced_response(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    pytest.importorskip("torch")
    job = response.Job(
        data=clouds(3, 6, 3.0 * np.eye(6), 200, 300),
        out=tmp_path_factory.mktemp("response"),
        seed=3,
        n_networks=10,
        n_predicted=2,
        n_steps=2**11,
        learning_rates=(0.05, 0.1),
        duration=50.0,
        n_runs=2,
        image_steps=32,
        image_samples=10,
        n_threads=2,
    )
    return Reduced(response, job, response.reproduce(job))


@pytest.fixture(scope="session", params=["propagation", "dynamics", "parametrization", "representation", "response"])
def reduced(request: pytest.FixtureRequest) -> Reduced:
    """Each of the reproductions in turn."""
    result: Reduced = request.getfixturevalue(f"reduced_{request.param}")
    return result
