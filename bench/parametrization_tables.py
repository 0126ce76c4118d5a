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
CHECKS = 7  # Turns of what takes seconds.


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


def checks_table(pairs: int, missed: list[str]) -> str:
    """The coordinate check, against the bare training of the same networks."""
    data = wa.data.load_digits(seed=0)
    rows = []
    for name in ("mup", "ip-llr"):
        theirs, ours, ratio = in_pairs(
            partial(bare_training, name, data),
            partial(wa.parametrization.coordinate_check, name, data, widths=WIDTHS, n_seeds=N_SEEDS, n_steps=N_STEPS),
            pairs=min(pairs, CHECKS),
        )
        rows.append((f"`{name}`", theirs, ours, ratio))
        if ours.median > SECONDS_CLAIM:
            missed.append(f"coordinate_check, {name}: {ours.median:.1f} s")
    return (
        f"`coordinate_check`, digits, three hidden layers, widths {', '.join(map(str, WIDTHS))}, {N_SEEDS} networks"
        f" of each, {N_STEPS} steps on one batch of 64, in seconds; beside it one network of each width and seed in"
        " PyTorch, drawn and trained in float64 on one thread and not looked at. The check takes two of the widest"
        " and up to sixteen of narrower ones for each seed, looks at every layer with all weights and with their"
        " update alone after every step, searches for a learning rate and draws the bootstrap.\n\n"
        + table(("scaling", "one training, s", "check, s", "training / check"), rows)
    )


def bare_training(name: str, data: wa.data.LabelledData) -> None:
    """Draw and train the networks of a check."""
    scaling = wa.parametrization.scaling(name, N_HIDDEN)
    x, y = torch.tensor(data.x_train[:64], dtype=torch.float64), torch.tensor(data.y_train[:64])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for width in WIDTHS:
        for seed in range(N_SEEDS):
            model = wa.reference.build_scaled_mlp(
                scaling, width, n_inputs=data.n_features, n_outputs=data.n_classes, seed=seed
            ).double()
            optimizer = wa.reference.scaled_optimizer(model, learning_rate=0.1)
            for _ in range(N_STEPS):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(x), y)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    torch.set_num_threads(threads)


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
