"""Ensembles of networks in training as a method of studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_integer, check_memory, check_seed
from wideangle.studies._method_files import File, identify
from wideangle.studies._method_parameters import (
    NETWORK,
    Network,
    by_value,
    check_names,
    check_network,
    chosen,
    count,
    method_version,
)
from wideangle.studies.protocol import Block, Variable, Wanted, unknown_parameter

if TYPE_CHECKING:
    from wideangle.response._training_run import TrainingRun

SECONDS_A_STEP = 5e-9
SECONDS_A_RECORD = 2e-7
SECONDS_A_PRODUCT = 1e-10  # of a weight and a sample, forwards and backwards
SECONDS_AN_ACTIVATION = 2e-10
SECONDS_A_SMOOTH_ACTIVATION = 8e-10
SECONDS_A_KERNEL = 1e-6
SECONDS_A_KERNEL_PRODUCT = 8e-12
# Measured with AVX-512 on a server processor of 2023; descent alone, as the steps of gradient flow are unknown.

Array = NDArray[np.float64]

NEEDED = ("data", "n_steps", "learning_rate")
OPTIONS: dict[str, Any] = {
    "batch": "full",
    "loss": "cross-entropy",
    "noise": None,
    "record": None,
    "method": "descent",
    "replacement": True,
    "readout": "trained",
    "biases": True,
    "parametrization": "standard",
    "rtol": None,
}
KNOWN = (*NEEDED, *OPTIONS, "keep", *NETWORK)
DATA = ("x", "y", "path", "digits", "n_inputs", "split_seed")


class Data(NamedTuple):
    """Inputs and labels, and the digest of the file that they are from, "" without one."""

    x: Array
    y: Array
    digest: str


class Training(NamedTuple):
    """A checked cell: the run, but for its seed, and the networks."""

    run: TrainingRun
    net: Network
    biases: str
    kernel: bool
    digest: str


class SimulateTraining:
    """Runs :func:`wideangle.response.simulate_training`; a sample is a network."""

    name = "simulate_training"
    version = method_version(1)
    totals = ("diverged",)
    dims: Mapping[str, tuple[str, ...]] = {
        "loss": ("time",),
        "outputs": ("time", "input"),
        "tangent_kernel": ("time", "input", "other_input"),
        "diverged": ("time",),
    }

    def prepare(self, parameters: Mapping[str, Any]) -> Training:
        """Check the parameters, and read the data."""
        check_names(parameters, needed=NEEDED, known=KNOWN, of=self.name)
        net = check_network(parameters, of=self.name)
        from wideangle.losses import parse_loss
        from wideangle.propagation.network_simulation import check_float32_weights
        from wideangle.response._training_arguments import check_biases, check_kept
        from wideangle.response.simulation import _check_run

        kept = check_kept(parameters.get("keep", ()))
        if "hidden_activations" in kept:
            raise ValueError("keep must hold 'tangent_kernel' or nothing in a study, got 'hidden_activations'")
        data = _data(parameters["data"])
        options = {name: parameters.get(name, default) for name, default in OPTIONS.items()}
        options |= chosen(parameters, NEEDED[1:])
        layers = check_biases(options.pop("biases"))
        loss = parse_loss(options.pop("loss"))
        mlp = net.mlp
        run = _check_run(mlp, (data.x, data.y), loss, seed=0, biases=layers, **_plain(options))
        check_float32_weights(mlp, run.sizes[0])
        cell = Training(run, net, layers, "tangent_kernel" in kept, data.digest)
        check_memory(
            _bytes(cell), f"a network with {len(run.records)} records needs", remedy="record fewer steps, or keep less"
        )
        return cell

    def fingerprint(self, prepared: Training) -> str:
        """Return what the results depend on beside the parameters: the content of a file, "" without one."""
        return prepared.digest

    def variables(self, prepared: Training) -> dict[str, int]:
        """Return how many numbers a sample has of each variable that has moments."""
        times, inputs = len(prepared.run.records), len(prepared.run.x)
        kernel = {"tangent_kernel": times * inputs**2} if prepared.kernel else {}
        return {"loss": times, "outputs": times * inputs, **kernel}

    def cost(self, prepared: Training) -> float | None:
        """Return the expected seconds of a network; None for gradient flow, whose steps are unknown."""
        run = prepared.run
        if run.tolerance:
            return None
        n_weights, n_inputs, n_units = _n_parameters(run), len(run.x), sum(run.widths)
        smooth = run.activation.name not in ("relu", "leaky_relu", "abs", "linear")
        each = SECONDS_A_PRODUCT * n_weights
        each += (SECONDS_A_SMOOTH_ACTIVATION if smooth else SECONDS_AN_ACTIVATION) * n_units
        evaluation = SECONDS_A_RECORD + each * n_inputs
        if prepared.kernel:
            evaluation += SECONDS_A_KERNEL + SECONDS_A_KERNEL_PRODUCT * n_weights * n_inputs**2
        return run.n_steps * (SECONDS_A_STEP + each * run.batch) + len(run.records) * evaluation

    def bytes_per_sample(self, prepared: Training, wanted: Wanted) -> int:
        """Return the bytes of a network: its parameters at all records, and what is found of them."""
        return _bytes(prepared)

    def run(self, prepared: Training, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute a block."""
        import xarray as xr

        from wideangle.response._training_results import add_evaluations
        from wideangle.response._training_start import Start

        run = replace(prepared.run, seed=seed)
        begin = Start(None, 0, 0.0).parameters(
            run, prepared.net.mlp, first_network=first_sample, n_networks=n_samples, biases=prepared.biases
        )
        parameters, diverged_step = run.train(begin, first_network=first_sample, n_threads=1)
        found = xr.Dataset()
        kernel = prepared.kernel and wanted.keeps("tangent_kernel")
        add_evaluations(found, run, parameters, ("tangent_kernel",) if kernel else (), 1)
        dims = {"loss": ("time",), "outputs": ("time", "input")}
        if kernel:
            dims["tangent_kernel"] = ("time", "input", "other_input")
        records = np.array(run.records)
        gone = (diverged_step[:, None] >= 0) & (diverged_step[:, None] <= records)
        variables = {name: Variable(each, samples=found[name].values) for name, each in dims.items()}
        variables["diverged"] = count(np.count_nonzero(gone, axis=0), "time")
        inputs = np.arange(len(run.x))
        coordinates = {"time": run.learning_rate * records, "input": inputs}
        if kernel:
            coordinates["other_input"] = inputs
        return Block({name: each for name, each in variables.items() if wanted.keeps(name)}, coordinates)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as the function takes them: steps to record may be a list, as in a file."""
    record = options["record"]
    return {**options, "record": tuple(record) if isinstance(record, list) else record}


def _n_parameters(run: TrainingRun) -> int:
    return sum((below + 1) * here for below, here in zip(run.sizes, run.sizes[1:], strict=False))


def _bytes(cell: Training) -> int:
    run, n_inputs = cell.run, len(cell.run.x)
    # Parameters, outputs with what the loss is computed from, and the kernel.
    numbers = _n_parameters(run) + 4 * n_inputs + 2 + cell.kernel * n_inputs**2
    return 8 * (2 * _n_parameters(run) + len(run.records) * numbers)


def _data(value: Any) -> Data:
    """Return the data that a parameter names. A file is looked at each time, as it may have changed."""
    path = value.get("path") if isinstance(value, Mapping) and set(value) == {"path"} else value
    if isinstance(path, str):
        return _from_file(identify("path of data", path, (".npz",)))
    return _data_of_table(value)


@by_value(64)
def _data_of_table(value: Any) -> Data:
    remedy = "give a table {x = [[...]], y = [...]}, {path = 'file.npz'} or {digits = [0, 1], n_inputs = 50}, or a path"
    if not isinstance(value, Mapping):
        raise TypeError(f"data must be a table or a path, got {type(value).__name__}; {remedy}")
    for name in value:
        if name not in DATA:
            raise unknown_parameter(str(name), DATA, of="data")
    names = frozenset(value)
    if names == {"x", "y"}:
        return _shared(value["x"], value["y"], "")
    if "digits" in names and names <= {"digits", "n_inputs", "split_seed"}:
        return _digits(value["digits"], value.get("n_inputs"), value.get("split_seed", 0))
    raise ValueError(f"data must be given in one way, got {', '.join(value) or 'nothing'}; {remedy}")


def _shared(x: Any, y: Any, digest: str) -> Data:
    """Return data that all cells share, and none changes."""
    from wideangle.propagation._inputs import as_numbers, check_inputs

    arrays = check_inputs("x", x).copy(), as_numbers("y", y, remedy="give a label for each input").copy()
    for array in arrays:
        array.flags.writeable = False
    return Data(*arrays, digest)


@lru_cache(maxsize=16)
def _from_file(file: File) -> Data:
    remedy = "save arrays of numbers with numpy.savez(path, x=..., y=...)"
    try:
        with open(file.path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("x", "y") if name in archive.files}
    except Exception as error:  # whatever a damaged file raises
        raise ValueError(f"{file.path}: found no readable .npz archive of numbers ({error}); {remedy}") from error
    if len(arrays) < 2:
        raise ValueError(
            f"{file.path}: found entries {', '.join(arrays) or 'of other names'}, expected x and y; {remedy}"
        )
    return _shared(arrays["x"], arrays["y"], file.digest)


def _digits(digits: Any, n_inputs: Any, split_seed: Any) -> Data:
    remedy = "give two different digits, such as [0, 1]"
    if not isinstance(digits, (list, tuple)) or len(digits) != 2:
        raise TypeError(f"digits must be a list of two digits, got {digits!r}; {remedy}")
    low, high = (check_integer(f"digits[{k}]", each, low=0, high=9, remedy=remedy) for k, each in enumerate(digits))
    if low == high:
        raise ValueError(f"digits must be different, got {digits!r}; {remedy}")
    try:
        seed = check_seed(split_seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"split_{error}") from None
    from wideangle.data import load_digits

    data = load_digits(seed=seed)
    rows = np.flatnonzero(np.isin(data.y_train, (low, high)))
    if n_inputs is not None:
        remedy = f"give how many of the {len(rows)} images to take, or leave it out for all"
        rows = rows[: check_integer("n_inputs", n_inputs, low=1, high=len(rows), remedy=remedy)]
    return _shared(data.x_train[rows].astype(np.float64), np.where(data.y_train[rows] == high, 1.0, -1.0), "")
