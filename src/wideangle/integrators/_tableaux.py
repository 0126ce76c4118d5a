"""Coefficients: the explicit Runge-Kutta pairs, in the sparse form that the driver runs, and the Rosenbrock method.

The eighth-order pair is DOP853 of P. J. Prince and J. R. Dormand with the error estimate and the seventh-order dense
output of E. Hairer, S. P. Norsett and G. Wanner, *Solving Ordinary Differential Equations I*, section II.5. The 5(4)
pair and its fourth-order interpolant are those of Ch. Tsitouras, Comput. Math. Appl. 62 (2011) 770. Rodas5P is that of
G. Steinebach, BIT Numer. Math. 63 (2023) 27.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Tableau(NamedTuple):
    """An explicit pair. Row s of a sparse matrix holds the entries ``start[s]`` to ``start[s + 1]``.

    Stages 0 to ``last`` are those of a step, stage ``last`` being the derivative at its end; those after it serve the
    dense output alone, y0 + x (F0 + (1 - x) (F1 + x (F2 + ...))) at the fraction x of the step.
    """

    last: int
    stages: int
    order: int
    c: NDArray[np.float64]
    start: NDArray[np.int64]
    place: NDArray[np.int64]  # where the slope begins in the memory of all stages
    weight: NDArray[np.float64]
    # The first row estimates the error, the second corrects the estimate of the eighth-order pair, the third is the
    # distance between the end of the step and the stage before it, of which the stiffness test needs the slope.
    test_start: NDArray[np.int64]
    test_place: NDArray[np.int64]
    test_weight: NDArray[np.float64]
    corrected: bool
    dense_rows: int
    dense_start: NDArray[np.int64]
    dense_place: NDArray[np.int64]
    dense_weight: NDArray[np.float64]
    # Step ratio = safety * error^-alpha * previous_error^beta.
    alpha: float
    beta: float
    smallest_ratio: float
    largest_ratio: float
    # Where the stability region leaves the negative axis.
    stability: float

    def spread(self, block: int) -> Tableau:
        """Return the tableau for slopes of so many numbers each; as defined below they have one."""
        places = {name: getattr(self, name) * block for name in ("place", "test_place", "dense_place")}
        return self._replace(**places)


class RosenbrockTableau(NamedTuple):
    """A Rosenbrock method in the form that needs no products with the Jacobian; the first gamma is the diagonal."""

    alpha: NDArray[np.float64]
    gamma: NDArray[np.float64]
    a: NDArray[np.float64]  # (stage, stage), and likewise c
    c: NDArray[np.float64]
    h: NDArray[np.float64]  # (3, stage): the dense output


# fmt: off
_DOP853_C = (
    0.0, 0.05260015195876773, 0.0789002279381516, 0.1183503419072274, 0.2816496580927726, 0.3333333333333333, 0.25,
    0.3076923076923077, 0.6512820512820513, 0.6, 0.8571428571428571, 1.0, 1.0, 0.1, 0.2, 0.7777777777777778,
)
_DOP853_A = (
    (
        0.05260015195876773,
    ),
    (
        0.0197250569845379, 0.0591751709536137,
    ),
    (
        0.02958758547680685, 0.0, 0.08876275643042054,
    ),
    (
        0.2413651341592667, 0.0, -0.8845494793282861, 0.924834003261792,
    ),
    (
        0.037037037037037035, 0.0, 0.0, 0.17082860872947386, 0.12546768756682242,
    ),
    (
        0.037109375, 0.0, 0.0, 0.17025221101954405, 0.06021653898045596, -0.017578125,
    ),
    (
        0.03709200011850479, 0.0, 0.0, 0.17038392571223998, 0.10726203044637328, -0.015319437748624402,
        0.008273789163814023,
    ),
    (
        0.6241109587160757, 0.0, 0.0, -3.3608926294469414, -0.868219346841726, 27.59209969944671, 20.154067550477894,
        -43.48988418106996,
    ),
    (
        0.47766253643826434, 0.0, 0.0, -2.4881146199716677, -0.590290826836843, 21.230051448181193,
        15.279233632882423, -33.28821096898486, -0.020331201708508627,
    ),
    (
        -0.9371424300859873, 0.0, 0.0, 5.186372428844064, 1.0914373489967295, -8.149787010746927, -18.52006565999696,
        22.739487099350505, 2.4936055526796523, -3.0467644718982196,
    ),
    (
        2.273310147516538, 0.0, 0.0, -10.53449546673725, -2.0008720582248625, -17.9589318631188, 27.94888452941996,
        -2.8589982771350235, -8.87285693353063, 12.360567175794303, 0.6433927460157636,
    ),
    (
        0.054293734116568765, 0.0, 0.0, 0.0, 0.0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
        0.3111643669578199, -0.1521609496625161, 0.20136540080403034, 0.04471061572777259,
    ),
    (
        0.056167502283047954, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25350021021662483, -0.2462390374708025, -0.12419142326381637,
        0.15329179827876568, 0.00820105229563469, 0.007567897660545699, -0.008298,
    ),
    (
        0.03183464816350214, 0.0, 0.0, 0.0, 0.0, 0.028300909672366776, 0.053541988307438566, -0.05492374857139099,
        0.0, 0.0, -0.00010834732869724932, 0.0003825710908356584, -0.00034046500868740456, 0.1413124436746325,
    ),
    (
        -0.42889630158379194, 0.0, 0.0, 0.0, 0.0, -4.697621415361164, 7.683421196062599, 4.06898981839711,
        0.3567271874552811, 0.0, 0.0, 0.0, -0.0013990241651590145, 2.9475147891527724, -9.15095847217987,
    ),
)
_DOP853_E5 = (
    0.01312004499419488, 0.0, 0.0, 0.0, 0.0, -1.2251564463762044, -0.4957589496572502, 1.6643771824549864,
    -0.35032884874997366, 0.3341791187130175, 0.08192320648511571, -0.022355307863886294, 0.0,
)
_DOP853_E3 = (
    -0.18980075407240762, 0.0, 0.0, 0.0, 0.0, 4.450312892752409, 1.8915178993145003, -5.801203960010585,
    -0.4226823213237919, -0.1521609496625161, 0.20136540080403034, 0.02265179219836082, 0.0,
)
_DOP853_D = (
    (
        -8.428938276109013, 0.0, 0.0, 0.0, 0.0, 0.5667149535193777, -3.0689499459498917, 2.38466765651207,
        2.117034582445028, -0.871391583777973, 2.2404374302607883, 0.6315787787694688, -0.08899033645133331,
        18.148505520854727, -9.194632392478356, -4.436036387594894,
    ),
    (
        10.427508642579134, 0.0, 0.0, 0.0, 0.0, 242.28349177525817, 165.20045171727028, -374.5467547226902,
        -22.113666853125306, 7.733432668472264, -30.674084731089398, -9.332130526430229, 15.697238121770845,
        -31.139403219565178, -9.35292435884448, 35.81684148639408,
    ),
    (
        19.985053242002433, 0.0, 0.0, 0.0, 0.0, -387.0373087493518, -189.17813819516758, 527.8081592054236,
        -11.57390253995963, 6.8812326946963, -1.0006050966910838, 0.7777137798053443, -2.778205752353508,
        -60.19669523126412, 84.32040550667716, 11.99229113618279,
    ),
    (
        -25.69393346270375, 0.0, 0.0, 0.0, 0.0, -154.18974869023643, -231.5293791760455, 357.6391179106141,
        93.40532418362432, -37.45832313645163, 104.0996495089623, 29.8402934266605, -43.53345659001114,
        96.32455395918828, -39.17726167561544, -149.72683625798564,
    ),
)
_TSIT5_A = (
    (
        0.161,
    ),
    (
        -0.008480655492356989, 0.335480655492357,
    ),
    (
        2.8971530571054935, -6.359448489975075, 4.3622954328695815,
    ),
    (
        5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525,
    ),
    (
        5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383,
    ),
    (
        0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774,
    ),
)
_TSIT5_C = (
    0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0,
)
_TSIT5_E = (
    0.0017800110522257714, 0.0008164344596567469, -0.007880878010261995, 0.1447110071732629, -0.5823571654525552,
    0.45808210592918697, -0.015151515151515152,
)
# Coefficients of x, x^2, x^3 and x^4 in the weight of each stage.
_TSIT5_R = (
    (
        1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216,
    ),
    (
        0.0, 0.13169999999999998, -0.2234, 0.1017,
    ),
    (
        0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253,
    ),
    (
        0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902,
    ),
    (
        0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928,
    ),
    (
        0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661,
    ),
    (
        0.0, 1.5, -4.0, 2.5,
    ),
)
_RODAS_ALPHA = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
_RODAS_GAMMA = (
    0.21193756319429014, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069,
    0.0, 0.0, 0.0,
)
_RODAS_A6 = (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946)
_RODAS_A = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    _RODAS_A6,
    (*_RODAS_A6, 1.0),
    (*_RODAS_A6, 1.0, 1.0),
)
_RODAS_C = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (
        30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
        -28.087943162872662,
    ),
    (
        37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
        -54.66780262877968, -9.48861652309627,
    ),
)
_RODAS_H = (
    (
        25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204, 0.524948541321073,
        1.1241088310450404, 0.4272876194431874, -0.17202221070155493,
    ),
    (
        -9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796, 20.176138334709044,
        15.98066361424651, -6.789040303419874, -6.710236069923372,
    ),
    (
        11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643, -52.072871366152654,
        -59.78993625266729, -0.15582684282751913, 4.883087185713722,
    ),
)
# fmt: on


def _sparse(rows: list[NDArray[np.float64]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    columns = [np.flatnonzero(row) for row in rows]
    start = np.cumsum([0, *map(len, columns)]).astype(np.int64)
    weight = np.concatenate([row[column] for row, column in zip(rows, columns, strict=True)])
    return start, np.concatenate(columns).astype(np.int64), weight


def _padded(row: tuple[float, ...] | NDArray[np.float64], length: int) -> NDArray[np.float64]:
    result = np.zeros(length)
    result[: len(row)] = row
    return result


def _nested(polynomial: NDArray[np.float64], end: float) -> list[float]:
    """Rewrite x (r1 + r2 x + ...), whose value at 1 is ``end``, as x (F0 + (1 - x) (F1 + x (F2 + ...)))."""
    rest, factors = polynomial[::-1], []
    for index in range(len(polynomial) - 1):
        at = 1.0 if index % 2 == 0 else 0.0
        value = end if index == 0 else float(np.polyval(rest, at))
        factors.append(value)
        divisor = np.array([-1.0, 1.0]) if index % 2 == 0 else np.array([1.0, 0.0])
        rest = np.polydiv(np.polysub(rest, [value]), divisor)[0]
    return [*factors, float(rest[0])]


def _dop853_dense(stages: int, last: int) -> list[NDArray[np.float64]]:
    """F0 is the increment, F1 and F2 make it the Hermite cubic, and the rest is the book's."""
    increment = _padded(_DOP853_A[last - 1], stages)
    first, end = np.eye(stages)[0], np.eye(stages)[last]
    return [increment, first - increment, 2.0 * increment - end - first, *(_padded(row, stages) for row in _DOP853_D)]


def _tsit5_dense(stages: int) -> list[NDArray[np.float64]]:
    ends = _padded(_TSIT5_A[-1], stages)
    return list(np.array([_nested(np.array(r), end) for r, end in zip(_TSIT5_R, ends, strict=True)]).T.copy())


def _tableau(
    a: tuple[tuple[float, ...], ...],
    c: tuple[float, ...],
    errors: tuple[tuple[float, ...], tuple[float, ...]],
    dense: list[NDArray[np.float64]],
    *,
    last: int,
    order: int,
    beta: float,
    ratios: tuple[float, float],
    stability: float,
) -> Tableau:
    rows = [_padded(row, len(c)) for row in ((), *a)]
    tests = [*(_padded(row, len(c)) for row in errors), rows[last] - rows[last - 1]]
    return Tableau(
        last,
        len(c),
        order,
        np.array(c, dtype=np.float64),
        *_sparse(rows),
        *_sparse(tests),
        any(errors[1]),
        len(dense),
        *_sparse(dense),
        1.0 / order - 0.75 * beta,
        beta,
        *ratios,
        stability,
    )


DOP853 = _tableau(
    _DOP853_A,
    _DOP853_C,
    (_DOP853_E5, _DOP853_E3),
    _dop853_dense(16, 12),
    last=12,
    order=8,
    beta=0.0,
    ratios=(1.0 / 3.0, 6.0),
    stability=6.1,
)
TSIT5 = _tableau(
    _TSIT5_A, _TSIT5_C, (_TSIT5_E, ()), _tsit5_dense(7), last=6, order=5, beta=0.04, ratios=(0.2, 10.0), stability=3.5
)


def _square(rows: tuple[tuple[float, ...], ...]) -> NDArray[np.float64]:
    return np.array([_padded(row, len(_RODAS_ALPHA)) for row in rows])


RODAS5P = RosenbrockTableau(
    np.array(_RODAS_ALPHA), np.array(_RODAS_GAMMA), _square(_RODAS_A), _square(_RODAS_C), _square(_RODAS_H)
)
