#include "angle_ensemble.hpp"
#include "cpu_paths.hpp"

#include <cmath>

#include "ensemble_check.hpp"

using namespace wideangle;
using check::go_on, check::same_bits;

namespace {

AngleEnsemble ensemble(std::uint64_t first, std::uint64_t count, int threads) {
    AngleEnsemble result;
    result.theta0 = 0.8;
    result.widths = {6, 9, 30, 4};
    result.seed = 42;
    result.first_sample = first;
    result.samples = count;
    result.threads = threads;
    result.angle_step = cpu_paths[0].angle_step;
    result.bins = {-8, 0, 16};
    return result;
}

struct Table {
    std::vector<double> log_sin2, log_norm2;
    std::vector<std::uint8_t> status;
    AngleMoments moments;

    explicit Table(const AngleEnsemble& of) {
        log_sin2.resize(of.samples * (of.widths.size() + 1));
        log_norm2.resize(log_sin2.size());
        status.resize(of.samples);
        CHECK(simulate_angles(of, moments, {log_sin2.data(), log_norm2.data(), status.data()}, go_on));
    }
};

void threads_do_not_matter() {
    const Table one(ensemble(0, 5000, 1)), many(ensemble(0, 5000, 7));
    CHECK(same_bits(one.log_sin2, many.log_sin2));
    CHECK(one.status == many.status);
    CHECK(same_bits(one.moments.log_sin2, many.moments.log_sin2));
    CHECK(same_bits(one.moments.log_norm2, many.moments.log_norm2));
    CHECK(one.moments.collapsed == many.moments.collapsed && one.moments.dead == many.moments.dead);
    CHECK(one.moments.histogram == many.moments.histogram);

    // Enough blocks for threads to overtake each other: the order of merging must not follow them.
    AngleMoments first, second;
    CHECK(simulate_angles(ensemble(0, 300000, 1), first, {}, go_on));
    CHECK(simulate_angles(ensemble(0, 300000, 13), second, {}, go_on));
    CHECK(same_bits(first.log_sin2, second.log_sin2));
    CHECK(same_bits(first.log_norm2, second.log_norm2));
}

// Sample k is the same in whichever run it is computed.
void splits_do_not_matter() {
    const Table whole(ensemble(0, 3000, 2));
    for (const auto& [first, count] : check::parts_of_3000) {
        const Table part(ensemble(first, count, 2));
        CHECK(check::same_rows(part.log_sin2, whole.log_sin2, first, 5));
        CHECK(check::same_rows(part.status, whole.status, first, 1));
    }
}

// The reduced quantities are those of the samples.
void reductions_match_samples() {
    const AngleEnsemble of = ensemble(7, 4000, 3);
    const Table table(of);
    for (std::size_t layer = 0; layer < 5; ++layer) {
        long double sum = 0, squares = 0;
        std::uint64_t alive = 0, collapsed = 0, dead = 0, binned = 0;
        for (std::size_t k = 0; k < 4000; ++k) {
            const double x = table.log_sin2[k * 5 + layer];
            if (std::isnan(x)) {
                ++dead;
            } else if (std::isinf(x)) {
                ++collapsed;
            } else {
                ++alive;
                sum += x;
                binned += x >= -3 && x < -2.5;
            }
        }
        const long double mean = sum / static_cast<long double>(alive);
        for (std::size_t k = 0; k < 4000; ++k) {
            const double x = table.log_sin2[k * 5 + layer];
            if (std::isfinite(x)) squares += (x - mean) * (x - mean);
        }
        const CentralMoments& moments = table.moments.log_sin2[layer];
        CHECK(moments.count == static_cast<double>(alive));
        CHECK(table.moments.collapsed[layer] == collapsed && table.moments.dead[layer] == dead);
        CHECK_CLOSE(moments.mean, static_cast<double>(mean), 1e-13);
        CHECK_CLOSE(moments.m2, static_cast<double>(squares), 1e-11 * static_cast<double>(squares) + 1e-20);
        CHECK(table.moments.histogram[layer * 16 + 10] == binned);
        std::uint64_t all = table.moments.underflow[layer] + table.moments.overflow[layer];
        for (std::size_t bin = 0; bin < 16; ++bin) all += table.moments.histogram[layer * 16 + bin];
        CHECK(all == alive);
    }
    CHECK(table.moments.collapsed[4] > 0 && table.moments.dead[4] > 0);
}

// Bits recorded once, the same for every compiler, processor and instruction set. They change only with the stream of
// random numbers or the arithmetic, and then in a minor version.
void machines_do_not_matter() {
    AngleEnsemble of = ensemble(0, 1000, 2);
    of.widths = {6, 300, 9, 30, 50, 4};
    const Table table(of);
    CHECK(check::fingerprint(table.log_sin2) == 0xbeeff8e86ee3c13fULL);
    CHECK(check::fingerprint(table.log_norm2) == 0x30ce3c2d42709e86ULL);
}

// A stopped run returns soon even inside one huge layer, and says that it did not complete.
void stops() {
    for (std::uint32_t width : {16u, 2147483647u}) {
        AngleEnsemble of = ensemble(0, 1ULL << 40, 2);
        of.widths = {width};
        AngleMoments moments;
        CHECK(check::is_stopped_by_third_call(
            [&](const Watcher& watcher) { return simulate_angles(of, moments, {}, watcher); }));
    }
}

void watcher_may_throw() {
    AngleMoments moments;
    bool caught = false;
    try {
        simulate_angles(ensemble(0, 1ULL << 40, 2), moments, {}, [](std::uint64_t) -> bool { throw 1; });
    } catch (int) {
        caught = true;
    }
    CHECK(caught);
}

}  // namespace

int main() {
    threads_do_not_matter();
    splits_do_not_matter();
    reductions_match_samples();
    machines_do_not_matter();
    stops();
    watcher_may_throw();
    return check::report();
}
