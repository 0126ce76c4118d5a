// Pseudorandom numbers for the kernel tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace check {

// Uniform on (-1, 1).
class Numbers {
  public:
    explicit Numbers(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
    double operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<double>(state_ >> 11) * 0x1p-52 - 1.0;
    }
    std::size_t below(std::size_t count) {
        return static_cast<std::size_t>((*this)() * 0.5 * static_cast<double>(count) + 0.5 * static_cast<double>(count));
    }

  private:
    std::uint64_t state_;
};

}  // namespace check
