"""Real data to train on: the digits that scikit-learn ships, and files in the formats of MNIST."""

from __future__ import annotations

from wideangle.data.labelled import LabelledData, load_digits, load_images

__all__ = ["LabelledData", "load_digits", "load_images"]
