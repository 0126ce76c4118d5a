"""The numbers of panel (f): networks trained on images most of which carry a feature that gives the class away."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.papers.dynamics import MOST_IMAGES, SOURCE, WITHOUT_PATCH
from wideangle.reference import build_mlp, train_full_batch

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

WIDTH = 64
# In units of 1/features, since the squared norm of an image, which sets the speed of learning, is of that order.
LEARNING_RATE = 6.4
TARGET_LOSS = 0.1
PATCH_VALUE = 1.0  # One standard deviation of a pixel.
KINDS = ("clean", "patched", "reversed")


class Images(NamedTuple):
    """Images (sample, feature) with labels of -1, even class, and 1, odd class."""

    x: Array
    y: Array


def patched(data: LabelledData, *, n_runs: int, steps: int, seed: int, progress: bool = False) -> xr.Dataset:
    """Train networks of one hidden layer with the patch on all training images but a fraction.

    The patch is a block of pixels in a corner, set to the label. Networks with the same run start from the same weights
    whatever the fraction.

    Returns
    -------
    xarray.Dataset
        Over ``without``, the fraction of training images without patch, ``run`` and ``time`` (learning rate times
        steps): ``train_loss``, and ``accuracy(image, ...)`` and ``margin(image, ...)``, the mean margin, on test images
        that are clean, have the patch of their class, or that of the other one ("reversed"). ``equal_loss``, a training
        loss that all of them reach, 0.1 if they do, and at the first step with at most that: ``equal_time``
        (without, run), ``equal_accuracy`` and ``equal_margin`` (image, without, run).
    """
    import xarray as xr
    from tqdm import tqdm

    train, test = (_odd_and_even(x, y, seed) for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)))
    block = patch_pixels(data.n_features)
    views = [test.x, add_patch(test.x, test.y, block), add_patch(test.x, -test.y, block)]
    rate = LEARNING_RATE / data.n_features
    size = (len(WITHOUT_PATCH), n_runs, steps + 1)
    losses, accuracies, margins = np.empty(size), np.empty((len(KINDS), *size)), np.empty((len(KINDS), *size))
    with tqdm(total=size[0] * n_runs, desc="training", unit="network", disable=not progress) as bar:
        for run in range(n_runs):
            # A permutation for all fractions, so that images without patch are among those of the next larger fraction.
            order = np.random.default_rng([seed, 3, run]).permutation(len(train.y))
            for number, fraction in enumerate(WITHOUT_PATCH):
                with_patch = order[round(fraction * len(order)) :]
                x = train.x.copy()
                x[with_patch] = add_patch(x[with_patch], train.y[with_patch], block)
                outputs = _train(Images(x, train.y), views, rate, steps, run_seed(seed, run))
                losses[number, run] = np.mean(np.logaddexp(0.0, -train.y * outputs[0]), axis=1)
                for kind in range(len(KINDS)):
                    here = test.y * outputs[kind + 1]
                    accuracies[kind, number, run] = np.mean(here > 0.0, axis=1)
                    margins[kind, number, run] = np.mean(here, axis=1)
                bar.update()
    dataset = xr.Dataset(
        {
            "train_loss": (("without", "run", "time"), losses),
            "accuracy": (("image", "without", "run", "time"), accuracies),
            "margin": (("image", "without", "run", "time"), margins),
        },
        {"image": list(KINDS), "without": list(WITHOUT_PATCH), "time": rate * np.arange(steps + 1)},
        provenance(
            "patched",
            source=SOURCE,
            data=data.name,
            n_train=len(train.y),
            n_test=len(test.y),
            patch_pixels=block.tolist(),
            width=WIDTH,
            learning_rate=rate,
            steps=steps,
            seed=seed,
        ),
    )
    result: xr.Dataset = dataset.assign(at_equal_loss(dataset))
    return result


def at_equal_loss(dataset: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return time, accuracies and margins when the training loss of each network gets to a common value."""
    target = max(TARGET_LOSS, float(dataset["train_loss"].min("time").max()))
    first = (dataset["train_loss"] <= target).argmax("time")
    return {
        "equal_loss": dataset["train_loss"].mean() * 0.0 + target,
        "equal_time": dataset["time"][first].drop_vars("time"),
        "equal_accuracy": dataset["accuracy"].isel(time=first).drop_vars("time"),
        "equal_margin": dataset["margin"].isel(time=first).drop_vars("time"),
    }


def patch_pixels(n_features: int) -> NDArray[np.int64]:
    """Return the features to set: a corner block of a quarter of the side of a square image, else the first 16th."""
    side = math.isqrt(n_features)
    if side**2 != n_features:
        return np.arange(max(1, n_features // 16))
    edge = np.arange(max(1, side // 4))
    return np.asarray((side * edge[:, None] + edge).ravel())


def add_patch(x: Array, y: Array, pixels: NDArray[np.int64]) -> Array:
    """Return images with the patch of the classes y, -1 or 1."""
    result: Array = x.copy()
    result[:, pixels] = PATCH_VALUE * y[:, None]
    return result


def run_seed(seed: int, run: int) -> int:
    """Return the seed of the weights of a run."""
    return int(np.random.SeedSequence(seed, spawn_key=(4, run)).generate_state(1, np.uint64)[0])


def _odd_and_even(x: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> Images:
    chosen = np.arange(len(labels))
    if len(labels) > MOST_IMAGES:
        chosen = np.sort(np.random.default_rng([seed, 5]).permutation(len(labels))[:MOST_IMAGES])
    return Images(x[chosen].astype(np.float64), np.where(labels[chosen] % 2 == 0, -1.0, 1.0))


def _train(train: Images, views: list[Array], rate: float, steps: int, seed: int) -> list[Array]:
    """Return outputs (step, sample) on the training images and on each of the views."""
    model = build_mlp((WIDTH,), n_inputs=train.x.shape[1], n_outputs=1, seed=seed)
    everything = next(model.parameters()).new_tensor(np.concatenate([train.x, *views]))
    outputs = train_full_batch(
        model,
        train.x,
        train.y,
        learning_rate=rate,
        steps=steps,
        record=lambda network: network(everything).reshape(-1),
    )
    parts: list[Array] = np.split(outputs, np.cumsum([len(train.x), *map(len, views)])[:-1], axis=1)
    return parts
