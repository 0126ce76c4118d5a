"""From the arguments of the mean-field model to a run of it: by arrays and functions, or by networks in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_integer, check_memory, check_samples, check_seed
from wideangle.losses import Loss, parse_loss
from wideangle.response._mean_field_arguments import check_aging, check_initial, check_kernel, check_order, check_probe
from wideangle.response._mean_field_networks import TrainedNetworks, read_networks
from wideangle.response._mean_field_order import SampleOrder
from wideangle.response._mean_field_results import add_networks, mean_field_dataset
from wideangle.response._mean_field_running import MeanFieldRun
from wideangle.response._training_arguments import (
    MAX_STEPS,
    check_batch,
    check_data,
    check_learning_rate,
    check_noise,
    check_records,
)

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class PreparedModel(NamedTuple):
    """A run of the model, and what the result says of it: probes, and outputs (network, time, point) of networks."""

    run: MeanFieldRun
    probe: Array
    network_outputs: Array | None
    dropped: list[int]

    def dataset(self, outputs: Array, diverged_step: Integers) -> xr.Dataset:
        """Return the outputs (run, record, point) with what follows from them."""
        dim = "run" if self.network_outputs is None else "network"
        dataset = mean_field_dataset(self.run, outputs, diverged_step, self.probe, dim)
        if self.network_outputs is not None:
            add_networks(dataset, outputs, self.network_outputs)
        return dataset


def prepare(data: Any, kernel: Any, aging: Any, probe: Any, given: dict[str, Any]) -> PreparedModel:
    """Check all arguments; ``given`` holds those that networks bring themselves, None where left out."""
    import xarray as xr

    if not isinstance(kernel, xr.Dataset):
        run, probe = _run_of_arguments(data, kernel, aging, probe, given)
        return PreparedModel(run, probe, None, [])
    networks = _read_networks(kernel, data, given)
    probe = check_probe(probe, networks.x.shape[1])
    points = np.concatenate([networks.x, probe])
    outputs = networks.outputs(points)
    return PreparedModel(_run_of_networks(networks, points, outputs, aging), probe, outputs, networks.dropped)


def _read_networks(state: Any, data: Any, given: dict[str, Any]) -> TrainedNetworks:
    superfluous = [name for name, value in given.items() if value is not None]
    if superfluous:
        raise ValueError(
            f"{', '.join(superfluous)} must be left out when kernel is a state of training, which brings its own; to "
            "depart from it, give the tangent kernel as an array"
        )
    networks = read_networks(state)
    if data is not None:
        x, y = check_data(data, networks.loss)
        if not (np.array_equal(x, networks.x) and np.array_equal(y, networks.y)):
            raise ValueError(
                "data must be what the networks of kernel were trained on; give None to take that, or the tangent "
                "kernel as an array for other data"
            )
    return networks


def _run_of_networks(networks: TrainedNetworks, points: Array, outputs: Array, aging: Any) -> MeanFieldRun:
    steps = networks.steps
    first_step, n_steps = int(steps[0]), int(steps[-1] - steps[0])
    if aging is None:
        knots, plasticity = steps, networks.plasticity()
    else:
        knots, plasticity = check_aging(aging, first_step, n_steps, networks.learning_rate, networks.start_time)
    return MeanFieldRun(
        order=networks.order(),
        loss=networks.loss,
        learning_rate=networks.learning_rate,
        columns=networks.columns(points),
        knots=knots,
        plasticity=plasticity,
        initial=outputs[:, 0],
        numbers=networks.numbers,
        first_step=first_step,
        start_time=networks.start_time,
        n_steps=n_steps,
        records=steps,
    )


def _run_of_arguments(
    data: Any, kernel: Any, aging: Any, probe: Any, given: dict[str, Any]
) -> tuple[MeanFieldRun, Array]:
    for name in ("learning_rate", "n_steps"):
        if given[name] is None:
            raise TypeError(f"{name} must be given, unless kernel is a state of training")
    loss = parse_loss("cross-entropy" if given["loss"] is None else given["loss"])
    x, y = check_data(data, loss)
    learning_rate = check_learning_rate(given["learning_rate"])
    n_steps = check_integer("n_steps", given["n_steps"], low=0, high=MAX_STEPS, remedy="give the number of steps")
    start_step = 0 if given["start_step"] is None else given["start_step"]
    start_step = check_integer("start_step", start_step, low=0, high=MAX_STEPS, remedy="give the first step, 0 or more")
    n_runs = 1 if given["n_runs"] is None else check_samples("n_runs", given["n_runs"])
    records = check_records(given["record"], n_steps)
    probe = check_probe(probe, x.shape[1])
    n_points = len(x) + len(probe)
    initial = check_initial(0.0 if given["initial"] is None else given["initial"], n_runs, n_points)
    check_memory(
        16 * n_runs * len(records) * n_points,
        f"n_runs = {n_runs} with {len(records)} records needs",
        remedy="record fewer steps or take fewer runs",
    )
    order = _order_of_arguments(x, y, loss, given, n_runs=n_runs, n_steps=n_steps, first_step=start_step)
    start_time = learning_rate * start_step
    knots, plasticity = check_aging(aging, start_step, n_steps, learning_rate, start_time)
    run = MeanFieldRun(
        order=order,
        loss=loss,
        learning_rate=learning_rate,
        columns=check_kernel(kernel, x, probe),
        knots=knots,
        plasticity=plasticity,
        initial=initial,
        numbers=np.arange(n_runs),
        first_step=start_step,
        start_time=start_time,
        n_steps=n_steps,
        records=start_step + np.array(records, dtype=np.int64),
    )
    return run, probe


def _order_of_arguments(
    x: Array, y: Array, loss: Loss, given: dict[str, Any], *, n_runs: int, n_steps: int, first_step: int
) -> SampleOrder:
    order, samples = given["order"], None
    if order is None or isinstance(order, str):
        size = check_batch(1 if given["batch"] is None else given["batch"], len(x))
        if order not in (None, "permuted"):
            raise ValueError(
                f"order must be None, for samples drawn independently, 'permuted', or an array of integers (step,), "
                f"(step, batch) or (run, step, batch), got {order!r}"
            )
        kind = "full" if size is None else "drawn" if order is None else "permuted"
        size = size or len(x)
    else:
        if given["batch"] is not None:
            raise ValueError("batch must be left out when order is an array, which has batches of its own")
        samples = check_order(order, n_runs=n_runs, n_steps=n_steps, n_samples=len(x))
        kind, size = "given", samples.shape[2]
    return SampleOrder(
        x=x,
        # The compiled loop tells arrays apart that may not be written to.
        y=y.copy(),
        kind=kind,
        batch=size,
        seed=check_seed(0 if given["seed"] is None else given["seed"]),
        noise=check_noise(given["noise"], loss),
        flips=loss.name != "squared",
        given=samples,
        first_step=first_step,
    )
