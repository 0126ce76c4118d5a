"""The methods of the package that studies run."""

from __future__ import annotations

from wideangle.studies.protocol import Method

METHODS: dict[str, Method] = {}
