// One layer of a network with given weights, on a panel of inputs: what the sweep calls, once per instruction set.
//
// A panel is made of vectors that hold a cell of some inputs and a few units, 16 bytes of them: unit after unit, input after
// input. A weight matrix is read where it is, 16 bytes of a row at a time, each a factor for whole vectors; what a layer
// writes is what the next one reads. So a vector is full for any four inputs, and for four units of one input.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "activations.hpp"

namespace wideangle {

// Inputs of a panel: at a width of 1024 what enters and what leaves a layer fit into a cache of 1 MiB.
template <class T>
constexpr std::size_t panel_inputs = 256 / sizeof(T);

// Units of a cell.
template <class T>
constexpr std::size_t cell_units = 16 / sizeof(T);

// A multiple of the units of every tile.
constexpr std::size_t tile_units = 8;

// Of the Gram matrix, computed at once.
constexpr std::size_t gram_columns = 8;

constexpr std::size_t round_up(std::size_t x, std::size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Vectors with the same units of neighbouring inputs stand together, up to a strip of them, which a tile takes at once.
template <class T>
class PanelLayout {
  public:
    PanelLayout(std::size_t inputs, std::size_t vector_inputs, std::size_t most_vectors)
        : count(inputs), vector_inputs_(vector_inputs), vectors_(round_up(inputs, vector_inputs) / vector_inputs) {
        const std::size_t strips = (vectors_ + most_vectors - 1) / most_vectors;
        strip_ = (vectors_ + strips - 1) / strips;
    }
    std::size_t count;  // inputs

    // Vectors with the same units, and elements of one; strips begin at multiples of `strip`.
    std::size_t vectors() const { return vectors_; }
    std::size_t lanes() const { return vector_inputs_ * cell_units<T>; }
    std::size_t strip() const { return strip_; }
    std::size_t strip_vectors(std::size_t begin) const { return std::min(strip_, vectors_ - begin); }
    std::size_t size(std::size_t width) const { return vectors_ * vector_elements(width); }

    // Where the first units of a vector are, and how far apart its next ones.
    std::size_t vector_offset(std::size_t vector, std::size_t width) const {
        const std::size_t begin = vector / strip_ * strip_;
        return begin * vector_elements(width) + (vector - begin) * lanes();
    }
    std::size_t stride(std::size_t vector) const { return strip_vectors(vector / strip_ * strip_) * lanes(); }
    std::size_t offset(std::size_t input, std::size_t width) const {
        return vector_offset(input / vector_inputs_, width) + input % vector_inputs_ * cell_units<T>;
    }
    std::size_t stride_of_input(std::size_t input) const { return stride(input / vector_inputs_); }

  private:
    std::size_t vector_elements(std::size_t width) const { return round_up(width, cell_units<T>) * vector_inputs_; }
    std::size_t vector_inputs_, vectors_, strip_;
};

template <class T>
using LaneCount = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

// Sums over units, by lane of the vectors of a panel: an input has the cell_units lanes from input * cell_units on. In
// float32 the squares are added up in float64 from sums of twelve.
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
    std::size_t first, last;  // the units to compute; first is a multiple of tile_units
    Activation activation;
    double slope;
    PanelLayout<T> layout;
    const T* in;
    T* out;            // activations, and zeros in what remains of the last cell
    UnitSums<T> sums;  // of the squares of the activations, and of the pre-activations that are positive; from zero
    std::uintptr_t ahead;  // address of weights that will be needed soon, laid out like these, or 0
    bool ahead_is_far;     // too much will be read before for the first cache
    const std::atomic<bool>& stop;  // if set meanwhile the output is left unusable
};

// Scalar products of activations: columns begin...end-1 of the Gram matrix of all inputs, rows from the column on.
template <class T>
struct GramCall {
    const T* panels;  // all of them, one after the other
    std::size_t panel_size;
    const PanelLayout<T>* layouts;
    std::size_t count;  // of panels; all but the last hold panel_inputs
    std::size_t width;  // units
    std::size_t begin, end;  // begin is a multiple of gram_columns
    double* gram;        // (row, column), all inputs
    std::size_t stride;  // of a row
    const std::atomic<bool>& stop;
};

template <class T>
struct ForwardKernels {
    std::size_t vector_inputs, most_vectors;  // of the layouts that these kernels take
    void (*layer)(const LayerCall<T>&);
    // Sums over units first...last-1 of a panel as it stands.
    void (*measure)(const T* panel, const PanelLayout<T>&, std::size_t width, std::size_t first, std::size_t last,
                    const UnitSums<T>&);
    // Units first...last-1 of a panel to (input, unit) in C order; first is a multiple of tile_units.
    void (*unpack)(const T* panel, const PanelLayout<T>&, std::size_t width, std::size_t first, std::size_t last, T* to);
    void (*gram)(const GramCall<T>&);
};

}  // namespace wideangle
