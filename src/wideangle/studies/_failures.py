"""What went wrong in a cell, as text that every journal, terminal and page can hold."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

# Zero ends texts, escapes change terminals, and halves of surrogate pairs, of which names of files may consist, have no
# encoding.
_NO_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Failure:
    """What went wrong in a cell; characters that are no text are written as their escapes."""

    cell: int
    message: str
    details: str

    def __post_init__(self) -> None:
        for name in ("message", "details"):
            object.__setattr__(self, name, _NO_TEXT.sub(_escaped, getattr(self, name)))

    @classmethod
    def of(cls, cell: int, error: BaseException) -> Failure:
        """Return the failure of a cell that raised an error, even one that cannot say what it is."""
        details = "".join(traceback.format_exception(error))
        try:
            text = str(error)
        except Exception as another:
            text = f"an error without text, as its own text raises {type(another).__name__}"
        return cls(cell, f"{type(error).__name__}: {text}", details)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
