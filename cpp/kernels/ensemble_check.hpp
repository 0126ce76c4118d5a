// What the tests of ensembles share.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "check.hpp"
#include "moments.hpp"

namespace check {

// A watcher that lets the run go on.
inline bool go_on(std::uint64_t) { return true; }

template <class Number>
bool same_bits(const std::vector<Number>& a, const std::vector<Number>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
}

// Whether part, rows of `row` numbers from row `first` on, has the bits of the whole there.
template <class Number>
bool same_rows(const std::vector<Number>& part, const std::vector<Number>& whole, std::size_t first, std::size_t row) {
    return std::memcmp(part.data(), whole.data() + first * row, part.size() * sizeof part[0]) == 0;
}

// Parts of 3000 samples, first and count, that begin and end inside blocks and groups of lanes or on their borders.
constexpr std::pair<std::uint64_t, std::uint64_t> parts_of_3000[] = {{0, 1}, {3, 10}, {255, 2}, {250, 600}, {2999, 1}};

// FNV-1a of the bits.
inline std::uint64_t fingerprint(const std::vector<double>& values) {
    std::uint64_t hash = 14695981039346656037ULL;
    for (double value : values) {
        std::uint64_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        if (value != value) bits = 0;  // the sign and payload of a NaN are the machine's own
        for (int byte = 0; byte < 8; ++byte) hash = (hash ^ (bits >> 8 * byte & 0xff)) * 1099511628211ULL;
    }
    return hash;
}

// Whether a run, given its watcher, says that it did not complete when the third call of the watcher stops it.
template <class Simulate>
bool is_stopped_by_third_call(Simulate&& simulate) {
    int calls = 0;
    const bool completed = simulate([&](std::uint64_t) { return ++calls < 3; });
    return !completed && calls == 3;
}

}  // namespace check
