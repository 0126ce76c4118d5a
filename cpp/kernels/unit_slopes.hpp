// Slopes of activations where their values are known.
#pragma once

#include <type_traits>

#include "activations.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Whether phi(z) tells phi'(z).
template <class Phi>
constexpr bool value_tells_slope = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, Linear> ||
                                   std::is_same_v<Phi, Tanh> || std::is_same_v<Phi, Sigmoid>;

// g phi'(z) for h = phi(z), if that tells it.
template <class Phi>
WIDEANGLE_INLINE f64 times_slope_of_value(f64 g, f64 h) {
    static_assert(value_tells_slope<Phi>);
    if constexpr (std::is_same_v<Phi, Relu>) return keep(is_less(0.0, h), g);
    if constexpr (std::is_same_v<Phi, Tanh>) return g * ((1.0 - h) * (1.0 + h));
    if constexpr (std::is_same_v<Phi, Sigmoid>) return g * (h * (1.0 - h));
    return g;
}

// phi'(z) for h = phi(z).
template <class Phi>
WIDEANGLE_INLINE f64 slope_at(Phi phi, f64 z, f64 h) {
    if constexpr (value_tells_slope<Phi>)
        return times_slope_of_value<Phi>(broadcast64(1.0), h);
    else
        return phi.derivative(z);
}

}  // namespace wideangle::WIDEANGLE_PATH
