#include "network_ensemble.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

namespace wideangle {

DenseLayer dense_layer_of(const NetworkShape& shape, std::uint64_t seed, std::uint64_t network, std::uint32_t layer) {
    const std::size_t depth = shape.widths.size();
    const std::uint32_t fan_in = layer == 1 ? shape.input_dim : shape.widths[layer - 2];
    const std::uint32_t fan_out = layer > depth ? shape.outputs : shape.widths[layer - 1];
    return {seed, network, layer, fan_in, fan_out, static_cast<float>(shape.weight_variance / fan_in),
            static_cast<float>(shape.bias_variance)};
}

namespace {

// Values of one layer with their powers of two, room for the largest.
class Packed {
  public:
    Packed(std::size_t units, std::uint32_t inputs)
        : values_(packed_size(units, inputs)), exponents_(padded(inputs, input_block)) {}
    PackedValues view() { return {values_.data(), exponents_.data()}; }
    std::vector<int>& exponents() { return exponents_; }

  private:
    std::vector<float> values_;
    std::vector<int> exponents_;
};

// One thread's buffers and the sweep of one network after another through them.
class Sweep {
  public:
    Sweep(const NetworkEnsemble& ensemble, const NetworkResults& results)
        : ensemble_(ensemble),
          shape_(ensemble.shape),
          results_(results),
          kernels_(*ensemble.kernels),
          depth_(static_cast<std::uint32_t>(shape_.widths.size())),
          inputs_(ensemble.inputs),
          columns_(ensemble.tangent == nullptr ? inputs_ : 2 * inputs_),
          largest_(std::max({shape_.input_dim, shape_.outputs,
                             *std::max_element(shape_.widths.begin(), shape_.widths.end())})),
          carries_scale_(is_homogeneous(shape_.activation) && shape_.bias_variance == 0),
          start_(shape_.input_dim, columns_),
          packed_(largest_, columns_),
          start_shift_(columns_),
          shift_(columns_),
          values_(padded(largest_, row_lanes) * columns_),
          gram_(static_cast<std::size_t>(inputs_) * inputs_) {
        const std::size_t stride = padded(shape_.input_dim, row_lanes);
        for (std::uint32_t column = 0; column < columns_; ++column) {
            const double* from = column < inputs_ ? ensemble.x : ensemble.tangent;
            std::copy_n(from + static_cast<std::size_t>(column % inputs_) * shape_.input_dim, shape_.input_dim,
                        values_.data() + column * stride);
        }
        kernels_.pack(shape_.input_dim, columns_, values_.data(), start_.view());
        take_scale(start_, start_shift_);
        if (ensemble.tangent != nullptr) {
            start_log2_.resize(inputs_);
            for (std::uint32_t input = 0; input < inputs_; ++input)
                start_log2_[input] = log_norm2(values_.data() + (inputs_ + input) * stride, stride, 0);
        }
        if (needs_gram()) {
            grams_.assign((depth_ + 1) * gram_.size(), 0);
            kernels_.gram(shape_.input_dim, inputs_, values_.data(), gram_.data());
            std::fill(shift_.begin(), shift_.end(), 0);
            keep_gram(0, shape_.input_dim);
        }
        if (runs_back() || results.log_tangent2 != nullptr)
            for (std::uint32_t width : shape_.widths) slopes_.emplace_back(padded(width, row_lanes) * inputs_);
    }

    void run(std::uint64_t index, const std::atomic<bool>& stop) {
        shift_ = start_shift_;
        if (results_.log_tangent2 != nullptr)
            std::copy_n(start_log2_.begin(), inputs_, results_.log_tangent2 + index * (depth_ + 2) * inputs_);
        PackedValues x = start_.view();
        for (std::uint32_t layer = 1; layer <= depth_; ++layer) {
            const DenseLayer at = layer_of(index, layer);
            kernels_.forward(at, x, columns_, inputs_, values_.data(), stop);
            if (stop.load(std::memory_order_relaxed)) return;
            double* slopes = slopes_.empty() ? nullptr : slopes_[layer - 1].data();
            kernels_.activate(shape_.activation, shape_.slope, at.fan_out, inputs_, values_.data(), slopes);
            if (columns_ > inputs_) advance_tangents(index, layer, at.fan_out, slopes);
            if (needs_gram()) {
                kernels_.gram(at.fan_out, inputs_, values_.data(), gram_.data());
                keep_gram(layer, at.fan_out);
            }
            if (!results_.layers.empty()) write_layer(index, layer, at.fan_out);
            x = packed_.view();
            kernels_.pack(at.fan_out, columns_, values_.data(), x);
            take_scale(packed_, shift_);
        }
        kernels_.forward(layer_of(index, depth_ + 1), x, columns_, inputs_, values_.data(), stop);
        if (results_.outputs != nullptr) write_outputs(index);
        if (columns_ > inputs_) advance_tangents(index, depth_ + 1, shape_.outputs, nullptr);
        if (results_.gram != nullptr) std::copy(grams_.begin(), grams_.end(), results_.gram + index * grams_.size());
        if (runs_back()) run_back(index, stop);
    }

  private:
    bool runs_back() const { return results_.log_gradient2 != nullptr || results_.tangent_kernel != nullptr; }
    bool needs_gram() const { return results_.gram != nullptr || results_.tangent_kernel != nullptr; }

    DenseLayer layer_of(std::uint64_t index, std::uint32_t layer) const {
        return dense_layer_of(shape_, ensemble_.seed, ensemble_.first_network + index, layer);
    }

    // Takes the powers of two out of the sweep where it is linear in them: of tangents, and of everything if the
    // activation is homogeneous and there are no biases.
    void take_scale(Packed& values, std::vector<std::int64_t>& shift) const {
        for (std::size_t column = carries_scale_ ? 0 : inputs_; column < columns_; ++column) {
            shift[column] += values.exponents()[column];
            values.exponents()[column] = 0;
        }
    }

    static double log_norm2(const double* values, std::size_t count, std::int64_t shift) {
        double norm2 = 0;
        for (std::size_t i = 0; i < count; ++i) norm2 += values[i] * values[i];
        return std::log(norm2) + 2 * 0.69314718055994530942 * static_cast<double>(shift);
    }

    // Tangents are multiplied with phi' where values go through phi.
    void advance_tangents(std::uint64_t index, std::uint32_t layer, std::uint32_t units, const double* slopes) {
        const std::size_t stride = padded(units, row_lanes);
        double* to = results_.log_tangent2 + (index * (depth_ + 2) + layer) * inputs_;
        for (std::uint32_t input = 0; input < inputs_; ++input) {
            double* tangent = values_.data() + (inputs_ + input) * stride;
            if (slopes != nullptr)
                for (std::size_t unit = 0; unit < stride; ++unit) tangent[unit] *= slopes[input * stride + unit];
            to[input] = log_norm2(tangent, units, shift_[inputs_ + input]);
        }
    }

    static double shifted(double value, std::int64_t shift) {
        return std::ldexp(value, static_cast<int>(std::clamp<std::int64_t>(shift, -100000, 100000)));
    }

    void write_outputs(std::uint64_t index) const {
        const std::size_t stride = padded(shape_.outputs, row_lanes);
        double* to = results_.outputs + index * inputs_ * shape_.outputs;
        for (std::uint32_t input = 0; input < inputs_; ++input)
            for (std::uint32_t output = 0; output < shape_.outputs; ++output)
                *to++ = shifted(values_[input * stride + output], shift_[input]);
    }

    // Turns the sums in gram_ into means over the units, at the inputs' true scales.
    void keep_gram(std::uint32_t layer, std::uint32_t units) {
        double* to = grams_.data() + layer * gram_.size();
        for (std::uint32_t i = 0; i < inputs_; ++i)
            for (std::uint32_t j = 0; j < inputs_; ++j)
                *to++ = shifted(gram_[static_cast<std::size_t>(i) * inputs_ + j] / units, shift_[i] + shift_[j]);
    }

    void write_layer(std::uint64_t index, std::uint32_t layer, std::uint32_t units) const {
        const std::size_t stride = padded(units, row_lanes);
        float* to = results_.layers[layer - 1] + index * inputs_ * units;
        for (std::uint32_t input = 0; input < inputs_; ++input)
            for (std::uint32_t unit = 0; unit < units; ++unit)
                *to++ = static_cast<float>(shifted(values_[input * stride + unit], shift_[input]));
    }

    // The gradient of the first output, from the readout down to the input, scaled as it goes.
    void run_back(std::uint64_t index, const std::atomic<bool>& stop) {
        const std::size_t out_stride = padded(shape_.outputs, row_lanes);
        std::fill_n(values_.begin(), out_stride * inputs_, 0.0);
        for (std::uint32_t input = 0; input < inputs_; ++input) values_[input * out_stride] = 1;
        std::fill_n(shift_.begin(), inputs_, 0);
        keep_gradient(index, depth_ + 1, shape_.outputs);
        for (std::uint32_t layer = depth_ + 1; layer >= 1; --layer) {
            const DenseLayer at = layer_of(index, layer);
            kernels_.pack(at.fan_out, inputs_, values_.data(), packed_.view());
            for (std::uint32_t input = 0; input < inputs_; ++input) shift_[input] += packed_.exponents()[input];
            std::fill(packed_.exponents().begin(), packed_.exponents().end(), 0);
            kernels_.backward(at, packed_.view(), inputs_, values_.data(), stop);
            if (stop.load(std::memory_order_relaxed)) return;
            if (layer > 1) {
                const std::vector<double>& slopes = slopes_[layer - 2];
                const std::size_t size = padded(at.fan_in, row_lanes) * inputs_;
                for (std::size_t i = 0; i < size; ++i) values_[i] *= slopes[i];
            }
            keep_gradient(index, layer - 1, at.fan_in);
        }
    }

    // values_ holds the gradient with respect to z^layer, or to the input if layer is 0.
    void keep_gradient(std::uint64_t index, std::uint32_t layer, std::uint32_t units) {
        const std::size_t stride = padded(units, row_lanes);
        if (results_.log_gradient2 != nullptr) {
            double* to = results_.log_gradient2 + (index * (depth_ + 2) + layer) * inputs_;
            for (std::uint32_t input = 0; input < inputs_; ++input)
                to[input] = log_norm2(values_.data() + input * stride, units, shift_[input]);
        }
        if (results_.tangent_kernel == nullptr || layer == 0) return;
        double* to = results_.tangent_kernel + index * gram_.size();
        if (layer > depth_) std::fill_n(to, gram_.size(), 0.0);
        const double* below = grams_.data() + (layer - 1) * gram_.size();
        kernels_.gram(units, inputs_, values_.data(), gram_.data());
        for (std::uint32_t i = 0; i < inputs_; ++i) {
            for (std::uint32_t j = 0; j < inputs_; ++j) {
                const std::size_t at = static_cast<std::size_t>(i) * inputs_ + j;
                to[at] += shifted(gram_[at], shift_[i] + shift_[j]) *
                          (shape_.bias_variance + shape_.weight_variance * below[at]);
            }
        }
    }

    const NetworkEnsemble& ensemble_;
    const NetworkShape& shape_;
    const NetworkResults& results_;
    const DenseKernels& kernels_;
    const std::uint32_t depth_, inputs_;
    const std::uint32_t columns_;  // inputs and, if asked for, their tangents
    const std::uint32_t largest_;
    // Without biases a homogeneous activation passes a scale on, which is then carried beside the values: any depth.
    const bool carries_scale_;
    Packed start_, packed_;
    std::vector<std::int64_t> start_shift_, shift_;
    std::vector<double> values_, gram_, start_log2_;
    std::vector<double> grams_;  // (layer, input, input)
    std::vector<std::vector<double>> slopes_;
};

// About a millisecond of work.
std::uint64_t networks_per_block(const NetworkShape& shape) {
    double weights = 0;
    for (std::uint32_t layer = 1; layer <= shape.widths.size() + 1; ++layer) {
        const DenseLayer at = dense_layer_of(shape, 0, 0, layer);
        weights += static_cast<double>(at.fan_in) * at.fan_out;
    }
    return static_cast<std::uint64_t>(std::clamp(1e6 / weights, 1.0, 1024.0));
}

}  // namespace

bool simulate_networks(const NetworkEnsemble& ensemble, const NetworkResults& results, const Watcher& watcher) {
    const std::uint64_t size = networks_per_block(ensemble.shape);
    std::vector<std::unique_ptr<Sweep>> sweeps(static_cast<std::size_t>(ensemble.threads));
    struct Nothing {};
    OrderedBlocks<Nothing> blocks(
        (ensemble.networks + size - 1) / size, ensemble.threads,
        [&](std::uint64_t block, const BlockContext& context) {
            auto& sweep = sweeps[static_cast<std::size_t>(context.thread)];
            if (!sweep) sweep = std::make_unique<Sweep>(ensemble, results);
            const std::uint64_t end = std::min(ensemble.networks, (block + 1) * size);
            for (std::uint64_t index = block * size; index < end; ++index) {
                sweep->run(index, context.stop);
                if (context.stop.load(std::memory_order_relaxed)) break;
                context.done.fetch_add(1);
            }
            return Nothing{};
        },
        [](Nothing&&) {});
    return blocks.finish(watcher);
}

}  // namespace wideangle
