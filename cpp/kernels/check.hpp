// What the kernel tests share: a check that counts, says where it failed, and goes on.
#pragma once

#include <cstdio>

namespace check {

inline int passed = 0, failed = 0;

inline void that(bool condition, const char* text, const char* file, int line) {
    condition ? ++passed : ++failed;
    if (!condition) std::printf("%s:%d: failed: %s\n", file, line, text);
}

inline void close(double value, double expected, double tolerance, const char* text, const char* file, int line) {
    const double difference = value > expected ? value - expected : expected - value;
    const bool good = difference <= tolerance;  // false for NaN
    good ? ++passed : ++failed;
    if (!good) std::printf("%s:%d: failed: %s = %.17g, expected %.17g within %.3g\n", file, line, text, value, expected, tolerance);
}

inline int report() {
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace check

#define CHECK(condition) check::that((condition), #condition, __FILE__, __LINE__)
#define CHECK_CLOSE(value, expected, tolerance) \
    check::close((value), (expected), (tolerance), #value, __FILE__, __LINE__)
