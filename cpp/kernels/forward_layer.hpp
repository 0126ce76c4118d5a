// One layer of a network with given weights, on a panel of inputs: what the sweep calls, once per instruction set.
//
// A panel has one of two layouts. Many inputs stand side by side in vectors ("strips"): unit after unit, the values of a
// strip's inputs, so that what a layer writes is what the next one reads, and weights are read where they are, each a
// factor for a vector of inputs. Up to four inputs stand one after the other ("rows"), and vectors run along the units.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "activations.hpp"

namespace wideangle {

constexpr std::size_t most_rows = 4;  // inputs that are taken in rows

// Inputs of a panel in strips: at a width of 1024 what enters and what leaves a layer fit into a cache of 1 MiB.
template <class T>
constexpr std::size_t panel_inputs = 256 / sizeof(T);

// Elements of the longest vector, to which rows are padded.
template <class T>
constexpr std::size_t most_lanes = 64 / sizeof(T);

constexpr std::size_t round_up(std::size_t x, std::size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

template <class T>
struct PanelLayout {
    std::size_t count;         // inputs
    bool rows;                 // rather than strips
    std::size_t lanes;         // inputs in a vector
    std::size_t strip_inputs;  // inputs of a full strip

    std::size_t padded() const { return rows ? count : round_up(count, lanes); }
    // Where the values of an input begin, and how far apart those of two units are.
    std::size_t offset(std::size_t input, std::size_t width) const {
        if (rows) return input * round_up(width, most_lanes<T>);
        const std::size_t strip = input / strip_inputs;
        return strip * strip_inputs * width + input % strip_inputs;
    }
    std::size_t stride(std::size_t input) const {
        if (rows) return 1;
        const std::size_t begin = input / strip_inputs * strip_inputs;
        return padded() - begin < strip_inputs ? padded() - begin : strip_inputs;
    }
    std::size_t size(std::size_t width) const {
        return rows ? count * round_up(width, most_lanes<T>) : padded() * width;
    }
};

template <class T>
using LaneCount = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

// Sums over units, by input of the padded panel. In float32 the squares are added up in float64 from sums of up to eight.
template <class T>
struct UnitSums {
    double* squares;
    LaneCount<T>* positive;
};

template <class T>
struct LayerCall {
    const T* weights;  // (units, inputs)
    const T* bias;     // (units), or null
    std::size_t inputs, units;
    std::size_t first, last;  // the units to compute; first is a multiple of most_lanes
    Activation activation;
    double slope;
    PanelLayout<T> layout;
    const T* in;
    T* out;            // activations; in rows, zeros up to the next multiple of most_lanes
    UnitSums<T> sums;  // of the squares of the activations, and of the pre-activations that are positive; from zero
    std::uintptr_t ahead;  // address of weights that will be needed soon, laid out like these, or 0
    const std::atomic<bool>& stop;  // if set meanwhile the output is left unusable
};

// Scalar products of activations: rows begin...end-1 of the Gram matrix of all inputs, columns from the row on.
template <class T>
struct GramCall {
    const T* panels;  // all of them, one after the other
    std::size_t panel_size;
    const PanelLayout<T>* layouts;
    std::size_t count;  // of panels; all but the last hold panel_inputs
    std::size_t width;  // units
    std::size_t begin, end;  // begin is a multiple of 8
    double* gram;        // (row, column), all inputs
    std::size_t stride;  // of a row
    const std::atomic<bool>& stop;
};

template <class T>
struct ForwardKernels {
    std::size_t lanes, strip_inputs;  // of the layouts that these kernels take
    void (*layer)(const LayerCall<T>&);
    // Sums over units first...last-1 of a panel as it stands.
    void (*measure)(const T* panel, const PanelLayout<T>&, std::size_t width, std::size_t first, std::size_t last,
                    const UnitSums<T>&);
    // Units first...last-1 of a panel to (input, unit) in C order; first is a multiple of most_lanes.
    void (*unpack)(const T* panel, const PanelLayout<T>&, std::size_t width, std::size_t first, std::size_t last, T* to);
    void (*gram)(const GramCall<T>&);
};

}  // namespace wideangle
