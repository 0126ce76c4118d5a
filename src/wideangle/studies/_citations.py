"""What to cite for the results of a method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wideangle._version import __version__


class Paper(NamedTuple):
    """A paper on arXiv."""

    key: str
    authors: str
    title: str
    arxiv: str

    @property
    def year(self) -> str:
        """Of the first version, which the number begins with."""
        return f"20{self.arxiv[:2]}"


_DEGENERACY = Paper(
    "jakub2023depth",
    "Jakub, Cameron and Nica, Mihai",
    "Depth Degeneracy in Neural Networks: Vanishing Angles in Fully Connected ReLU Networks on Initialization",
    "2302.09712",
)
_INDICATOR = Paper(
    "jakub2023network",
    "Jakub, Cameron and Nica, Mihai",
    "Network Degeneracy as an Indicator of Training Performance: Comparing Finite and Infinite Width Angle Predictions",
    "2306.01513",
)
_DYNAMICS = Paper(
    "tachet2018learning",
    "Tachet des Combes, Remi and Pezeshki, Mohammad and Shabanian, Samira and Courville, Aaron and Bengio, Yoshua",
    "On the Learning Dynamics of Deep Neural Networks",
    "1809.06848",
)
_REDUNDANT = Paper(
    "doimo2021redundant",
    "Doimo, Diego and Glielmo, Aldo and Goldt, Sebastian and Laio, Alessandro",
    "Redundant Representations Help Generalization in Wide Neural Networks",
    "2106.03485",
)
_RESPONSE = Paper(
    "nakazato2024simple",
    "Nakazato, Kenichi",
    "A Simple Theory for Training Response of Deep Neural Networks",
    "2405.04074",
)
_RESPONSE_LAW = Paper(
    "nakazato2022training",
    "Nakazato, Kenichi",
    "The Training Response Law Explains How Deep Neural Networks Learn",
    "2204.07291",
)
PAPERS: dict[str, tuple[Paper, ...]] = {
    "simulate_angles": (_DEGENERACY, _INDICATOR),
    "simulate_gram": (_DEGENERACY,),
    "simulate_modes": (_DYNAMICS,),
    "phase_diagram": (_DYNAMICS,),
    "simulate_training": (_RESPONSE, _RESPONSE_LAW),
    "chunk_statistics": (_REDUNDANT,),
}


def papers_of(methods: Iterable[str]) -> list[Paper]:
    """Return the papers behind methods, each once."""
    return list(dict.fromkeys(paper for name in methods for paper in PAPERS.get(name, ())))


def bibtex(methods: Iterable[str]) -> str:
    """Return BibTeX entries of the package and of the papers behind methods."""
    package = (
        "@software{wideangle,\n"
        "  author = {{The wideangle developers}},\n"
        "  title = {wideangle: deep networks at finite and infinite width,\n"
        "    predicted, simulated, trained and compared},\n"
        f"  version = {{{__version__}}}\n"
        "}"
    )
    entries = [
        f"@misc{{{paper.key},\n"
        f"  author = {{{paper.authors}}},\n"
        f"  title = {{{paper.title}}},\n"
        f"  year = {{{paper.year}}},\n"
        f"  eprint = {{{paper.arxiv}}},\n"
        "  archivePrefix = {arXiv}\n"
        "}"
        for paper in papers_of(methods)
    ]
    return "\n\n".join([package, *entries])
