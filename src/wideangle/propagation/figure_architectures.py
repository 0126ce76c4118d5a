"""The architectures of the figure on accuracy after training."""

from __future__ import annotations

# (width, depth), in ascending order of the predicted ln sin^2 theta_L for orthogonal inputs: from -13.4 to -0.3, with
# 10^4.0 to 10^5.8 weights on MNIST (784 inputs, 10 outputs, no biases). Chosen before any of them was trained: six as
# examples (15x30, 50x50, 75x35, 30x15, 100x10, 85x2), then one after the other as far as possible from those before it
# in prediction, number of weights and logarithm of depth, and cheap rather than expensive. Networks with equally many
# weights, or equally deep, have predictions far apart. But deep ones wide enough to keep their angles have more than
# 10^5.8 weights, so that over the list the prediction has a rank correlation of -0.9 with depth.
WIDTH_AND_DEPTH = (
    (15, 30),
    (24, 50),
    (12, 20),
    (20, 34),
    (14, 20),
    (32, 50),
    (24, 32),
    (18, 22),
    (12, 12),
    (50, 50),
    (20, 18),
    (36, 30),
    (28, 22),
    (14, 10),
    (56, 30),
    (75, 35),
    (20, 11),
    (128, 33),
    (30, 15),
    (14, 7),
    (56, 20),
    (96, 18),
    (28, 9),
    (48, 11),
    (20, 6),
    (192, 13),
    (13, 4),
    (100, 10),
    (160, 10),
    (40, 6),
    (72, 7),
    (14, 3),
    (24, 4),
    (112, 6),
    (256, 6),
    (72, 4),
    (14, 2),
    (160, 4),
    (40, 3),
    (112, 3),
    (24, 2),
    (48, 2),
    (85, 2),
    (192, 2),
    (448, 2),
)

ARCHITECTURES: tuple[tuple[int, ...], ...] = tuple((width,) * depth for width, depth in WIDTH_AND_DEPTH)
