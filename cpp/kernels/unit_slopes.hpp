// Slopes of activations where their values are known, and how many units take them at a time.
#pragma once

#include <type_traits>

#include "activations.hpp"
#include "layer_products.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Whether phi(z) tells phi'(z).
template <class Phi>
constexpr bool value_tells_slope = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, Linear> ||
                                   std::is_same_v<Phi, Tanh> || std::is_same_v<Phi, Sigmoid>;

template <class Phi>
constexpr bool is_piecewise_linear = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, LeakyRelu> ||
                                     std::is_same_v<Phi, Abs> || std::is_same_v<Phi, Linear>;

// A number of one unit, or of four side by side: chains as long as that of an exponential are to overlap.
template <class Phi>
using Units = std::conditional_t<is_piecewise_linear<Phi>, r64, Pair<Pair<r64>>>;
template <class V>
constexpr std::size_t units_in = sizeof(V) / sizeof(r64);

// Their numbers are `apart`.
template <class V>
WIDEANGLE_INLINE V get_units(int part, const EightLanes* from, std::size_t apart = 1) {
    if constexpr (units_in<V> == 1)
        return from->get(part);
    else
        return {get_units<decltype(V::first)>(part, from, apart),
                get_units<decltype(V::first)>(part, from + units_in<V> / 2 * apart, apart)};
}
WIDEANGLE_INLINE void set_units(int part, EightLanes* to, r64 x, std::size_t = 1) { to->set(part, x); }
template <class V>
WIDEANGLE_INLINE void set_units(int part, EightLanes* to, const Pair<V>& x, std::size_t apart = 1) {
    set_units(part, to, x.first, apart);
    set_units(part, to + units_in<V> * apart, x.second, apart);
}

// g phi'(z) for h = phi(z), if that tells it.
template <class Phi, class V>
WIDEANGLE_INLINE V times_slope_of_value(V g, V h) {
    static_assert(value_tells_slope<Phi>);
    if constexpr (std::is_same_v<Phi, Relu>) return keep(is_less(0.0, h), g);
    if constexpr (std::is_same_v<Phi, Tanh>) return g * ((1.0 - h) * (1.0 + h));
    if constexpr (std::is_same_v<Phi, Sigmoid>) return g * (h * (1.0 - h));
    return g;
}

// phi'(z) for h = phi(z).
template <class Phi, class V>
WIDEANGLE_INLINE V slope_at(Phi phi, V z, V h) {
    if constexpr (value_tells_slope<Phi>)
        return times_slope_of_value<Phi>(broadcast<V>(1.0), h);
    else
        return phi.derivative(z);
}

}  // namespace wideangle::WIDEANGLE_PATH
