r"""The fate of a single ReLU neuron on the data of one class: closed forms of its phase diagram.

A neuron with readout z (times the label) and weights w sees a class through the projection :math:`u = w\cdot\hat x` on
its direction. While u > 0 gradient flow moves it by

.. math:: \dot z = p\,r\,g(m)\,u, \qquad \dot u = p\,r\,g(m)\,z, \qquad m = r z u,

p being the frequency of the class, r the norm of its inputs; the part of w across :math:`\hat x` does not move and does
not matter. In the rescaled time :math:`\tau = \int p\,r\,g\,dt` this is a hyperbolic rotation,

.. math:: z = z_0\cosh\tau + u_0\sinh\tau, \qquad u = u_0\cosh\tau + z_0\sinh\tau,

which keeps :math:`z^2 - u^2` (derived; the invariant and the phases: arXiv 1809.06848). A negative z therefore reaches
0 if \|z\| < u, at :math:`\tanh\tau = -z_0/u_0`, and the neuron learns after all; it does not if \|z\| > u, since u gets
to 0 first, at :math:`\tanh\tau = -u_0/z_0`, and a ReLU that is off on all samples never moves again. Both happen at m =
0, so the times are those of :func:`~wideangle.dynamics.predict_learning_time` with imbalance :math:`r(z^2-u^2)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wideangle.dynamics._growth import Array, Growth, Mask
from wideangle.dynamics.learning_time import elapsed, margins_at, reachable

PHASES = ("learns", "rescued", "dies", "inactive")
"""z >= 0 and u > 0; -u < z < 0; z <= -u < 0; u <= 0. On the line z = -u the neuron goes to 0 and takes for ever."""

LEARNS, RESCUED, DIES, INACTIVE = range(4)


@dataclass(frozen=True)
class Neurons:
    """Neurons, each alone with its class.

    Attributes
    ----------
    readout, projection
        Initial z (times the label) and u, of one shape.
    frequency, input_norm
        p and r, positive numbers.
    loss
        Name of the loss.
    """

    readout: Array
    projection: Array
    frequency: float = 1.0
    input_norm: float = 1.0
    loss: str = "cross-entropy"

    @property
    def phase(self) -> NDArray[np.int8]:
        """Position in :data:`PHASES` of each neuron."""
        return classify(self.readout, self.projection)

    @property
    def invariant(self) -> Array:
        """z^2 - u^2, constant along the flow."""
        return (self.readout - self.projection) * (self.readout + self.projection)

    @property
    def margin(self) -> Array:
        """Initial margin r z u of the class; 0 for inactive neurons."""
        return self.input_norm * self.readout * np.maximum(self.projection, 0.0)

    def turning_time(self) -> Array:
        """Return when a rescued neuron's readout or a dying one's projection gets to 0; ``inf`` for the others."""
        return self._time_to(np.zeros(self.readout.shape), (self.phase == RESCUED) | (self.phase == DIES))

    def learning_time(self, margin: float) -> Array:
        """Return the time to a positive margin: ``inf`` if never reached, negative if exceeded from the start."""
        return self._time_to(np.full(self.readout.shape, margin), (self.phase == LEARNS) | (self.phase == RESCUED))

    def state(self, time: float) -> tuple[Array, Array]:
        """Return readout and projection at a time."""
        z, u = self.readout.copy(), self.projection.copy()
        moving = (self.phase != INACTIVE) & (time > 0.0)
        c = self.invariant[moving]
        with np.errstate(divide="ignore", invalid="ignore"):
            m = margins_at(
                self.loss,
                self._growth[moving],
                self.margin[moving],
                np.full(c.shape, time),
                np.full(c.shape, self._rate),
            )
            m = np.where(self.phase[moving] == DIES, np.minimum(m, 0.0), m) / self.input_norm
            # z^2 and u^2 are (root +- c)/2; the smaller of them from the product z u.
            large = np.sqrt(0.5 * (np.hypot(c, 2.0 * m) + np.abs(c)))
            small = np.where(large > 0.0, np.abs(m) / large, 0.0)
        z[moving] = np.where(c >= 0.0, np.copysign(large, self.readout[moving]), np.copysign(small, m))
        u[moving] = np.where(c >= 0.0, small, large)
        return z, u

    def _time_to(self, margin: Array, chosen: Mask) -> Array:
        result = np.full(self.readout.shape, np.inf)
        chosen = chosen & reachable(self.loss, margin, self.margin)
        m, m0 = margin[chosen], self.margin[chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.full(m.shape, self._rate)
            times = elapsed(self.loss, self._growth[chosen], np.minimum(m, m0), np.maximum(m, m0), rates)
        ahead = (m > m0) ^ (m0 > 1.0) if self.loss == "squared" else m > m0
        result[chosen] = np.where(ahead, times, -times)
        return result

    @property
    def _rate(self) -> float:
        return self.frequency * self.input_norm

    @property
    def _growth(self) -> Growth:
        return Growth(2, np.abs(self.input_norm * self.invariant))


def classify(readout: Array, projection: Array) -> NDArray[np.int8]:
    """Return the position in :data:`PHASES` of neurons with that readout (times the label) and projection."""
    phase = np.where(readout >= 0.0, LEARNS, np.where(readout > -projection, RESCUED, DIES))
    return np.where(projection > 0.0, phase, INACTIVE).astype(np.int8)


def turning_line(
    projection: Array, time: float, *, frequency: float = 1.0, input_norm: float = 1.0
) -> tuple[Array, Array]:
    r"""Return the readouts between which neurons are neither rescued nor dead by a time, under the hinge.

    :math:`-u/\tanh(prt)` and :math:`-u\tanh(prt)`, which close in on the boundary z = -u from both sides; neurons
    further from it have turned. The force of the cross-entropy is smaller, 1/2 to 1 on negative margins, so there twice
    the time is enough.
    """
    with np.errstate(divide="ignore"):
        shift = np.tanh(frequency * input_norm * time)
        return -projection / shift, -projection * shift
