"""Runs of the mean-field model: memory, threads, and one block of steps after another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._progress import progress_callback
from wideangle.losses import LOSSES, Loss
from wideangle.response._mean_field_order import Block, SampleOrder, groups_of

if TYPE_CHECKING:
    from wideangle.integrators._records import Shared
    from wideangle.response._mean_field_steps import Model, Run, Visits

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

# Samples drawn at once for a group of runs.
_VISITS = 2**18


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MeanFieldRun:
    """The model on checked data. Where all runs have the same, the axis of runs has length 1.

    Attributes
    ----------
    columns
        (run, sample, point): the kernel of every point, samples and then probes, with a sample.
    knots, plasticity
        Steps, and the plasticity there (run, knot), which is linear between them and constant outside.
    initial
        Outputs (run, point).
    numbers
        Of the runs, which their random numbers depend on.
    start_time
        Time of ``first_step``.
    records
        Increasing steps from ``first_step`` to ``first_step + n_steps``.
    """

    order: SampleOrder
    loss: Loss
    learning_rate: float
    columns: Array
    knots: Integers
    plasticity: Array
    initial: Array
    numbers: Integers
    first_step: int
    start_time: float
    n_steps: int
    records: Integers

    def run(self, *, n_threads: int, progress: bool) -> tuple[Array, Integers]:
        """Return outputs (run, record, point), NaN once a run has diverged, and the step (run) at which it did."""
        from wideangle.integrators._threads import run_threads

        n_runs = len(self.numbers)
        outputs = np.full((n_runs, len(self.records), self.initial.shape[1]), np.nan)
        diverged = np.full(n_runs, -1)
        slopes = np.zeros_like(self.plasticity)
        slopes[:, :-1] = np.diff(self.plasticity) / np.diff(self.knots)
        groups = groups_of(self.numbers, n_threads)
        queue = itertools.count()

        def task(thread: int, shared: Shared) -> None:
            while (group := next(queue)) < len(groups) and not shared.stop[0]:
                self._run_group(groups[group], slopes, outputs, diverged, thread, shared)

        with progress_callback(n_runs * max(self.n_steps, 1), progress, unit="step") as advance:
            run_threads(task, min(n_threads, len(groups)), 0, advance)
        return outputs, diverged

    def _run_group(
        self, group: slice, slopes: Array, outputs: Array, diverged: Integers, thread: int, shared: Shared
    ) -> None:
        from wideangle.response._mean_field_steps import DIVERGED, advance

        model = self._model()
        runs = [self._make_run(place, slopes, outputs[place]) for place in range(group.start, group.stop)]
        size = max(1, _VISITS // (len(runs) * self.order.batch))
        end = self.first_step + self.n_steps
        for first in range(self.first_step, max(end, self.first_step + 1), size):
            n_steps = min(size, end - first)
            block = self.order.take(group, int(self.numbers[group.start]), first, n_steps)
            for place, run in enumerate(runs):
                if run.count[DIVERGED] < 0:
                    advance(model, run, _visits(block, place, first, n_steps), shared.stop)
            if shared.stop[0]:
                return
            shared.done[thread] += n_steps * len(runs)
        diverged[group] = [run.count[DIVERGED] for run in runs]

    def _model(self) -> Model:
        from wideangle.response._mean_field_steps import Model

        return Model(
            self.initial.shape[1],
            LOSSES.index(self.loss.name),
            self.learning_rate,
            self.knots,
            self.knots.size,
            self.records,
            self.records.size,
        )

    def _make_run(self, place: int, slopes: Array, recorded: Array) -> Run:
        from wideangle.response._mean_field_steps import Run

        return Run(
            _of_run(self.columns, place).reshape(-1),
            _of_run(self.plasticity, place),
            _of_run(slopes, place),
            _of_run(self.initial, place).copy(),
            np.zeros(self.order.batch),
            recorded.reshape(-1),
            np.array([0, 0, -1]),
        )


def _of_run(values: NDArray[Any], place: int) -> NDArray[Any]:
    result: NDArray[Any] = values[place if len(values) > 1 else 0]
    return result


def _visits(block: Block, place: int, first: int, n_steps: int) -> Visits:
    from wideangle.response._mean_field_steps import Visits

    index, label = _of_run(block.samples, place), _of_run(block.labels, place)
    batch = index.shape[1]
    # One row for all steps has no stride; so has the row of a single step.
    return Visits(first, n_steps, batch, index.reshape(-1), label.reshape(-1), batch if len(index) > 1 else 0)
