// Gradients of the loss of eight networks over any number of samples, by backpropagation.
#pragma once

#include <cstdint>
#include <vector>

#include "layer_products.hpp"
#include "training_loss.hpp"
#include "unit_slopes.hpp"

namespace wideangle::WIDEANGLE_PATH {

template <class Phi>
class BatchGradient {
  public:
    BatchGradient(const TrainedNetwork& network, Phi phi) : phi_(phi), loss_(network.loss) {
        std::size_t offset = 0;
        for (std::size_t l = 1; l < network.sizes.size(); ++l) {
            const LayerSize size{network.sizes[l - 1], network.sizes[l]};
            layers_.push_back({size, offset, std::vector<EightLanes>(sample_tile * size.units),
                               std::vector<EightLanes>(sample_tile * size.units)});
            offset += (size.inputs + 1) * size.units;
        }
    }

    // Adds the gradients of the sum over `count` samples, x (sample, feature) and y (sample). Returns where all outputs
    // are of a size that can be.
    i64 add(const EightLanes* parameters, const EightLanes* x, const EightLanes* y, std::uint32_t count,
            EightLanes* gradients) {
        i64 good;
        for (int part = 0; part < eight_parts; ++part)
            set_part(good, part, add_part(part, parameters, x, y, count, gradients));
        return good;
    }

  private:
    struct Layer {
        LayerSize size;
        std::size_t offset;  // of its parameters
        std::vector<EightLanes> values, slopes;  // (sample, unit); later the loss's derivatives by z in place of slopes
    };

    signed_of<r64> add_part(int part, const EightLanes* parameters, const EightLanes* x, const EightLanes* y,
                            std::uint32_t count, EightLanes* gradients) {
        const std::size_t features = layers_.front().size.inputs;
        auto good = ~signed_of<r64>{};
        std::uint32_t k = 0;
        for (; k + sample_tile <= count; k += sample_tile)
            good &= add_tile<sample_tile>(part, parameters, x + k * features, y + k, gradients);
        if (k + 2 <= count) {
            good &= add_tile<2>(part, parameters, x + k * features, y + k, gradients);
            k += 2;
        }
        if (k < count) good &= add_tile<1>(part, parameters, x + k * features, y + k, gradients);
        return good;
    }

    template <int samples>
    signed_of<r64> add_tile(int part, const EightLanes* parameters, const EightLanes* x, const EightLanes* y,
                            EightLanes* gradients) {
        const EightLanes* below = x;
        for (Layer& layer : layers_) {
            forward_products<samples>(part, layer.size, parameters + layer.offset, below, layer.values.data());
            if (&layer != &layers_.back()) activate(part, layer, samples);
            below = layer.values.data();
        }
        auto good = ~signed_of<r64>{};
        Layer& readout = layers_.back();
        for (int s = 0; s < samples; ++s) {
            const r64 f = readout.values[s].get(part);
            good &= is_less_equal(magnitude(f), largest_output);
            readout.slopes[s].set(part, loss_derivative(loss_, f, y[s].get(part)));
        }
        for (std::size_t l = layers_.size(); l-- > 0;) {
            const Layer& layer = layers_[l];
            const EightLanes* inputs = l == 0 ? x : layers_[l - 1].values.data();
            add_gradients<samples>(part, layer.size, layer.slopes.data(), inputs, gradients + layer.offset);
            if (l == 0) break;
            EightLanes* slopes = layers_[l - 1].slopes.data();
            backward_products<samples>(part, layer.size, parameters + layer.offset, layer.slopes.data(), slopes,
                                       slopes);
        }
        return good;
    }

    void activate(int part, Layer& layer, std::size_t samples) const {
        const auto take = [&]<class V>(std::size_t k, V z) __attribute__((always_inline)) {
            const V h = phi_.value(z);
            set_units(part, &layer.values[k], h);
            set_units(part, &layer.slopes[k], slope_at(phi_, z, h));
        };
        const std::size_t count = samples * layer.size.units;
        std::size_t k = 0;
        for (; k + units_in<Units<Phi>> <= count; k += units_in<Units<Phi>>)
            take(k, get_units<Units<Phi>>(part, &layer.values[k]));
        for (; k < count; ++k) take(k, get_units<r64>(part, &layer.values[k]));
    }

    const Phi phi_;
    const TrainingLoss loss_;
    std::vector<Layer> layers_;
};

}  // namespace wideangle::WIDEANGLE_PATH
