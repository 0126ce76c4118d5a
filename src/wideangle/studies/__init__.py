"""Studies: grids of ensembles that outgrow one machine, stored and resumable."""

from __future__ import annotations

from wideangle.studies._journal import StoreError
from wideangle.studies.loading import load
from wideangle.studies.methods import METHODS
from wideangle.studies.planning import Plan, PlannedBlock
from wideangle.studies.protocol import Block, Method, Stop, Variable
from wideangle.studies.protocol import Wanted as Statistics
from wideangle.studies.report import write_report
from wideangle.studies.running import StudyWarning, run
from wideangle.studies.status import CellFailure, Status, status
from wideangle.studies.study import Study

__all__ = [
    "METHODS",
    "Block",
    "CellFailure",
    "Method",
    "Plan",
    "PlannedBlock",
    "Statistics",
    "Status",
    "Stop",
    "StoreError",
    "Study",
    "StudyWarning",
    "Variable",
    "load",
    "run",
    "status",
    "write_report",
]
