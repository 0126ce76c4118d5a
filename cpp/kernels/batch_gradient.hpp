// Gradients of the loss of eight networks over any number of samples, by backpropagation.
#pragma once

#include <cstdint>
#include <vector>

#include "layer_products.hpp"
#include "training_loss.hpp"

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
        const std::size_t features = layers_.front().size.inputs;
        i64 good = ~i64{};
        std::uint32_t k = 0;
        for (; k + sample_tile <= count; k += sample_tile)
            good &= add_tile<sample_tile>(parameters, x + k * features, y + k, gradients);
        for (; k < count; ++k) good &= add_tile<1>(parameters, x + k * features, y + k, gradients);
        return good;
    }

  private:
    struct Layer {
        LayerSize size;
        std::size_t offset;  // of its parameters
        std::vector<EightLanes> values, slopes;  // (sample, unit); later the loss's derivatives by z in place of slopes
    };

    template <int samples>
    i64 add_tile(const EightLanes* parameters, const EightLanes* x, const EightLanes* y, EightLanes* gradients) {
        const EightLanes* below = x;
        for (Layer& layer : layers_) {
            forward_products<samples>(layer.size, parameters + layer.offset, below, layer.values.data());
            if (&layer != &layers_.back()) activate(layer, samples);
            below = layer.values.data();
        }
        i64 good = ~i64{};
        Layer& readout = layers_.back();
        for (int s = 0; s < samples; ++s) {
            const f64 f = readout.values[s].get();
            good &= is_less_equal(magnitude(f), largest_output);
            readout.slopes[s].set(loss_derivative(loss_, f, y[s].get()));
        }
        for (std::size_t l = layers_.size(); l-- > 0;) {
            const Layer& layer = layers_[l];
            const EightLanes* inputs = l == 0 ? x : layers_[l - 1].values.data();
            add_gradients<samples>(layer.size, layer.slopes.data(), inputs, gradients + layer.offset);
            if (l == 0) break;
            EightLanes* slopes = layers_[l - 1].slopes.data();
            backward_products<samples>(layer.size, parameters + layer.offset, layer.slopes.data(), slopes, slopes);
        }
        return good;
    }

    void activate(Layer& layer, std::size_t samples) const {
        for (std::size_t k = 0; k < samples * layer.size.units; ++k) {
            const f64 z = layer.values[k].get();
            layer.values[k].set(phi_.value(z));
            layer.slopes[k].set(phi_.derivative(z));
        }
    }

    const Phi phi_;
    const TrainingLoss loss_;
    std::vector<Layer> layers_;
};

}  // namespace wideangle::WIDEANGLE_PATH
