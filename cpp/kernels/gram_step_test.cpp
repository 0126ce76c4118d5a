// Every instruction set against each other, bit by bit, and against a plain scalar model in long double that makes the
// neurons one by one from the same random words: none of the lane code, none of its scales.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "check.hpp"
#include "cpu_paths.hpp"
#include "threefry.hpp"

using namespace wideangle;

namespace {

using Real = long double;
using Matrix = std::vector<std::vector<Real>>;
constexpr Real pi = 3.14159265358979323846264338327950288L;

const std::atomic<bool> go_on{false};

// A state and its arrays.
struct Samples {
    std::vector<GramLanes> gram, factor, scratch;
    std::vector<GramFlags> place;
    GramState state;

    Samples(const Matrix& matrix, const GramKernels& kernels, const GramLayer& at)
        : gram(triangle_size(matrix.size())), factor(gram.size()), scratch(gram_scratch_size(matrix.size())),
          place(matrix.size()) {
        state.inputs = matrix.size();
        state.gram = gram.data();
        state.factor = factor.data();
        state.place = place.data();
        for (std::size_t i = 0; i < matrix.size(); ++i)
            for (std::size_t j = 0; j <= i; ++j)
                std::fill_n(gram[triangle_index(i, j)].at, gram_lanes, static_cast<double>(matrix[i][j]));
        kernels.measure(state, at, scratch.data(), go_on);
    }

    Samples(const Samples&) = delete;

    double entry(std::size_t i, std::size_t j, int lane) const {
        return std::ldexp(gram[i > j ? triangle_index(i, j) : triangle_index(j, i)].at[lane],
                          static_cast<int>(state.exponent.at[lane]));
    }
};

Real phi(Activation kind, Real slope, Real x) {
    switch (kind) {
        case Activation::relu: return x > 0 ? x : 0;
        case Activation::leaky_relu: return x > 0 ? x : slope * x;
        case Activation::abs: return std::fabs(x);
        case Activation::linear: return x;
        case Activation::erf: return std::erf(x);
        case Activation::tanh: return std::tanh(x);
        case Activation::gelu: return x * std::erfc(-x / std::sqrt(2.0L)) / 2;
        case Activation::elu: return x > 0 ? x : std::expm1(x);
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::sin: return std::sin(x);
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
    }
    return 0;
}

std::uint32_t word(const GramLayer& at, std::uint64_t sample, std::uint64_t quad, std::uint32_t place) {
    using Block = baseline::Words4<std::uint32_t>;
    const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    const Block counter = {{low(sample), low(sample >> 32), at.layer, low(quad)}};
    const Block key = {{low(at.seed), low(at.seed >> 32), 5, low(quad >> 32)}};
    return baseline::threefry4x32(counter, key).word[place];
}

// Normal number k of a neuron: eight neurons share two quads for each k, two neurons a pair of words.
Real normal(const GramLayer& at, std::uint64_t sample, std::uint64_t neuron, std::size_t k, std::size_t inputs) {
    const std::uint64_t quad = 2 * (neuron / 8 * inputs + k) + neuron % 8 / 4;
    const std::uint32_t place = neuron % 4 / 2 * 2;
    const std::uint32_t radius_word = word(at, sample, quad, place), angle_word = word(at, sample, quad, place + 1);
    const Real u = (radius_word >> 1 | 1u) * 0x1p-31L;
    const Real radius = (radius_word & 1 ? -1 : 1) * std::sqrt(-2 * std::log(u));
    const Real angle = static_cast<std::int32_t>(angle_word) * 0x1p-32L * pi;
    return radius * (neuron % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

// The factor's columns in the order of its pivots, rows in that of the inputs.
Matrix pivoted_cholesky(Matrix rest) {
    const std::size_t n = rest.size();
    std::vector<Real> diagonal(n);
    for (std::size_t i = 0; i < n; ++i) diagonal[i] = rest[i][i];
    Matrix factor(n, std::vector<Real>(n));
    std::vector<bool> used(n);
    for (std::size_t k = 0; k < n; ++k) {
        std::size_t pivot = n;
        for (std::size_t i = 0; i < n; ++i)
            if (!used[i] && diagonal[i] > 0 &&
                (pivot == n || rest[i][i] / diagonal[i] > rest[pivot][pivot] / diagonal[pivot] * (1 + 1e-12L)))
                pivot = i;
        if (pivot == n || rest[pivot][pivot] <= 1e-12L * diagonal[pivot]) break;
        used[pivot] = true;
        const Real root = std::sqrt(rest[pivot][pivot]);
        for (std::size_t i = 0; i < n; ++i) factor[i][k] = i == pivot ? root : used[i] ? 0 : rest[i][pivot] / root;
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) rest[i][j] -= factor[i][k] * factor[j][k];
    }
    return factor;
}

Matrix model(const Matrix& gram, const GramLayer& at, std::uint64_t sample) {
    const std::size_t n = gram.size();
    Matrix covariance = gram, next(n, std::vector<Real>(n));
    for (auto& row : covariance)
        for (Real& entry : row) entry = at.bias_variance + at.weight_variance * entry;
    const Matrix factor = pivoted_cholesky(covariance);
    for (std::uint64_t neuron = 0; neuron < at.width; ++neuron) {
        std::vector<Real> value(n);
        for (std::size_t k = 0; k < n; ++k) {
            const Real g = normal(at, sample, neuron, k, n);
            for (std::size_t i = 0; i < n; ++i) value[i] += factor[i][k] * g;
        }
        for (Real& x : value) x = phi(at.activation, at.slope, x);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) next[i][j] += value[i] * value[j] / at.width;
    }
    return next;
}

// The matrix of inputs that are neither orthogonal nor of equal norms, and of which no two pivots are alike.
Matrix example(std::size_t inputs, double scale) {
    Matrix result(inputs, std::vector<Real>(inputs));
    for (std::size_t i = 0; i < inputs; ++i)
        for (std::size_t j = 0; j < inputs; ++j) {
            for (std::size_t k = 0; k < 24; ++k)
                result[i][j] += scale * std::sin(1 + 2.3L * i * k + k) * std::sin(1 + 2.3L * j * k + k);
            result[i][j] *= (1 + 0.3L * i) * (1 + 0.3L * j) / 24;
        }
    return result;
}

GramLayer layer(Activation kind, std::uint32_t width, double weight_variance, double bias_variance) {
    return {0x123456789abcULL, 16ULL << 40, 7, width, kind, 0.3, weight_variance, bias_variance};
}

double worst = 0;

void against_model(const Matrix& gram, const GramLayer& at) {
    const GramKernels& kernels = *cpu_paths[0].gram_step;
    Samples samples(gram, kernels, at);
    kernels.step(samples.state, at, samples.scratch.data(), go_on);
    for (int lane = 0; lane < gram_lanes; lane += 5) {
        const Matrix expected = model(gram, at, at.first_sample + static_cast<std::uint64_t>(lane));
        for (std::size_t i = 0; i < gram.size(); ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                const auto scale = static_cast<double>(std::sqrt(expected[i][i] * expected[j][j]));
                // A sine loses what the rounding to float32 takes from a large argument.
                const double tolerance = at.activation == Activation::sin ? 2e-5 : 2e-6;
                CHECK_CLOSE(samples.entry(i, j, lane), static_cast<double>(expected[i][j]), tolerance * scale);
                if (scale > 0 && at.activation != Activation::sin)
                    worst = std::fmax(worst, std::fabs(samples.entry(i, j, lane) - static_cast<double>(expected[i][j])) / scale);
            }
    }
}

void every_activation() {
    for (int kind = 0; kind < activation_count; ++kind) {
        const auto activation = static_cast<Activation>(kind);
        against_model(example(3, 1.0), layer(activation, 21, 1.7, 0.0));
        against_model(example(5, 0.6), layer(activation, 40, 2.0, 0.4));
        // Far from 1, where the powers of two come in.
        against_model(example(2, 3e-9), layer(activation, 12, 0.01, 0.0));
        against_model(example(2, 50.0), layer(activation, 12, 256.0, 3.0));
    }
    for (std::size_t inputs : {1u, 2u, 4u, 7u, 9u, 11u, 17u}) against_model(example(inputs, 2.0), layer(Activation::relu, 35, 2.0, 0.0));
    std::printf("against the model: within %.2g\n", worst);
}

// Norms that float32 would not hold side by side, and beyond the range of doubles after some layers.
void any_scale() {
    Matrix gram = example(3, 1.0);
    for (std::size_t i = 0; i < 3; ++i) {
        gram[i][1] *= 1e-60L;
        gram[1][i] *= 1e-60L;
    }
    for (int kind = 0; kind < 4; ++kind) against_model(gram, layer(static_cast<Activation>(kind), 20, 2.0, 0.0));
    const GramKernels& kernels = *cpu_paths[0].gram_step;
    for (int kind = 0; kind < activation_count; ++kind)
        for (double weight_variance : {1e-3, 256.0}) {
            GramLayer at = layer(static_cast<Activation>(kind), 32, weight_variance, 0.0);
            Samples samples(example(3, 1.0), kernels, at);
            for (at.layer = 1; at.layer <= 400; ++at.layer)
                kernels.step(samples.state, at, samples.scratch.data(), go_on);
            for (int lane = 0; lane < gram_lanes; ++lane) {
                const bool zero = samples.gram[0].at[lane] == 0;  // dead
                CHECK(zero || (samples.gram[0].at[lane] > 0 && std::isfinite(samples.gram[2].at[lane])));
                CHECK(std::isfinite(samples.state.log_determinant.at[lane]));
                CHECK(std::isfinite(samples.state.effective_rank.at[lane]));
                const bool shrinks = weight_variance < 1;
                const double exponent = samples.state.exponent.at[lane];
                // A sine is bounded, and a sigmoid starts every layer from a half.
                if (!zero && kind < static_cast<int>(Activation::sin)) CHECK(shrinks ? exponent < -2000 : exponent > -20);
            }
        }
}

// The factor, the determinant, the effective rank and the rank.
void measures() {
    const GramKernels& kernels = *cpu_paths[0].gram_step;
    for (std::size_t n : {1u, 2u, 6u, 13u}) {
        const Matrix gram = example(n, 3.0);
        const GramLayer at = layer(Activation::relu, 1, 2.0, 0.0);
        Samples samples(gram, kernels, at);
        Real log_determinant = 0, trace = 0, squares = 0;
        const Matrix factor = pivoted_cholesky(gram);
        for (std::size_t k = 0; k < n; ++k) {
            Real pivot = 0;
            for (std::size_t i = 0; i < n; ++i) pivot = samples.place[i].at[3] == k ? factor[i][k] : pivot;
            log_determinant += 2 * std::log(pivot);
            trace += gram[k][k];
            for (std::size_t i = 0; i < n; ++i) squares += gram[i][k] * gram[i][k];
        }
        CHECK_CLOSE(samples.state.log_determinant.at[3], static_cast<double>(log_determinant), 1e-13 * n);
        CHECK_CLOSE(samples.state.effective_rank.at[3], static_cast<double>(trace * trace / squares), 1e-13 * n);
        CHECK(samples.state.rank.at[3] == n);
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) {
                const std::uint32_t p = samples.place[i].at[3], q = samples.place[j].at[3];
                double sum = 0;
                for (std::size_t k = 0; k <= std::min(p, q); ++k)
                    sum += samples.factor[triangle_index(p, k)].at[3] * samples.factor[triangle_index(q, k)].at[3];
                CHECK_CLOSE(sum, static_cast<double>(gram[i][j]), 1e-14 * static_cast<double>(gram[n - 1][n - 1]));
            }
    }
}

void singular() {
    const GramKernels& kernels = *cpu_paths[0].gram_step;
    // Inputs x, y, 3 x, 0 and x + y: rank 2, through a linear layer too; ReLU makes x + y independent.
    const std::vector<std::vector<Real>> x = {{1, 0}, {0.5L, 1}, {3, 0}, {0, 0}, {1.5L, 1}};
    Matrix gram(5, std::vector<Real>(5));
    for (std::size_t i = 0; i < 5; ++i)
        for (std::size_t j = 0; j < 5; ++j) gram[i][j] = x[i][0] * x[j][0] + x[i][1] * x[j][1];
    for (const auto& [kind, rank] : {std::pair{Activation::linear, 2u}, {Activation::relu, 3u}, {Activation::abs, 3u}}) {
        GramLayer at = layer(kind, 60, 2.0, 0.0);
        Samples samples(gram, kernels, at);
        CHECK(samples.state.rank.at[0] == 2);
        for (at.layer = 1; at.layer <= 3; ++at.layer)
            kernels.step(samples.state, at, samples.scratch.data(), go_on);
        for (int lane = 0; lane < gram_lanes; ++lane) {
            CHECK(samples.state.rank.at[lane] == rank);
            CHECK(samples.entry(3, 3, lane) == 0 && samples.entry(3, 1, lane) == 0);
            CHECK_CLOSE(samples.entry(2, 0, lane) / samples.entry(0, 0, lane), 3.0, 1e-5);
        }
    }
    // Opposite inputs: ReLU makes them orthogonal.
    GramLayer at = layer(Activation::relu, 30, 2.0, 0.0);
    Samples samples({{1, -2}, {-2, 4}}, kernels, at);
    CHECK(samples.state.rank.at[0] == 1);
    kernels.step(samples.state, at, samples.scratch.data(), go_on);
    CHECK(samples.state.rank.at[0] == 2 && samples.entry(1, 0, 0) == 0);
    // Nothing but zeros, and what biases make of them.
    Samples zero({{0, 0}, {0, 0}}, kernels, at);
    std::fill_n(zero.state.exponent.at, gram_lanes, gram_zero_exponent);
    kernels.step(zero.state, at, zero.scratch.data(), go_on);
    CHECK(zero.state.rank.at[5] == 0 && zero.entry(0, 0, 5) == 0 && zero.state.effective_rank.at[5] == 0);
    against_model({{0, 0}, {0, 0}}, layer(Activation::gelu, 30, 2.0, 0.7));
    // Fewer neurons than inputs.
    Samples narrow(example(6, 1.0), kernels, at);
    at.width = 4;
    kernels.step(narrow.state, at, narrow.scratch.data(), go_on);
    CHECK(narrow.state.rank.at[2] <= 4);
}

void paths_agree() {
    for (int kind = 0; kind < activation_count; ++kind)
        for (double bias : {0.0, 0.2}) {
            std::vector<GramLanes> expected;
            for (int path = 0; path < cpu_path_count; ++path) {
                if (!cpu_paths[path].supported()) continue;
                const GramKernels& kernels = *cpu_paths[path].gram_step;
                GramLayer at = layer(static_cast<Activation>(kind), 37, 1.9, bias);
                Samples samples(example(7, 1.3), kernels, at);
                for (at.layer = 1; at.layer <= 4; ++at.layer)
                    kernels.step(samples.state, at, samples.scratch.data(), go_on);
                std::vector<GramLanes> found = samples.gram;
                found.insert(found.end(), samples.factor.begin(), samples.factor.end());
                found.insert(found.end(),
                             {samples.state.exponent, samples.state.log_determinant, samples.state.effective_rank});
                if (expected.empty()) expected = found;
                CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof found[0]) == 0);
                std::vector<CentralMoments> gram(samples.gram.size()), norm(7);
                GramReduction reduction{gram.data(), norm.data()};
                kernels.reduce(&samples.state, 1, 14, reduction);
                Real sum = 0;
                for (int lane = 1; lane < 14; ++lane) sum += samples.entry(4, 2, lane);
                CHECK_CLOSE(gram[triangle_index(4, 2)].mean, static_cast<double>(sum / 13), 1e-14);
                CHECK(gram[3].count == 13 && norm[6].count == 13 && reduction.log_determinant.count == 13);
            }
        }
}

}  // namespace

int main() {
    every_activation();
    any_scale();
    measures();
    singular();
    paths_agree();
    return check::report();
}
