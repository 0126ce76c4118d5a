"""Random chunks of a layer as a method of studies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import MAX_WIDTH, check_choice, check_flag, check_integer, check_memory, check_real, check_seed
from wideangle.studies._method_files import File, Kept, identify
from wideangle.studies._method_parameters import by_value, check_names, method_version
from wideangle.studies.protocol import Block, Variable, Wanted

SECONDS_A_CHUNK = 1e-5
SECONDS_A_NEURON = 2e-7
SECONDS_A_PRODUCT = 2e-11  # three times as many where the ridge matters
SECONDS_A_LOGIT = 1e-10
SECONDS_A_LOSS = 3e-9
# Measured with AVX-512 on a server processor of 2023.
BYTES_KEPT = 2**28  # of layers

SYNTHETIC = ("n_inputs", "latent_dim", "n_clones", "width", "noise", "layer_seed")
KNOWN = (*SYNTHETIC, "path", "chunk_sizes", "ridge", "missing", "readout")
REGRESSIONS = ("r2", "residual_correlation", "r2_outside", "residual_correlation_outside")
READOUTS = ("accuracy", "error", "loss")


class Clones(NamedTuple):
    """A layer that is drawn."""

    n_inputs: int
    latent_dim: int
    n_clones: int
    width: int
    noise: float
    seed: int


class Chunks(NamedTuple):
    """A checked cell: where the layer comes from, its shape, and what is measured of it."""

    source: Clones | File
    shape: tuple[int, int]
    sizes: tuple[int, ...]
    ridge: float
    missing: str
    readout: int  # classes, 0 for none


class ChunkStatistics:
    """Runs :func:`wideangle.representation.chunk_statistics`; a sample is a chunk of every size, in one order.

    The layer is that of :func:`wideangle.representation.synthetic_clones`, or in a file. Each process keeps the
    scatter matrices of the last layers.
    """

    name = "chunk_statistics"
    version = method_version(1)
    totals: tuple[str, ...] = ()
    dims = dict.fromkeys((*REGRESSIONS, *READOUTS), ("chunk_size",))

    def prepare(self, parameters: Mapping[str, Any]) -> Chunks:
        """Check the parameters, and look at the file."""
        check_names(parameters, needed=() if "path" in parameters else SYNTHETIC[:5], known=KNOWN, of=self.name)
        readout = check_flag("readout", parameters.get("readout", False))
        missing = check_choice("missing", parameters.get("missing", "raise"), ("raise", "drop"))
        remedy = "give the penalty of squared coefficients, 0 or more, such as 1e-8"
        ridge = check_real("ridge", parameters.get("ridge", 1e-8), remedy=remedy)
        if not 0.0 <= ridge <= 1e100:
            raise ValueError(f"ridge must lie in [0, 1e100], got {ridge!r}; {remedy}")
        source: Clones | File
        if "path" in parameters:
            for name in SYNTHETIC:
                if name in parameters:
                    raise ValueError(
                        f"method {self.name!r} takes the path of a layer or draws one, got path and {name}"
                    )
            source = identify("path", parameters["path"], (".npz", ".npy"))
            shape, n_classes = _look(source)
            if readout and not n_classes:
                raise ValueError(f"readout needs the entries readout and targets, which {source.path} lacks; add them")
        else:
            source = _check_clones(parameters)
            shape, n_classes = (source.n_inputs, source.n_clones * source.width), 2
        _check_shape(*shape, keeps=readout)
        sizes = _sizes((parameters.get("chunk_sizes"), shape[1]))
        return Chunks(source, shape, sizes, ridge, missing, n_classes if readout else 0)

    def fingerprint(self, prepared: Chunks) -> str:
        """Return what the results depend on beside the parameters: the content of a file, "" without one."""
        return prepared.source.digest if isinstance(prepared.source, File) else ""

    def variables(self, prepared: Chunks) -> dict[str, int]:
        """Return how many numbers a sample has of each variable that has moments."""
        return dict.fromkeys(REGRESSIONS + (READOUTS if prepared.readout else ()), len(prepared.sizes))

    def cost(self, prepared: Chunks) -> float:
        """Return the expected seconds of a chunk, without those of the layer."""
        n_samples, n_neurons = prepared.shape
        largest = max((size for size in prepared.sizes if size < n_neurons), default=1)
        n_sizes, classes = len(prepared.sizes), prepared.readout
        regression = SECONDS_A_NEURON * n_neurons + SECONDS_A_PRODUCT * n_neurons**2 * (largest + 8 * n_sizes)
        read = n_samples * (SECONDS_A_LOGIT * prepared.sizes[-1] * classes + SECONDS_A_LOSS * n_sizes * (classes > 0))
        return SECONDS_A_CHUNK + regression + read

    def bytes_per_sample(self, prepared: Chunks, wanted: Wanted) -> int:
        """Return the bytes of a chunk: its order, and the statistics."""
        return 8 * prepared.shape[1] + 16 * len(prepared.sizes) * (len(REGRESSIONS) + len(READOUTS))

    def run(self, prepared: Chunks, first_sample: int, n_samples: int, seed: int, wanted: Wanted) -> Block:
        """Compute a block."""
        from wideangle.representation import chunks

        scatter, layer, head = _LAYERS.get(prepared._replace(sizes=()), lambda: _make(prepared))
        sizes = np.array(prepared.sizes)
        orders = chunks.random_orders(prepared.shape[1], n_samples, seed, first_sample)
        found: dict[str, NDArray[Any]] = {}
        if any(wanted.keeps(name) for name in REGRESSIONS):
            found |= chunks.regress(scatter, orders, sizes, seed, 1, False)
        if head is not None and any(wanted.keeps(name) for name in READOUTS):
            found |= chunks.read_out(layer, head, orders, sizes, 1, False)
        variables = {name: Variable(("chunk_size",), samples=each) for name, each in found.items()}
        return Block({name: each for name, each in variables.items() if wanted.keeps(name)}, {"chunk_size": sizes})


_LAYERS: Kept[tuple[Any, Any, Any]] = Kept(BYTES_KEPT)


def _make(cell: Chunks) -> tuple[tuple[Any, Any, Any], int]:
    """Return the scatter matrix of a layer and, for readouts, the layer and its readout, and their size."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from wideangle.representation import synthetic_clones
    from wideangle.representation._layer import check_layer, check_readout
    from wideangle.representation.chunks import find_scatter

    # Linear algebra on several threads may round in another way.
    with threadpool_limits(1):
        dataset = _read(cell.source) if isinstance(cell.source, File) else synthetic_clones(*cell.source)
        entries = {name: dataset[name].values if name in dataset else None for name in ("readout", "bias", "targets")}
        if not cell.readout:
            entries = dict.fromkeys(entries)
        layer = check_layer(dataset["features"].values, entries["targets"], cell.missing)  # type: ignore[arg-type]
        head = check_readout(entries["readout"], entries["bias"], layer)
        scatter = find_scatter(layer, cell.ridge, 1)
    if head is None:
        return (scatter, None, None), scatter.products.nbytes
    return (scatter, layer, head), scatter.products.nbytes + layer.features.nbytes


def _check_clones(parameters: Mapping[str, Any]) -> Clones:
    from wideangle.representation.synthetic import MAX_SAMPLES, _check_noise

    remedies = {
        "n_inputs": (MAX_SAMPLES, "give the number of inputs that the layer sees, such as 10_000"),
        "latent_dim": (MAX_WIDTH, "give a number such as 5"),
        "n_clones": (MAX_WIDTH, "give a number such as 4"),
        "width": (MAX_WIDTH, "give the neurons of one clone, such as 32"),
    }
    numbers = {
        name: check_integer(name, parameters[name], low=1, high=high, remedy=remedy)
        for name, (high, remedy) in remedies.items()
    }
    try:
        seed = check_seed(parameters.get("layer_seed", 0))
    except (TypeError, ValueError) as error:
        raise type(error)(f"layer_{error}") from None
    if numbers["n_inputs"] <= numbers["width"] + 1:
        raise ValueError(
            f"n_inputs must be at least width + 2 = {numbers['width'] + 2} for signals to be independent in the "
            f"sample, got {numbers['n_inputs']}; give more inputs or a smaller width"
        )
    return Clones(**numbers, noise=_check_noise(parameters["noise"]), seed=seed)


def _check_shape(n_samples: int, n_neurons: int, *, keeps: bool) -> None:
    if n_samples < 3 or n_neurons < 2:
        raise ValueError(f"a layer must have at least 3 inputs and 2 neurons, got {n_samples} and {n_neurons}")
    # The layer, twice while it is drawn, the scatter matrix, and a copy of it for elimination.
    check_memory(
        8 * (2 * n_samples * n_neurons + 4 * n_neurons**2),
        f"a layer of {n_neurons} neurons for {n_samples} inputs needs",
        remedy="give fewer inputs or neurons",
    )
    if n_samples <= n_neurons:
        warnings.warn(
            f"a layer has {n_samples} inputs of {n_neurons} neurons: chunks of {n_samples - 1} neurons explain all"
            f" inputs, whatever they are; regressions are regularised by the ridge alone, so give more inputs",
            UserWarning,
            stacklevel=3,
        )


@by_value(256)
def _sizes(given: tuple[Any, int]) -> tuple[int, ...]:
    from wideangle.representation.chunks import check_sizes

    return tuple(map(int, check_sizes(*given)))


def _read(file: File) -> Any:
    from wideangle.representation import read_features

    return read_features(file.path)


@by_value(256)
def _look(file: File) -> tuple[tuple[int, int], int]:
    """Return inputs, neurons and classes of a file."""
    dataset = _read(file)
    n_samples, n_neurons = dataset["features"].shape
    classes = len(dataset["readout"]) if "readout" in dataset and "targets" in dataset else 0
    return (n_samples, n_neurons), classes
