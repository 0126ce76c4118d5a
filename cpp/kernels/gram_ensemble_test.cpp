#include "gram_ensemble.hpp"

#include <cmath>

#include "angle_ensemble.hpp"
#include "cpu_paths.hpp"
#include "ensemble_check.hpp"

using namespace wideangle;
using check::go_on, check::same_bits;

namespace {

GramEnsemble ensemble(std::uint64_t first, std::uint64_t count, int threads) {
    GramEnsemble result;
    result.inputs = 3;
    result.gram0 = {1.0, 0.7, 2.0, 0.1, -0.4, 0.5};
    result.widths = {6, 9, 30, 4};
    result.seed = 42;
    result.first_sample = first;
    result.samples = count;
    result.threads = threads;
    result.kernels = cpu_paths[0].gram_step;
    return result;
}

GramEnsemble pair(std::uint64_t first, std::uint64_t count, int threads) {
    GramEnsemble result = ensemble(first, count, threads);
    result.inputs = 2;
    result.theta0 = 0.8;
    result.gram0 = {4.0, 6.0 * std::cos(0.8), 9.0};
    result.angle_step = cpu_paths[0].angle_step;
    return result;
}

struct Table {
    std::vector<double> gram, log_determinant;
    std::vector<std::int32_t> rank;
    GramMoments moments;

    explicit Table(const GramEnsemble& of) {
        log_determinant.resize(of.samples * (of.widths.size() + 1));
        gram.resize(log_determinant.size() * of.inputs * of.inputs);
        rank.resize(log_determinant.size());
        CHECK(simulate_gram(of, moments, {gram.data(), log_determinant.data(), rank.data()}, go_on));
    }
};

bool same_moments(const GramMoments& a, const GramMoments& b) {
    return same_bits(a.gram, b.gram) && same_bits(a.log_norm2, b.log_norm2) &&
           same_bits(a.log_determinant, b.log_determinant) && same_bits(a.effective_rank, b.effective_rank) &&
           a.rank_lost == b.rank_lost;
}

void threads_do_not_matter() {
    for (const auto& of : {ensemble, pair}) {
        const Table one(of(0, 3000, 1)), many(of(0, 3000, 7));
        CHECK(same_bits(one.gram, many.gram));
        CHECK(one.rank == many.rank);
        CHECK(same_moments(one.moments, many.moments));
        GramMoments first, second;
        CHECK(simulate_gram(of(0, 60000, 1), first, {}, go_on));
        CHECK(simulate_gram(of(0, 60000, 13), second, {}, go_on));
        CHECK(same_moments(first, second));
    }
}

// Sample k is the same in whichever run it is computed.
void splits_do_not_matter() {
    for (const auto& of : {ensemble, pair}) {
        const Table whole(of(0, 3000, 2));
        const std::size_t row = whole.gram.size() / 3000;
        for (const auto& [first, count] : check::parts_of_3000) {
            const Table part(of(first, count, 2));
            CHECK(check::same_rows(part.gram, whole.gram, first, row));
            CHECK(check::same_rows(part.rank, whole.rank, first, 5));
            CHECK(check::same_rows(part.log_determinant, whole.log_determinant, first, 5));
        }
    }
}

void check_moments(const CentralMoments& moments, const std::vector<double>& values) {
    long double sum = 0, squares = 0;
    for (double x : values) sum += x;
    const long double mean = sum / static_cast<long double>(values.size());
    for (double x : values) squares += (x - mean) * (x - mean);
    CHECK(moments.count == static_cast<double>(values.size()));
    CHECK_CLOSE(moments.mean, static_cast<double>(mean), 1e-13 * (1 + std::fabs(static_cast<double>(mean))));
    CHECK_CLOSE(moments.m2, static_cast<double>(squares), 1e-11 * static_cast<double>(squares) + 1e-20);
}

// The reduced quantities are those of the samples.
void reductions_match_samples() {
    for (const auto& make : {ensemble, pair}) {
        const GramEnsemble of = make(7, 2500, 3);
        const Table table(of);
        const std::size_t m = of.inputs, entries = triangle_size(m);
        std::vector<bool> lost(2500);
        for (std::size_t layer = 0; layer < 5; ++layer) {
            for (std::size_t i = 0; i < m; ++i)
                for (std::size_t j = 0; j <= i; ++j) {
                    std::vector<double> values, logs;
                    for (std::size_t k = 0; k < 2500; ++k) {
                        const double* const matrix = table.gram.data() + (k * 5 + layer) * m * m;
                        CHECK(matrix[i * m + j] == matrix[j * m + i]);
                        values.push_back(matrix[i * m + j]);
                        if (i == j && matrix[i * m + i] > 0) logs.push_back(std::log(matrix[i * m + i]));
                    }
                    check_moments(table.moments.gram[layer * entries + triangle_index(i, j)], values);
                    if (i == j) check_moments(table.moments.log_norm2[layer * m + i], logs);
                }
            std::vector<double> determinants, ranks;
            std::uint64_t rank_lost = 0;
            for (std::size_t k = 0; k < 2500; ++k) {
                const bool full = table.rank[k * 5 + layer] == static_cast<int>(m);
                lost[k] = lost[k] || !full;
                rank_lost += lost[k];
                CHECK(std::isfinite(table.log_determinant[k * 5 + layer]) == full);
                if (full) determinants.push_back(table.log_determinant[k * 5 + layer]);
                double trace = 0, squares = 0;
                const double* const matrix = table.gram.data() + (k * 5 + layer) * m * m;
                for (std::size_t i = 0; i < m; ++i) {
                    trace += matrix[i * m + i];
                    for (std::size_t j = 0; j < m; ++j) squares += matrix[i * m + j] * matrix[i * m + j];
                }
                if (trace > 0) ranks.push_back(trace * trace / squares);
            }
            check_moments(table.moments.log_determinant[layer], determinants);
            check_moments(table.moments.effective_rank[layer], ranks);
            CHECK(table.moments.rank_lost[layer] == rank_lost);
        }
        CHECK(table.moments.rank_lost[4] > 0);
    }
}

// Pairs that are alive have the determinant of the angle kernel; ln det = X + ln A + ln B.
void pairs_follow_the_angle_kernel() {
    const Table table(pair(0, 2000, 2));
    AngleEnsemble of;
    of.theta0 = 0.8;
    of.widths = {6, 9, 30, 4};
    of.seed = 42;
    of.samples = 2000;
    of.threads = 2;
    of.angle_step = cpu_paths[0].angle_step;
    std::vector<double> log_sin2(10000), log_norm2(10000);
    std::vector<std::uint8_t> status(2000);
    AngleMoments moments;
    CHECK(simulate_angles(of, moments, {log_sin2.data(), log_norm2.data(), status.data()}, go_on));
    int dead = 0, collapsed = 0;
    for (std::size_t i = 0; i < 10000; ++i) {
        const double* const matrix = table.gram.data() + 4 * i;
        CHECK(table.rank[i] == 2 - !std::isfinite(log_sin2[i]) - (matrix[0] == 0 && matrix[3] == 0));
        if (std::isfinite(log_sin2[i])) {
            CHECK_CLOSE(matrix[0], 4 * std::exp(log_norm2[i]), 1e-12 * matrix[0]);
            CHECK_CLOSE(table.log_determinant[i], log_sin2[i] + std::log(matrix[0]) + std::log(matrix[3]), 1e-12);
            const double sin2 = 1 - matrix[1] * matrix[1] / (matrix[0] * matrix[3]);
            CHECK_CLOSE(sin2, std::exp(log_sin2[i]), 1e-13);
        } else if (std::isnan(log_sin2[i])) {
            dead += matrix[0] > 0 || matrix[3] > 0;
            CHECK(matrix[1] == 0 && (matrix[0] == 0 || matrix[3] == 0));
        } else {
            ++collapsed;
            CHECK_CLOSE(matrix[1] * matrix[1], matrix[0] * matrix[3], 1e-6 * matrix[0] * matrix[3]);
        }
    }
    CHECK(dead > 20 && collapsed > 20);
}

// Pairs that collapsed or died go on: the squared norm of what is left is multiplied by (2/n) chi^2_K, whose mean is 1 and
// whose variance is 5/n.
void lost_pairs_go_on() {
    GramEnsemble of = pair(0, 20000, 2);
    of.widths = {4, 40};
    const Table table(of);
    double sum = 0;
    int lost = 0;
    for (std::size_t k = 0; k < of.samples; ++k) {
        const double* const before = table.gram.data() + (3 * k + 1) * 4;
        const double* const after = before + 4;
        if (table.rank[3 * k + 1] != 1) continue;
        CHECK(table.rank[3 * k + 2] == 1);
        const std::size_t alive = before[0] > 0 ? 0 : 3;
        sum += after[alive] / before[alive];
        ++lost;
    }
    CHECK(lost > 2000);
    CHECK_CLOSE(sum / lost, 1.0, 5 * std::sqrt(5.0 / 40 / lost));
    CHECK(sum / lost != 1.0);
}

// Bits recorded once, the same for every compiler, processor and instruction set. They change only with the stream of
// random numbers or the arithmetic, and then in a minor version.
void machines_do_not_matter() {
    constexpr std::uint64_t expected[activation_count] = {
        0x3015debc2bf0679aULL, 0x87daa2932f5c4804ULL, 0x45a044a66aaa195aULL, 0xf95e13e71124fe9eULL, 0x38333ae235373c32ULL,
        0xe16336f782734da5ULL, 0xa25f23c19d677c71ULL, 0xa23721134640939eULL, 0xc1f481bf372bf371ULL, 0xdcee720516ec9689ULL,
        0x04907069f2bbde09ULL};
    for (int kind = 0; kind < activation_count; ++kind) {
        GramEnsemble of = ensemble(0, 300, 2);
        of.widths = {6, 100, 9, 30};
        of.activation = static_cast<Activation>(kind);
        of.slope = 0.3;
        of.bias_variance = kind % 2 * 0.1;
        const Table table(of);
        CHECK(check::fingerprint(table.gram) == expected[kind]);
    }
}

// A stopped run returns soon even inside one huge layer, and says that it did not complete.
void stops() {
    for (std::uint32_t width : {16u, 2147483647u}) {
        GramEnsemble of = ensemble(0, 1ULL << 40, 2);
        of.widths = {width};
        GramMoments moments;
        CHECK(check::is_stopped_by_third_call(
            [&](const Watcher& watcher) { return simulate_gram(of, moments, {}, watcher); }));
    }
}

}  // namespace

int main() {
    threads_do_not_matter();
    splits_do_not_matter();
    reductions_match_samples();
    pairs_follow_the_angle_kernel();
    lost_pairs_go_on();
    machines_do_not_matter();
    stops();
    return check::report();
}
