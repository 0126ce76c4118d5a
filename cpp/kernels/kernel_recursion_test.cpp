// Every instruction set against each other, bit by bit, and against the textbook recursion in long double, which takes
// the angle from the cosine: none of the half angles, none of the gaps.
#include "cpu_paths.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "check.hpp"

using namespace wideangle;

namespace {

using Real = long double;
constexpr Real pi = 3.14159265358979323846264338327950288L;

PiecewiseLinear network(double slope, double weight_variance) {
    const double squares = 1 + slope * slope;
    return {weight_variance * squares / 2, 1.0, static_cast<double>((1 - slope) * (1 - slope) / (pi * squares)),
            (1 + slope) * (1 + slope) / squares, 2 * slope / squares};
}

struct Model {
    Real square1, square2, covariance, tangent;

    void layer(Real slope, Real weight, Real bias) {
        const Real norm = std::sqrt(square1 * square2);
        const Real c = std::fmax(std::fmin(covariance / norm, 1.0L), -1.0L), angle = std::acos(c);
        const Real even = (1 - slope) / 2, odd = (1 + slope) / 2;
        const Real product = odd * odd * c + even * even * 2 / pi * (std::sin(angle) + (pi / 2 - angle) * c);
        const Real slopes = odd * odd + even * even * (1 - 2 * angle / pi);
        covariance = bias + weight * norm * product;
        square1 = bias + weight * (odd * odd + even * even) * square1;
        square2 = bias + weight * (odd * odd + even * even) * square2;
        tangent = covariance + tangent * weight * slopes;
    }
};

double uniform(std::uint64_t& state) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<double>(state >> 11) * 0x1p-53;
}

// Angles over the whole range and near its ends, norms of all sizes.
void start(KernelTile& tile, TileNorms& norms, double bias, std::uint64_t seed) {
    for (int i = 0; i < tile_norms; ++i) {
        norms.square[i] = bias + std::exp(4 * uniform(seed) - 2);
        norms.bias[i] = bias;
    }
    for (int i = 0; i < tile_size; ++i) {
        const double angle = i % 7 == 0 ? std::pow(10.0, -10 * uniform(seed)) : 3.14159 * uniform(seed);
        const double near = 2 * std::sin(angle / 2) * std::sin(angle / 2);
        tile.gap[i] = i % 14 == 7 ? 2 - near : near;
        tile.far[i] = i % 14 == 7 ? near : 2 - near;
        tile.cosine[i] = tile.gap[i] > 1 ? tile.far[i] - 1 : 1 - tile.gap[i];
        tile.tangent[i] = tile.cosine[i];
    }
}

double worst = 0;

void against_model(double slope, double weight, double bias) {
    const auto tile = std::make_unique<KernelTile>();
    TileNorms norms{};
    start(*tile, norms, bias, 99);
    std::vector<Model> models;
    for (int i = 0; i < tile_size; ++i) {
        const Real a = norms.square[i / tile_columns], b = norms.square[tile_rows + i % tile_columns];
        // The cosine in long double still has the digits of gaps above 1e-19.
        const Real cosine = tile->gap[i] > 1 ? tile->far[i] - 1.0L : 1.0L - tile->gap[i];
        models.push_back({a, b, std::sqrt(a * b) * cosine, std::sqrt(a * b) * cosine});
    }
    const CpuPath& path = cpu_paths[cpu_path_count - 1];
    const PiecewiseLinear phi = network(slope, weight);
    for (int layer = 1; layer <= 6; ++layer) {
        path.kernel_norm(norms, phi, bias > 0);
        path.kernel_step(*tile, {tile_rows, tile_columns}, phi, norms, slope > 0 || layer == 1, bias > 0);
        for (int i = 0; i < tile_size; ++i) {
            Model& model = models[static_cast<std::size_t>(i)];
            model.layer(slope, weight, bias);
            const Real norm = std::sqrt(model.square1 * model.square2);
            // Of nearly equal inputs long double knows the angle to 1e-19 over the angle, at least 1e-10.
            const double cosine = static_cast<double>(model.covariance / norm);
            const double tangent = static_cast<double>(model.tangent / norm);
            CHECK_CLOSE(tile->cosine[i], cosine, 2e-15);
            CHECK_CLOSE(tile->tangent[i], tangent, 2e-15 * layer + 2e-9 * layer * (i % 7 == 0));
            if (i % 7 != 0) worst = std::fmax(worst, std::fabs(tile->tangent[i] - tangent));
        }
        for (int i = 0; i < tile_rows; ++i) {
            const double square = static_cast<double>(models[static_cast<std::size_t>(i * tile_columns)].square1);
            CHECK_CLOSE(norms.square[i] / square, 1.0, 2e-15);
        }
    }
}

// At small angles, where the textbook form has no digits left: gap' = gap - knee (2 gap)^(3/2)/3 and slope = 1 - knee
// sqrt(2 gap), up to higher orders.
void small_angles() {
    const CpuPath& path = cpu_paths[cpu_path_count - 1];
    const PiecewiseLinear phi = network(0.0, 2.0);
    const TileNorms norms{};
    for (double gap = 1e-12; gap > 1e-190; gap *= 1e-7) {
        KernelTile tile{};
        for (int i = 0; i < tile_size; ++i) tile.gap[i] = tile.far[i] = gap;
        path.kernel_step(tile, {1, 8}, phi, norms, false, false);
        const double root = std::sqrt(2 * gap);
        CHECK_CLOSE(tile.gap[3] / (gap - phi.knee * root * root * root / 3), 1.0, 3e-15);
        // From the opposite input: E[phi phi] = knee (angle^3)/3.
        tile.gap[3] = 2 - gap;
        path.kernel_step(tile, {1, 8}, phi, norms, true, false);
        CHECK_CLOSE(tile.cosine[3] / (phi.knee * root * root * root / 3), 1.0, gap < 1e-15 ? 3e-15 : 1e-11);
    }
}

void paths_agree(double slope, double bias) {
    const auto expected = std::make_unique<KernelTile>();
    TileNorms expected_norms{};
    bool first = true;
    const std::int64_t features = 37;
    std::vector<double> rows(tile_rows * features), columns(tile_columns * features);
    std::uint64_t seed = 5;
    for (double& x : rows) x = uniform(seed) - 0.5;
    for (double& x : columns) x = uniform(seed) - 0.5;
    for (int path = 0; path < cpu_path_count; ++path) {
        if (!cpu_paths[path].supported()) continue;
        const auto tile = std::make_unique<KernelTile>();
        TileNorms norms{};
        start(*tile, norms, bias, 7);
        const PiecewiseLinear phi = network(slope, 1.3);
        const TileShape whole = {tile_rows, tile_columns};
        for (int layer = 1; layer <= 5; ++layer) {
            cpu_paths[path].kernel_norm(norms, phi, bias > 0);
            cpu_paths[path].kernel_step(*tile, whole, phi, norms, slope > 0 || layer == 1, bias > 0);
        }
        cpu_paths[path].kernel_distance(*tile, whole, rows.data(), features, columns.data(), features);
        if (first) {
            *expected = *tile;
            expected_norms = norms;
            double sum = 0;
            for (std::int64_t k = 0; k < features; ++k) {
                const double difference = columns[static_cast<std::size_t>(k * tile_columns + 5)] -
                                          rows[static_cast<std::size_t>(3 * features + k)];
                sum += difference * difference;
            }
            KernelTile alone{};
            cpu_paths[path].kernel_distance(alone, {4, 6}, rows.data(), features, columns.data(), features);
            CHECK(alone.gap[3 * tile_columns + 5] == sum);
        }
        first = false;
        CHECK(std::memcmp(tile.get(), expected.get(), sizeof *tile) == 0);
        CHECK(std::memcmp(&norms, &expected_norms, sizeof norms) == 0);
    }
}

}  // namespace

int main() {
    for (double slope : {0.0, 0.2, 1.0, -0.4, -1.0, 3.0})
        for (double bias : {0.0, 0.3}) {
            against_model(slope, 1.7, bias);
            paths_agree(slope, bias);
        }
    small_angles();
    std::printf("tangent kernel within %.2g of the model\n", worst);
    return check::report();
}
