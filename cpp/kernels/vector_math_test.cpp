#include "vector_math.hpp"

#include <cmath>
#include <cstdio>
#include <initializer_list>

#include "check.hpp"

using namespace wideangle::WIDEANGLE_PATH;

namespace {

constexpr double pi = 3.14159265358979311600;

void exponential() {
    double largest_error = 0;
    for (std::uint64_t word = 0; word <= 0xffffffffu; word += 65521) {
        const auto w = static_cast<std::uint32_t>(word);
        const double u = (w >> 1 | 1u) * 0x1p-31;
        const double error = std::fabs(exponential32(broadcast32(w))[3] + std::log(u));
        largest_error = std::fmax(largest_error, error / (1 - std::log(u)));
    }
    std::printf("exponential32: largest error %.2g of 1 + value\n", largest_error);
    CHECK(largest_error < 1.5e-7);
    CHECK(exponential32(broadcast32(0xffffffffu))[0] == 0.0f);
    CHECK_CLOSE(exponential32(broadcast32(0u))[0], 31 * std::log(2.0), 2e-6);
    // Bit 0 says on which side a neuron is active, so the exponential must not depend on it.
    CHECK(exponential32(broadcast32(12345678u))[0] == exponential32(broadcast32(12345679u))[0]);
}

void sines() {
    double sine = 0, cosine = 0, ratio = 0;
    for (int i = -100000; i <= 100000; ++i) {
        const float x = static_cast<float>(i * (pi / 2 / 100000));
        const auto both = sincos32(broadcast32(x));
        sine = std::fmax(sine, std::fabs(both.sine[1] - std::sin(static_cast<double>(x))));
        cosine = std::fmax(cosine, std::fabs(both.cosine[1] - std::cos(static_cast<double>(x))));
        const float y = static_cast<float>((i + 100000) * (pi / 200000));
        const double expected = y > 0 ? std::sin(static_cast<double>(y)) / y : 1.0;
        ratio = std::fmax(ratio, std::fabs(sine_ratio32(broadcast32(y * y))[2] - expected));
    }
    std::printf("sincos32: largest errors %.2g, %.2g; sine_ratio32: %.2g\n", sine, cosine, ratio);
    CHECK(sine < 1.5e-7);
    CHECK(cosine < 2.5e-7);
    CHECK(ratio < 2.5e-7);
    for (double x = -pi / 2; x <= pi / 2; x += 1e-4) {
        const auto both = sincos64(broadcast64(x));
        CHECK_CLOSE(both.sine[5], std::sin(x), 5e-16 * std::fabs(std::sin(x)));
        CHECK_CLOSE(both.cosine[5], std::cos(x), 5e-16);
    }
    CHECK(sincos64(broadcast64(1e-300)).sine[0] == 1e-300);
}

void logarithm() {
    for (double x = 1e-307; x < 1e307; x *= 1.37)
        CHECK_CLOSE(log64(broadcast64(x))[4], std::log(x), 2.5e-16 * std::fabs(std::log(x)));
    for (double x = 0.5; x < 2.0; x += 1e-4)
        CHECK_CLOSE(log64(broadcast64(x))[4], std::log(x), 5e-16 * std::fabs(std::log(x)));
    CHECK(log64(broadcast64(1.0))[0] == 0.0);
}

void arctangent() {
    for (double angle = 1e-4; angle < pi / 2; angle += 1e-4)
        for (double radius : {1e-3, 1.0, 1e6}) {
            const double y = radius * std::sin(angle), x = radius * std::cos(angle);
            CHECK_CLOSE(arctangent64(broadcast64(y), broadcast64(x))[6], std::atan2(y, x), 7e-16 * std::atan2(y, x));
        }
    CHECK_CLOSE(arctangent64(broadcast64(1.0), broadcast64(0.0))[0], pi / 2, 1e-16);
    CHECK_CLOSE(arctangent64(broadcast64(1e-290), broadcast64(3.0))[0], 1e-290 / 3, 1e-305);
    CHECK(arctangent64(broadcast64(0.0), broadcast64(3.0))[0] == 0.0);
}

}  // namespace

int main() {
    exponential();
    sines();
    logarithm();
    arctangent();
    return check::report();
}
