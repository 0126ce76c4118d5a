"""The samples that runs of the mean-field model take, in blocks of steps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle import _core
from wideangle._cpu import active_cpu_path

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

# As many runs draw their random numbers in one vector.
_SIDE_BY_SIDE = 16


class Block(NamedTuple):
    """Samples (run, step, batch), -1 where a batch is smaller, and the labels told; of length 1 where all are equal."""

    index: Integers
    label: Array


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SampleOrder:
    """Which samples a run takes in each step, and which labels it is told.

    Attributes
    ----------
    kind
        ``"full"``, ``"drawn"`` with replacement, ``"permuted"`` in each epoch, or ``"given"``.
    given
        (run, step, batch), of length 1 where all runs have the same; else None.
    first_step
        The step that ``given`` begins with.
    noise
        Of the labels: a standard deviation for the squared loss, else the probability of another sign; 0 for none.
    """

    x: Array
    y: Array
    kind: str
    batch: int
    seed: int
    noise: float
    flips: bool
    given: Integers | None = None
    first_step: int = 0

    def take(self, runs: slice, number: int, first_step: int, n_steps: int) -> Block:
        """Return the samples of these places of ``given``, for runs whose random numbers are those of ``number`` on."""
        if self.kind == "given":
            return self._take_given(runs, number, first_step, n_steps)
        if self.kind == "full" and self.noise == 0.0:
            return Block(np.arange(len(self.y))[None, None], self.y[None, None])
        return self._draw(self.y, self.kind, runs.stop - runs.start, number, first_step, n_steps)

    def _take_given(self, runs: slice, number: int, first_step: int, n_steps: int) -> Block:
        assert self.given is not None
        begin = first_step - self.first_step
        rows = self.given[runs if len(self.given) > 1 else slice(None)]
        index = np.ascontiguousarray(rows[:, begin : begin + n_steps])
        label = self.y[index]
        if self.noise == 0.0:
            return Block(index, label)
        # What it does to labels 0, or 1.
        clean = np.full(len(self.y), 1.0 if self.flips else 0.0)
        told = self._draw(clean, "drawn", runs.stop - runs.start, number, first_step, n_steps).label
        return Block(np.repeat(index, len(told) // len(index), axis=0), label * told if self.flips else label + told)

    def _draw(self, y: Array, kind: str, n_runs: int, number: int, first_step: int, n_steps: int) -> Block:
        return Block(
            *_core.training_order(
                self.x,
                y,
                first_step=first_step,
                n_steps=n_steps,
                order=kind,
                batch=self.batch,
                given=None,
                noise=self.noise,
                flips=self.flips,
                seed=self.seed,
                first_network=number,
                n_networks=n_runs,
                cpu_path=active_cpu_path(),
            )
        )


def groups_of(numbers: Integers, n_threads: int) -> list[slice]:
    """Return places of runs with consecutive numbers, of which each group is the work of one thread."""
    size = min(_SIDE_BY_SIDE, -(-len(numbers) // n_threads))
    ends = [*(np.flatnonzero(np.diff(numbers) != 1) + 1), len(numbers)]
    return [
        slice(at, min(at + size, int(end)))
        for begin, end in itertools.pairwise([0, *ends])
        for at in range(int(begin), int(end), size)
    ]
