"""Tables of docs/performance.md on width scalings, and what they claim."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

import wideangle as wa
from bench.tables import table
from bench.timing import in_pairs

N_HIDDEN = 3
FEATURES = 64
WIDTHS = (64, 128, 256, 512, 1024)
N_SEEDS = 3
N_STEPS = 4
WIDE = 4096
MILLISECONDS_CLAIM = 10.0
SECONDS_CLAIM = 30.0
OVERHEAD_CLAIM = 4.0


def predictions_table(pairs: int, missed: list[str]) -> str:
    """The first step at infinite width in closed form, against a wide network that takes it."""
    rng = np.random.default_rng(0)
    sample, points = rng.standard_normal(FEATURES), rng.standard_normal((1000, FEATURES))
    rows = []
    for count in (1, 1000):
        theirs, ours, ratio = in_pairs(
            partial(one_wide_network, sample, points[:count]),
            partial(wa.parametrization.predict_first_step, N_HIDDEN, sample, points[:count], step=1.0),
            pairs=pairs,
            repeat_second=5,
        )
        rows.append((str(count), theirs.scaled(1e3), ours.scaled(1e3), ratio))
        if ours.median * 1e3 / count > MILLISECONDS_CLAIM:
            missed.append(f"predict_first_step, {count} inputs: {ours.median * 1e3 / count:.2g} ms an input")
    return (
        "## Width scalings\n\n`predict_first_step`, ReLU, three hidden layers, one training sample, in milliseconds;"
        f" beside one network of width {WIDE:,} in PyTorch, from drawing its weights to its outputs after the step,"
        " which are still of the order of one over the root of the width away.\n\n"
        + table(("inputs", "network, ms", "prediction, ms", "times faster"), rows)
    )


def one_wide_network(sample: np.ndarray, points: np.ndarray) -> torch.Tensor:
    """Outputs of a network after the first step."""
    scaling = wa.parametrization.scaling("ip-llr", N_HIDDEN)
    model = wa.reference.build_scaled_mlp(scaling, WIDE, n_inputs=FEATURES, n_outputs=1, seed=0)
    optimizer = wa.reference.scaled_optimizer(model, learning_rate=1.0)
    (-model(torch.tensor(sample[None], dtype=torch.float32)).sum()).backward()
    optimizer.step()
    with torch.no_grad():
        outputs: torch.Tensor = model(torch.tensor(points, dtype=torch.float32))
    return outputs
