"""The methods of the package that studies run."""

from __future__ import annotations

from wideangle.studies._method_angles import SimulateAngles
from wideangle.studies._method_chunks import ChunkStatistics
from wideangle.studies._method_gram import SimulateGram
from wideangle.studies._method_modes import SimulateModes
from wideangle.studies._method_phases import PhaseDiagram
from wideangle.studies._method_training import SimulateTraining
from wideangle.studies.protocol import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        SimulateAngles(),
        SimulateGram(),
        SimulateModes(),
        PhaseDiagram(),
        SimulateTraining(),
        ChunkStatistics(),
    )
}
