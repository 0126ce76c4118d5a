// The samples that sixteen networks meet, and the labels they are told.
#pragma once

#include <cstdint>
#include <vector>

#include "normal.hpp"
#include "simd.hpp"
#include "threefry.hpp"
#include "training_step.hpp"

namespace wideangle::WIDEANGLE_PATH {

class VisitSource {
  public:
    VisitSource(const SampleVisits& visits, std::uint64_t first_network) : visits_(visits) {
        for (int lane = 0; lane < training_lanes; ++lane) {
            const std::uint64_t network = first_network + static_cast<std::uint64_t>(lane);
            network_low_[lane] = static_cast<std::uint32_t>(network);
            network_high_[lane] = static_cast<std::uint32_t>(network >> 32);
        }
        if (visits.order == SampleOrder::permuted)
            permutation_.resize(static_cast<std::size_t>(visits.samples) * training_lanes);
    }

    // (visit, lane)
    void draw(std::uint64_t first, std::uint32_t count, std::uint32_t* index, double* label) {
        for (std::uint32_t k = 0; k < count; ++k, index += training_lanes, label += training_lanes) {
            choose(first + k, index);
            for (int lane = 0; lane < training_lanes; ++lane) label[lane] = visits_.y[index[lane]];
            if (visits_.noise > 0) disturb(first + k, label);
        }
    }

  private:
    enum Purpose : std::uint32_t { choice = 10, permutation = 11, label_noise = 12 };

    Words4<u32> words(Purpose purpose, std::uint64_t quad) const {
        const auto low = [](std::uint64_t x) { return broadcast32(static_cast<std::uint32_t>(x)); };
        return threefry4x32(
            Words4<u32>{{load<u32>(network_low_), load<u32>(network_high_), low(quad), low(quad >> 32)}},
            Words4<u32>{{low(visits_.seed), low(visits_.seed >> 32), low(purpose), u32{}}});
    }

    static std::uint32_t below(std::uint32_t bound, std::uint32_t word) {
        return static_cast<std::uint32_t>(static_cast<std::uint64_t>(word) * bound >> 32);
    }

    void choose(std::uint64_t visit, std::uint32_t* index) {
        switch (visits_.order) {
            case SampleOrder::full: return fill(index, static_cast<std::uint32_t>(visit % visits_.samples));
            case SampleOrder::given: return fill(index, visits_.given[visit]);
            case SampleOrder::permuted:
                if (visit / visits_.samples != epoch_) permute(visit / visits_.samples);
                std::memcpy(index, permutation_.data() + visit % visits_.samples * training_lanes, sizeof network_low_);
                return;
            case SampleOrder::drawn:
                if (visit / 4 != choices_quad_) put(words(choice, choices_quad_ = visit / 4), choices_);
                for (int lane = 0; lane < training_lanes; ++lane)
                    index[lane] = below(visits_.samples, choices_[visit % 4][lane]);
        }
    }

    static void fill(std::uint32_t* index, std::uint32_t sample) {
        for (int lane = 0; lane < training_lanes; ++lane) index[lane] = sample;
    }

    static void put(const Words4<u32>& from, std::uint32_t (*to)[training_lanes]) {
        for (int word = 0; word < 4; ++word) store(to[word], from.word[word]);
    }

    // Every order is equally likely, up to the 2^-32 of a word (R. Durstenfeld, Communications of the ACM 7, 1964).
    void permute(std::uint64_t epoch) {
        const std::uint32_t n = visits_.samples;
        const std::uint64_t quads = (static_cast<std::uint64_t>(n) + 3) / 4;
        for (std::uint32_t i = 0; i < n; ++i) fill(permutation_.data() + std::size_t{i} * training_lanes, i);
        std::uint32_t drawn[4][training_lanes];
        for (std::uint32_t k = 0; k + 1 < n; ++k) {
            if (k % 4 == 0) put(words(permutation, epoch * quads + k / 4), drawn);
            for (int lane = 0; lane < training_lanes; ++lane) {
                const std::uint32_t other = k + below(n - k, drawn[k % 4][lane]);
                std::swap(permutation_[std::size_t{k} * training_lanes + static_cast<std::size_t>(lane)],
                          permutation_[std::size_t{other} * training_lanes + static_cast<std::size_t>(lane)]);
            }
        }
        epoch_ = epoch;
    }

    void disturb(std::uint64_t visit, double* label) {
        if (visit / 4 != noise_quad_) {
            noise_quad_ = visit / 4;
            const Words4<u32> bits = words(label_noise, noise_quad_);
            if (visits_.flips) {
                for (int word = 0; word < 4; ++word)
                    for (int half = 0; half < 2; ++half)
                        store(noise_[word] + 8 * half, sign_of_flip(widen_bits(bits.word[word], half)));
            } else {
                const auto low = normal_pair32<RoundOnce>(bits.word[0], bits.word[1]);
                const auto high = normal_pair32<RoundOnce>(bits.word[2], bits.word[3]);
                const f32 normals[4] = {low.first, low.second, high.first, high.second};
                for (int word = 0; word < 4; ++word)
                    for (int half = 0; half < 2; ++half)
                        store(noise_[word] + 8 * half, visits_.noise * widen(normals[word], half));
            }
        }
        const double* noise = noise_[visit % 4];
        for (int lane = 0; lane < training_lanes; ++lane)
            label[lane] = visits_.flips ? label[lane] * noise[lane] : label[lane] + noise[lane];
    }

    f64 sign_of_flip(u64 word) const {
        const f64 uniform = (bits_as<f64>(word | 0x4330000000000000ULL) - 0x1p52) * 0x1p-32;
        return select(is_less(uniform, visits_.noise), broadcast64(-1.0), broadcast64(1.0));
    }

    const SampleVisits& visits_;
    alignas(64) std::uint32_t network_low_[training_lanes], network_high_[training_lanes];
    alignas(64) std::uint32_t choices_[4][training_lanes];
    alignas(64) double noise_[4][training_lanes];
    // What the words at hand were drawn for.
    std::uint64_t choices_quad_ = ~std::uint64_t{0}, noise_quad_ = choices_quad_, epoch_ = choices_quad_;
    std::vector<std::uint32_t> permutation_;  // (place, lane)
};

}  // namespace wideangle::WIDEANGLE_PATH
