// Gram matrix of the activations in panels, in double precision whatever T is. Compiled once per instruction set.
//
// At least one fused multiply-add for each pair of inputs and unit. The cells of eight inputs become doubles in a block that
// stays in the cache, each a factor for vectors of the other inputs; sums over a cell's lanes are left to the end.
#pragma once

#include <algorithm>
#include <cstring>

#include "cells.hpp"

namespace wideangle::WIDEANGLE_PATH {

constexpr std::size_t gram_units = 512;  // of which a block is kept in the cache

// The doubles of a cell beside the lanes of one part of a vector.
template <class T, int part>
WIDEANGLE_INLINE Doubles beside(const double* of_cell) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return _mm512_maskz_broadcast_f64x4(0xff, _mm256_loadu_pd(of_cell));
#endif
    if constexpr (sizeof(T) == 4) return load<Doubles>(of_cell + part * width_of<double> % cell<T>);
    else return for_all_inputs(of_cell);
}

template <class T>
struct GramBlock {
    alignas(64) double cells[gram_units / cell_units<T>][gram_columns][cell_units<T>];
};

// What a tile gives: for inputs of one vector, the products with some inputs of the block, added to or set.
struct GramPart {
    double* entries;  // of the first input of the vector and the first of the block
    std::size_t stride, rows, columns;
    bool set;
};

// Lanes of the parts: input after input, the units of its cell.
template <class T, int columns>
WIDEANGLE_INLINE void add_products(const Doubles (&sum)[columns][parts<T>], const GramPart& to) {
    constexpr int lanes = width_of<double>, units = std::min(cell<T>, lanes);
    constexpr bool shared = cell<T> > lanes;  // the parts share the only input
#pragma GCC unroll 4
    for (int column = 0; column < columns; column += units)
#pragma GCC unroll 2
        for (int part = 0; part < (shared ? 1 : parts<T>); ++part) {
            Doubles some[units];
#pragma GCC unroll 4
            for (int i = 0; i < units; ++i) {
                some[i] = sum[column + i][part];
                if constexpr (shared) some[i] += sum[column + i][1];
            }
            double totals[lanes];
            store(totals, block_sums<Doubles, lanes, units>(some));
            for (int lane = 0; lane < lanes; lane += units) {
                const auto row = static_cast<std::size_t>((part * lanes + lane) / units);
                double* const entries = to.entries + row * to.stride + column;
                if (row >= to.rows) break;
                if (to.set && to.columns == columns)
                    std::memcpy(entries, totals + lane, units * sizeof(double));
                else
                    for (int i = 0; i < units && static_cast<std::size_t>(column + i) < to.columns; ++i)
                        entries[i] = (to.set ? 0.0 : entries[i]) + totals[lane + i];
            }
        }
}

template <class T, int columns>
void gram_tile(const GramBlock<T>& block, std::size_t first, const T* from, std::size_t stride, std::size_t cells,
               const GramPart& to) {
    Doubles sum[columns][parts<T>] = {};
    for (std::size_t k = 0; k < cells; ++k) {
        const Vector<T> x = load<Vector<T>>(from + k * stride);
        const Doubles low = widened<0, T>(x);
#pragma GCC unroll 8
        for (std::size_t j = 0; j < columns; ++j) sum[j][0] += low * beside<T, 0>(block.cells[k][first + j]);
        if constexpr (parts<T> == 2) {
            const Doubles high = widened<1, T>(x);
#pragma GCC unroll 8
            for (std::size_t j = 0; j < columns; ++j) sum[j][1] += high * beside<T, 1>(block.cells[k][first + j]);
        }
    }
    add_products<T, columns>(sum, to);
}

template <class T>
void fill_block(GramBlock<T>& block, const GramCall<T>& call, std::size_t column, std::size_t first_cell, std::size_t cells) {
    const std::size_t panel = column / panel_inputs<T>, vector = column % panel_inputs<T> / vector_inputs;
    const PanelLayout<T>& layout = call.layouts[panel];
    for (std::size_t v = 0; v < gram_columns / vector_inputs && vector + v < layout.vectors(); ++v) {
        const std::size_t stride = layout.stride(vector + v);
        const T* const from =
            call.panels + panel * call.panel_size + layout.vector_offset(vector + v, call.width) + first_cell * stride;
        for (std::size_t k = 0; k < cells; ++k) {
            const Vector<T> x = load<Vector<T>>(from + k * stride);
            double* const to = block.cells[k][v * vector_inputs];
            store(to, widened<0, T>(x));
            if constexpr (parts<T> == 2) store(to + width_of<double>, widened<1, T>(x));
        }
    }
}

template <class T>
void gram(const GramCall<T>& call) {
    constexpr std::size_t lane_inputs = vector_inputs;
    // As many columns as leave registers.
    constexpr int most = many_registers ? gram_columns : 4;
    GramBlock<T> block;  // what lies beyond the last input is not used
    const std::size_t all_cells = round_up(call.width, cell_units<T>) / cell_units<T>;
    for (std::size_t column = call.begin; column < call.end; column += gram_columns) {
        const std::size_t columns = std::min(gram_columns, call.end - column);
        const std::size_t panel = column / panel_inputs<T>, in_panel = column % panel_inputs<T>;
        for (std::size_t first = 0; first < all_cells; first += gram_units / cell_units<T>) {
            if (call.stop.load(std::memory_order_relaxed)) return;
            const std::size_t cells = std::min(gram_units / cell_units<T>, all_cells - first);
            fill_block(block, call, column, first, cells);
            for (std::size_t other = panel; other < call.count; ++other) {
                const PanelLayout<T>& layout = call.layouts[other];
                for (std::size_t vector = other == panel ? in_panel / lane_inputs : 0; vector < layout.vectors(); ++vector) {
                    const std::size_t stride = layout.stride(vector), row = vector * lane_inputs;
                    const T* const from =
                        call.panels + other * call.panel_size + layout.vector_offset(vector, call.width) + first * stride;
                    double* const entries =
                        call.gram + (other * panel_inputs<T> + row) * call.stride + column;
                    const std::size_t rows = std::min(lane_inputs, layout.count - row);
                    for (std::size_t done = 0; done < columns; done += most) {
                        const GramPart to{entries + done, call.stride, rows, std::min<std::size_t>(most, columns - done),
                                          first == 0};
                        (to.columns > 4 ? gram_tile<T, most> : gram_tile<T, 4>)(block, done, from, stride, cells, to);
                    }
                }
            }
        }
    }
}

}  // namespace wideangle::WIDEANGLE_PATH
