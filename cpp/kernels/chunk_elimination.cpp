// Compiled once per instruction set, with fused multiply-adds; see chunk_elimination.hpp.
//
// An update must do size^2 depth / 2 multiply-adds. A tile of rows and columns is held in registers while the depth is run
// through, so that two loads and eight broadcasts feed sixteen of them.
#include "chunk_elimination.hpp"

#include <algorithm>

#include "simd.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t tile_rows = 8, tile_vectors = 2;
#else
constexpr std::size_t tile_rows = 4, tile_vectors = 1;
#endif

template <std::size_t rows, std::size_t vectors>
WIDEANGLE_INLINE void update_tile(const SymmetricUpdate& call, std::size_t i, std::size_t j) {
    f64 sum[rows][vectors] = {};
    const double* from = call.rows;
    for (std::size_t k = 0; k < call.depth; ++k, from += call.stride) {
        f64 right[vectors];
        for (std::size_t v = 0; v < vectors; ++v) right[v] = load<f64>(from + j + v * matrix_lanes);
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t v = 0; v < vectors; ++v) sum[r][v] += from[i + r] * right[v];
    }
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t v = 0; v < vectors; ++v) {
            double* const to = call.matrix + (i + r) * call.stride + j + v * matrix_lanes;
            store(to, load<f64>(to) + call.sign * sum[r][v]);
        }
}

template <std::size_t rows>
WIDEANGLE_INLINE void update_rows(const SymmetricUpdate& call, std::size_t i) {
    std::size_t j = i / matrix_lanes * matrix_lanes;
    for (; j + tile_vectors * matrix_lanes <= call.stride && j < call.size; j += tile_vectors * matrix_lanes)
        update_tile<rows, tile_vectors>(call, i, j);
    for (; j < call.size; j += matrix_lanes) update_tile<rows, 1>(call, i, j);
}

void update(const SymmetricUpdate& call) {
    std::size_t i = call.first;
    for (; i + tile_rows <= call.last; i += tile_rows) update_rows<tile_rows>(call, i);
    for (; i < call.last; ++i) update_rows<1>(call, i);
}

void add(double* to, const double* from, double factor, std::size_t count) {
    std::size_t i = 0;
    for (; i + matrix_lanes <= count; i += matrix_lanes) store(to + i, load<f64>(to + i) + factor * load<f64>(from + i));
    for (; i < count; ++i) to[i] += factor * from[i];
}

double correlations(const CorrelationSum& call) {
    double total = 0;
    for (std::size_t i = call.first; i < call.last; ++i) {
        const double* const row = call.matrix + i * call.stride;
        const auto term = [&](std::size_t j) {
            return __builtin_fabs(row[j]) / (call.spread[i] * call.spread[j] + call.offset);
        };
        double sum = 0;
        std::size_t j = i + 1;
        for (; j < call.size && j % matrix_lanes != 0; ++j) sum += term(j);
        f64 sums = {};
        for (; j + matrix_lanes <= call.size; j += matrix_lanes) {
            const i64 magnitude = bits_as<i64>(load<f64>(row + j)) & 0x7fffffffffffffff;
            sums += bits_as<f64>(magnitude) / (call.spread[i] * load<f64>(call.spread + j) + call.offset);
        }
        for (; j < call.size; ++j) sum += term(j);
        for (std::size_t lane = 0; lane < matrix_lanes; ++lane) sum += sums[lane];
        total += sum;
    }
    return call.scale * total;
}

}  // namespace
}  // namespace WIDEANGLE_PATH

#define WIDEANGLE_CHUNK_KERNELS WIDEANGLE_JOIN(chunk_, WIDEANGLE_PATH)
extern const ChunkKernels WIDEANGLE_CHUNK_KERNELS;
const ChunkKernels WIDEANGLE_CHUNK_KERNELS = {WIDEANGLE_PATH::update, WIDEANGLE_PATH::add, WIDEANGLE_PATH::correlations};

}  // namespace wideangle
