"""Infinite-width kernels of smooth activations: all layers of all pairs, in blocks of rows on several threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from wideangle import _core
from wideangle._cpu import active_cpu_path
from wideangle.network import MLP
from wideangle.propagation._dual_activations import (
    Array,
    Layer,
    correlation_gap,
    correlations,
    make_layer,
    signed_gaps,
)
from wideangle.propagation._hermite import DEFICIT

BLOCK_ENTRIES = 2**15
LARGEST = 1e300  # of a variance; what is made of it stays in range


@dataclass(frozen=True)
class Norms:
    """Inputs seen alone: the kernel of each with itself, and how a layer divides it between weights and bias.

    ``weight`` and ``shift`` are the square roots of the two shares.
    """

    square: Array
    weight: Array
    shift: Array

    @classmethod
    def of(cls, active: Array, bias: float, layer: int) -> Norms:
        """Of inputs whose weights contribute ``active``; inputs without any norm count as being of norm 0."""
        square = active + bias
        if not np.all(square < LARGEST):
            raise ValueError(
                f"the kernel leaves the range of float64 at layer {layer}; give smaller inputs, a smaller "
                "weight_variance or fewer layers"
            )
        known = np.where(square > 0.0, square, 1.0)
        weight = np.sqrt(np.where(square > 0.0, active, 1.0) / known)
        return cls(square, weight, np.sqrt(bias / known))

    @property
    def safe_square(self) -> Array:
        """Positive variances: inputs of norm 0, whose kernels are 0 whatever their angles, get the largest one."""
        return np.where(self.square > 0.0, self.square, self.square.max() or 1.0)


@dataclass
class Errors:
    """Bounds on what truncated series leave out of cosines and tangent kernels, in units of the norms."""

    cosine: float = 0.0
    tangent: float = 0.0
    truncation: float = 0.0
    largest_tangent: float = 1.0

    def advance(self, layer: Layer, weight: float) -> None:
        """Through a layer, to first order; ``weight`` is the largest share of the weights in a norm."""
        slope = float(layer.slope_rows.max())
        # What is at the level of rounding in `tail` says nothing of how the slope errs.
        slope_error = layer.slope_tail + layer.curvature * self.truncation
        truncated = layer.tail if layer.tail > DEFICIT else 0.0
        self.truncation = min(weight * (truncated + slope * self.truncation), 2.0)
        self.cosine = min(weight * (layer.tail + slope * self.cosine), 2.0)
        tangent = self.cosine + weight * (slope * self.tangent + self.largest_tangent * slope_error)
        self.largest_tangent = 1.0 + weight * slope * self.largest_tangent
        self.tangent = min(tangent, 2.0 * self.largest_tangent)


@dataclass(frozen=True)
class Sweep:
    """Kernels, with a leading axis for layers if all were asked for, and the bounds on their truncation errors."""

    nngp: Array
    tangent: Array | None
    errors: Errors


def sweep(net: MLP, x1: Array, x2: Array | None, *, tangent: bool, every_layer: bool, n_threads: int) -> Sweep:
    """Kernels of a network of a smooth activation."""
    symmetric = x2 is None
    gaps = _core.kernel_gaps(x1, x2, n_threads=n_threads, cpu_path=active_cpu_path())
    scale = net.weight_variance / x1.shape[1]
    rows = Norms.of(scale * _core.squared_norms(x1), net.bias_variance, 0)
    columns = rows if x2 is None else Norms.of(scale * _core.squared_norms(x2), net.bias_variance, 0)
    shape = (net.depth + 1, *gaps.shape)
    nngp = np.empty(shape) if every_layer else gaps
    tangents = np.empty(shape if every_layer else gaps.shape) if tangent else None
    running = np.empty_like(gaps) if tangent and every_layer else tangents
    blocks = _blocks(gaps.shape, symmetric)
    errors = Errors()

    with ThreadPoolExecutor(n_threads) as pool:

        def each(action: Callable[[slice, slice], None]) -> None:
            list(pool.map(lambda block: action(*block), blocks))

        def start(block: slice, right: slice) -> None:
            part = gaps[block, right]
            part[:] = _add_bias(part, rows, columns, block, right)
            if running is not None:
                running[block, right] = correlations(part)

        def emit(layer: int) -> None:
            to = nngp[layer] if every_layer else nngp
            to_tangent = None if tangents is None else tangents[layer] if every_layer else tangents

            def write(block: slice, right: slice) -> None:
                norm = np.sqrt(rows.square)[block, None] * np.sqrt(columns.square)[None, right]
                if to_tangent is not None and running is not None:
                    to_tangent[block, right] = norm * running[block, right]
                to[block, right] = norm * correlations(gaps[block, right])

            each(write)
            for matrix in (to, to_tangent):
                if symmetric and matrix is not None:
                    _mirror(matrix, blocks)

        each(start)
        if every_layer:
            emit(0)
        for layer in range(1, net.depth + 1):
            of = make_layer(net.phi.name, rows.safe_square, columns.safe_square)
            below = (rows.safe_square, columns.safe_square)
            rows = _norms_above(net, rows, of.rows, layer)
            columns = rows if symmetric else _norms_above(net, columns, of.columns, layer)
            errors.advance(of, float(rows.weight.max() * columns.weight.max()))

            def advance(
                block: slice,
                right: slice,
                of: Layer = of,
                below: tuple[Array, Array] = below,
                rows: Norms = rows,
                columns: Norms = columns,
            ) -> None:
                same = (gaps[block, right] == 0.0) & ~np.signbit(gaps[block, right])
                same &= below[0][block, None] == below[1][None, right]
                after, slopes = of.advance(gaps[block, right], block, right)
                after[same] = 0.0
                gaps[block, right] = after = _add_bias(after, rows, columns, block, right)
                if running is not None:
                    slopes = np.where(same, of.slope_rows[block, None], slopes)
                    slopes *= rows.weight[block, None] * columns.weight[None, right]
                    running[block, right] = correlations(after) + running[block, right] * slopes

            with np.errstate(all="ignore"):
                each(advance)
            if every_layer or layer == net.depth:
                emit(layer)
    return Sweep(nngp, tangents, errors)


def _norms_above(net: MLP, below: Norms, activity: Array, layer: int) -> Norms:
    # Without biases an input of norm 0 keeps it: all activations here are 0 at 0.
    active = np.where(below.square > 0.0, net.weight_variance * activity, 0.0)
    return Norms.of(active, net.bias_variance, layer)


def _add_bias(gaps: Array, rows: Norms, columns: Norms, block: slice, right: slice) -> Array:
    """Signed gaps once the common bias has been added to what two inputs get through the weights."""
    weight1, weight2 = rows.weight[block, None], columns.weight[None, right]
    shift1, shift2 = rows.shift[block, None], columns.shift[None, right]
    if not (shift1.any() or shift2.any()):
        return gaps
    product = weight1 * weight2
    along = 0.5 * (weight1 - weight2) ** 2
    gap = product * correlation_gap(gaps) + along + 0.5 * (shift1 - shift2) ** 2
    opposite = product * correlation_gap(-gaps) + along + 0.5 * (shift1 + shift2) ** 2
    return signed_gaps(gap, opposite)


def _blocks(shape: tuple[int, ...], symmetric: bool) -> list[tuple[slice, slice]]:
    """Rows and columns of every block; of a symmetric matrix, those that reach its upper triangle."""
    height = max(1, math.ceil(BLOCK_ENTRIES / shape[1]))
    starts = range(0, shape[0], height)
    return [(slice(i, min(i + height, shape[0])), slice(i if symmetric else 0, shape[1])) for i in starts]


def _mirror(matrix: Array, blocks: list[tuple[slice, slice]]) -> None:
    """Copy the upper triangle of a square matrix to the lower one."""
    for block, _ in blocks:
        corner = matrix[block, block]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
        matrix[block.stop :, block] = matrix[block, block.stop :].T
