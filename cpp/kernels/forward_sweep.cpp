// A group of panels goes through all layers of a network before the next group begins, so that activations stay in the
// cache and memory does not grow with the number of inputs; with overlaps, all inputs are one group. Groups and networks
// are shared out among threads. Where there are too few of them, the threads share the units of each layer instead.
#include "forward_sweep.hpp"

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <optional>

namespace wideangle {

namespace {

constexpr std::size_t line_bytes = 64;
// Seconds, from 100 GFlop/s and 20 GB/s: shorter sweeps are not worth a thread, or a look at Ctrl-C.
constexpr double worth_threads = 3e-4, worth_watching = 2e-2;
// Products a layer and thread from which its units are worth sharing out: some ten times a barrier, and so many that one
// thread does not use up the memory's bandwidth, unless layers are very large.
constexpr double worth_sharing = 2e6;
// While a matrix of at most so many bytes is read, the next one is fetched; while a larger one is, its own next units are.
constexpr std::size_t small_bytes = 128 * 1024, units_ahead = 8;

template <class T>
class Buffer {
  public:
    explicit Buffer(std::size_t size)
        : data_(static_cast<T*>(std::aligned_alloc(line_bytes, round_up(size * sizeof(T), line_bytes)))), size_(size) {
        if (size > 0 && !data_) throw std::bad_alloc();
    }
    Buffer& zeroed() {
        std::fill_n(data_.get(), size_, T{});
        return *this;
    }
    T* get() const { return data_.get(); }

  private:
    struct Free {
        void operator()(T* data) const { std::free(data); }
    };
    std::unique_ptr<T, Free> data_;
    std::size_t size_;
};

template <class T>
class Run {
  public:
    Run(const ForwardSweep<T>& sweep, const ForwardStatistics& statistics) : sweep_(sweep), statistics_(statistics) {
        for (std::size_t first = 0; first < sweep.n_inputs; first += panel_inputs<T>)
            layouts_.emplace_back(std::min(panel_inputs<T>, sweep.n_inputs - first), sweep.kernels->vector_inputs,
                                  sweep.kernels->most_vectors);
        for (const ForwardLayer<T>& layer : sweep.layers) widest_ = std::max({widest_, layer.inputs, layer.units});
        group_panels_ = statistics.overlaps != nullptr ? layouts_.size() : 1;
        groups_ = (layouts_.size() + group_panels_ - 1) / group_panels_;
        items_ = sweep.networks * groups_;
        plan();
    }

    bool finish(const Watcher& watcher) {
        // What does not change from network to network is packed once.
        if (sweep_.networks > 1) {
            packed_.emplace(packed_offset(layouts_.size())).zeroed();
            for (std::size_t panel = 0; panel < layouts_.size(); ++panel) pack(panel, packed_->get() + packed_offset(panel));
        }
        for (int i = 0; i < (shared_ ? 1 : threads_); ++i) scratch_.emplace_back(*this);
        for (int i = 0; i < threads_; ++i) sums_.emplace_back(*this);
        std::atomic<bool> stop{false};
        if (threads_ == 1 && seconds_ < worth_watching) {
            run_items(0, items_, {*this, 0, 1, stop});
            copy_inputs();
            return true;
        }
        if (shared_) barrier_.emplace(threads_);
        const std::uint64_t chunk = std::max<std::size_t>(1, items_ / (static_cast<std::size_t>(threads_) * 16));
        const std::uint64_t blocks = shared_ ? static_cast<std::uint64_t>(threads_) : (items_ + chunk - 1) / chunk;
        OrderedBlocks<int> work(
            blocks, threads_,
            [&](std::uint64_t block, const BlockContext& context) {
                if (shared_)
                    run_items(0, items_, {*this, static_cast<int>(block), threads_, context.stop});
                else
                    run_items(block * chunk, std::min<std::uint64_t>(items_, (block + 1) * chunk),
                              {*this, context.thread, 1, context.stop});
                return 0;
            },
            [](int&&) {});
        if (!work.finish(watcher)) return false;
        copy_inputs();
        return true;
    }

  private:
    // Activations of a group in two layers, of which one is read and one written in turn; x comes in a third.
    struct Scratch {
        explicit Scratch(const Run& run)
            : x(run.packed_ ? 0 : run.group_size(run.sweep_.layers[0].inputs)),
              one(run.group_size(run.widest_)),
              two(run.group_size(run.widest_)) {
            x.zeroed();  // the room of inputs that are not there: any number would do, but none that is slow
        }
        Buffer<T> x, one, two;
    };

    // Sums over the units of one part, by layer and lane of the group.
    struct PartSums {
        explicit PartSums(const Run& run)
            : squares((run.sweep_.layers.size() + 1) * run.group_lanes()),
              positive((run.sweep_.layers.size() + 1) * run.group_lanes()) {}
        Buffer<double> squares;
        Buffer<LaneCount<T>> positive;
    };

    // One thread's share of an item: all of it, or some units of every layer.
    struct Part {
        Run& run;
        int thread, parts;
        const std::atomic<bool>& stop;

        bool first() const { return parts == 1 || thread == 0; }
        // Multiples of `multiple`. The work of one of `count` may be the same for all, or fall evenly to none.
        std::pair<std::size_t, std::size_t> share(std::size_t count, std::size_t multiple, bool falling = false) const {
            if (parts == 1) return {0, count};
            const auto at = [&](int part) {
                double fraction = static_cast<double>(part) / parts;
                if (falling) fraction = 1.0 - std::sqrt(1.0 - fraction);
                const auto even = static_cast<std::size_t>(static_cast<double>(count) * fraction);
                return part == parts ? count : even / multiple * multiple;
            };
            return {at(thread), at(thread + 1)};
        }
        void wait() const {
            if (parts > 1) run.barrier_->arrive_and_wait();
        }
    };

    void plan() {
        const auto networks = static_cast<double>(sweep_.networks), inputs = static_cast<double>(sweep_.n_inputs);
        double weights = 0, products = 0;
        for (const ForwardLayer<T>& layer : sweep_.layers) {
            const auto units = static_cast<double>(layer.units);
            weights += networks * units * static_cast<double>(layer.inputs);
            if (statistics_.overlaps != nullptr) products += networks * units * inputs * inputs;
        }
        products += weights * inputs;
        seconds_ = 2 * products / 1e11 + weights * sizeof(T) / 2e10;
        threads_ = seconds_ < worth_threads ? 1 : std::max(sweep_.threads, 1);
        const double steps = static_cast<double>(items_ * sweep_.layers.size()) * threads_;
        shared_ = threads_ > 1 && items_ < 4 * static_cast<std::size_t>(threads_) && products / steps > worth_sharing;
        if (!shared_) threads_ = static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(threads_), items_));
    }

    // Every panel takes the room of a full one.
    std::size_t panel_lanes() const { return layouts_[0].vectors() * layouts_[0].lanes(); }
    std::size_t group_lanes() const { return group_panels_ * panel_lanes(); }
    std::size_t panel_size(std::size_t width) const { return layouts_[0].size(width); }
    std::size_t group_size(std::size_t width) const { return group_panels_ * panel_size(width); }
    std::size_t packed_offset(std::size_t panel) const { return panel * panel_size(sweep_.layers[0].inputs); }

    void pack(std::size_t panel, T* to) const {
        const PanelLayout<T>& layout = layouts_[panel];
        const std::size_t width = sweep_.layers[0].inputs;
        for (std::size_t input = 0; input < layout.count; ++input) {
            const T* const from = sweep_.x + (panel * panel_inputs<T> + input) * width;
            T* at = to + layout.offset(input, width);
            for (std::size_t k = 0; k < width; k += cell_units<T>, at += layout.stride_of_input(input)) {
                T cell[cell_units<T>] = {};
                std::copy_n(from + k, std::min(cell_units<T>, width - k), cell);
                std::copy_n(cell, cell_units<T>, at);
            }
        }
    }

    void run_items(std::size_t begin, std::size_t end, const Part& part) {
        for (std::size_t item = begin; item < end; ++item) {
            if (!run_item(item, item + 1 < end, part)) {
                if (part.parts > 1) barrier_->arrive_and_drop();
                return;
            }
        }
    }

    // False if it was stopped.
    bool run_item(std::size_t item, bool more, const Part& part) {
        const std::size_t network = item / groups_, group = item % groups_;
        const std::size_t first_panel = group * group_panels_;
        const std::size_t panels = std::min(group_panels_, layouts_.size() - first_panel);
        const std::size_t layers = sweep_.layers.size();
        const Scratch& scratch = scratch_[shared_ ? 0 : static_cast<std::size_t>(part.thread)];
        const PartSums& sums = sums_[static_cast<std::size_t>(part.thread)];
        std::fill_n(sums.squares.get(), (layers + 1) * group_lanes(), 0.0);
        std::fill_n(sums.positive.get(), (layers + 1) * group_lanes(), LaneCount<T>{0});

        T* in = packed_ ? packed_->get() + packed_offset(first_panel) : scratch.x.get();
        T* out = scratch.one.get();
        const std::size_t width = sweep_.layers[0].inputs;
        if (!packed_) {
            const auto [begin, end] = part.share(panels, 1);
            for (std::size_t p = begin; p < end; ++p) pack(first_panel + p, in + packed_offset(p));
            part.wait();
        }
        if (network == 0) {  // the others get a copy
            const auto [begin, end] = part.share(width, tile_units);
            for (std::size_t p = 0; p < panels; ++p)
                sweep_.kernels->measure(in + p * panel_size(width), layouts_[first_panel + p], width, begin, end,
                                        sums_at(sums, 0, p));
            multiply(0, 0, in, width, part);
        }
        for (std::size_t l = 0; l < layers; ++l) {
            run_layer(network, l, first_panel, panels, in, out, more, part, sums);
            part.wait();
            if (part.stop.load(std::memory_order_relaxed)) return false;
            multiply(network, l + 1, out, sweep_.layers[l].units, part);
            in = out;
            out = in == scratch.one.get() ? scratch.two.get() : scratch.one.get();
        }
        part.wait();
        if (part.first()) write_statistics(network, first_panel, panels, part);
        part.wait();
        return !part.stop.load(std::memory_order_relaxed);
    }

    UnitSums<T> sums_at(const PartSums& sums, std::size_t layer, std::size_t panel) const {
        const std::size_t at = layer * group_lanes() + panel * panel_lanes();
        return {sums.squares.get() + at, sums.positive.get() + at};
    }

    void run_layer(std::size_t network, std::size_t l, std::size_t first_panel, std::size_t panels, const T* in, T* out,
                   bool more, const Part& part, const PartSums& sums) {
        const ForwardLayer<T>& layer = sweep_.layers[l];
        const auto [first, last] = part.share(layer.units, tile_units);
        const T* const weights = layer.weights + network * layer.units * layer.inputs;
        const T* const bias = layer.bias != nullptr ? layer.bias + network * layer.units : nullptr;
        for (std::size_t p = 0; p < panels; ++p) {
            const PanelLayout<T>& layout = layouts_[first_panel + p];
            T* const to = out + p * panel_size(layer.units);
            T* const kept = layer.kept == nullptr ? nullptr
                                                  : layer.kept + (network * sweep_.n_inputs +
                                                                  (first_panel + p) * panel_inputs<T>) * layer.units;
            if (kept != nullptr) prefetch_for_writing(kept, layout.count * layer.units * sizeof(T));
            sweep_.kernels->layer({weights, bias, layer.inputs, layer.units, first, last, layer.activation, layer.slope, layout,
                                   in + p * panel_size(layer.inputs), to, sums_at(sums, l + 1, p),
                                   p == 0 ? weights_ahead(network, l, more) : 0, is_large(layer), part.stop});
            if (kept != nullptr) sweep_.kernels->unpack(to, layout, layer.units, first, last, kept);
        }
    }

    // Results go to memory that no cache holds yet; more than this would drive out what the layer works on.
    static void prefetch_for_writing(const T* to, std::size_t bytes) {
        for (std::size_t byte = 0; byte < std::min<std::size_t>(bytes, 16 * 1024); byte += line_bytes)
            __builtin_prefetch(reinterpret_cast<const char*>(to) + byte, 1);
    }

    static bool is_large(const ForwardLayer<T>& layer) { return layer.units * layer.inputs * sizeof(T) > small_bytes; }

    // Address of what to fetch while this matrix is read.
    std::uintptr_t weights_ahead(std::size_t network, std::size_t l, bool more) const {
        const auto address = [&](std::size_t of_network, const ForwardLayer<T>& layer) {
            return reinterpret_cast<std::uintptr_t>(layer.weights + of_network * layer.units * layer.inputs);
        };
        const ForwardLayer<T>& layer = sweep_.layers[l];
        if (is_large(layer)) return address(network, layer) + units_ahead * layer.inputs * sizeof(T);
        if (l + 1 < sweep_.layers.size()) return address(network, sweep_.layers[l + 1]);
        return more && groups_ == 1 ? address(network + 1, sweep_.layers[0]) : 0;
    }

    std::size_t row(std::size_t network, std::size_t layer) const { return network * (sweep_.layers.size() + 1) + layer; }

    void multiply(std::size_t network, std::size_t layer, const T* activations, std::size_t width, const Part& part) {
        if (statistics_.overlaps == nullptr) return;
        const std::size_t n = sweep_.n_inputs;
        const auto [begin, end] = part.share(n, gram_columns, true);
        sweep_.kernels->gram({activations, panel_size(width), layouts_.data(), layouts_.size(), width, begin, end,
                              statistics_.overlaps + row(network, layer) * n * n, n, part.stop});
    }

    void write_statistics(std::size_t network, std::size_t first_panel, std::size_t panels, const Part& part) {
        const std::size_t first = first_panel * panel_inputs<T>;
        const std::size_t count = std::min(panels * panel_inputs<T>, sweep_.n_inputs - first);
        for (std::size_t layer = network == 0 ? 0 : 1; layer <= sweep_.layers.size(); ++layer) {
            const double units = static_cast<double>(layer == 0 ? sweep_.layers[0].inputs : sweep_.layers[layer - 1].units);
            const std::size_t at = row(network, layer) * sweep_.n_inputs + first;
            for (std::size_t input = 0; input < count; ++input) {
                double squares = 0, positive = 0;
                for (int thread = part.thread; thread < part.thread + part.parts; ++thread) {
                    const PartSums& sums = sums_[static_cast<std::size_t>(thread)];
                    const std::size_t lane = layer * group_lanes() + input * cell_units<T>;
                    for (std::size_t unit = lane; unit < lane + cell_units<T>; ++unit) {
                        squares += sums.squares.get()[unit];
                        positive += static_cast<double>(sums.positive.get()[unit]);
                    }
                }
                statistics_.norms[at + input] = squares / units;
                statistics_.active[at + input] = positive / units;
            }
            // The sums have been read.
            if (statistics_.overlaps != nullptr)
                normalise(statistics_.overlaps + at * count, count,
                          sums_[static_cast<std::size_t>(part.thread)].squares.get() + layer * group_lanes());
        }
    }

    // Layer 0 is the same for every network.
    void copy_inputs() const {
        const std::size_t n = sweep_.n_inputs;
        for (std::size_t network = 1; network < sweep_.networks; ++network) {
            const std::size_t at = row(network, 0) * n;
            std::copy_n(statistics_.norms, n, statistics_.norms + at);
            std::copy_n(statistics_.active, n, statistics_.active + at);
            if (statistics_.overlaps != nullptr) std::copy_n(statistics_.overlaps, n * n, statistics_.overlaps + at * n);
        }
    }

    // From the lower triangle of the Gram matrix to cosines.
    static void normalise(double* gram, std::size_t n, double* inverse) {
        constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
        for (std::size_t i = 0; i < n; ++i) inverse[i] = 1.0 / std::sqrt(gram[i * n + i]);
        for (std::size_t i = 0; i < n; ++i) {
            double* const row = gram + i * n;
            for (std::size_t j = 0; j < i; ++j) {
                // In this order: the inverse of a tiny norm times that of another may overflow.
                const double cosine = row[j] * inverse[i] * inverse[j];
                row[j] = cosine > 1.0 ? 1.0 : cosine < -1.0 ? -1.0 : cosine;
            }
            // Zero, infinite and undefined norms have no direction.
            row[i] = inverse[i] > 0.0 && inverse[i] <= std::numeric_limits<double>::max() ? 1.0 : undefined;
        }
        constexpr std::size_t block = 8;
        for (std::size_t begin = 0; begin < n; begin += block)
            for (std::size_t i = begin; i < n; ++i)
                for (std::size_t j = begin; j < std::min(begin + block, i); ++j) gram[j * n + i] = gram[i * n + j];
    }

    const ForwardSweep<T>& sweep_;
    const ForwardStatistics& statistics_;
    std::vector<PanelLayout<T>> layouts_;
    std::size_t widest_ = 0, group_panels_ = 1, groups_ = 1, items_ = 1;
    double seconds_ = 0;
    int threads_ = 1;
    bool shared_ = false;  // the units of a layer, by all threads
    std::optional<Buffer<T>> packed_;
    std::vector<Scratch> scratch_;   // one a thread, or one for all
    std::vector<PartSums> sums_;     // one a thread
    std::optional<std::barrier<>> barrier_;
};

}  // namespace

template <class T>
bool forward(const ForwardSweep<T>& sweep, const ForwardStatistics& statistics, const Watcher& watcher) {
    return Run<T>(sweep, statistics).finish(watcher);
}

template bool forward(const ForwardSweep<float>&, const ForwardStatistics&, const Watcher&);
template bool forward(const ForwardSweep<double>&, const ForwardStatistics&, const Watcher&);

}  // namespace wideangle
