// Blocks of work on several threads, delivered in their own order whoever computed them, so that the rounding of what
// they add up to does not depend on the threads.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace wideangle {

// Called on the calling thread every 50 ms with the amount of work done; false stops the run.
using Watcher = std::function<bool(std::uint64_t done)>;

// What a block may ask and tell while it runs.
struct BlockContext {
    int thread;                         // 0, 1, ... below the number of threads
    const std::atomic<bool>& stop;      // a block that sees it set may return anything
    std::atomic<std::uint64_t>& done;   // add the work done, in the watcher's units
};

template <class Result>
class OrderedBlocks {
  public:
    using Work = std::function<Result(std::uint64_t block, const BlockContext&)>;
    using Deliver = std::function<void(Result&&)>;

    // Deliver is called under a lock, block after block. Nobody runs more than `reach` blocks ahead of a slow one, which
    // bounds the memory.
    OrderedBlocks(std::uint64_t blocks, int threads, Work work, Deliver deliver, std::uint64_t reach = 256)
        : blocks_(blocks),
          threads_(static_cast<int>(blocks < static_cast<std::uint64_t>(threads) ? blocks : threads)),
          reach_(reach),
          work_(std::move(work)),
          deliver_(std::move(deliver)) {}

    // False if the watcher stopped the run. Throws what work, deliver or the watcher threw.
    bool finish(const Watcher& watcher) {
        std::vector<std::thread> workers;
        bool completed = true;
        try {
            for (int i = 0; i < threads_; ++i) workers.emplace_back([this, i] { run(i); });
            completed = watch(watcher);
        } catch (...) {
            halt();
            for (std::thread& worker : workers) worker.join();
            throw;
        }
        for (std::thread& worker : workers) worker.join();
        if (failure_) std::rethrow_exception(failure_);
        return completed;
    }

  private:
    bool watch(const Watcher& watcher) {
        // The last call comes after the last block, however soon that was.
        for (bool ended = false; !ended;) {
            {
                std::unique_lock lock(mutex_);
                ended = changed_.wait_for(lock, std::chrono::milliseconds(50), [this] { return ended_ == threads_; });
            }
            if (!watcher(done_.load())) {
                halt();
                return false;
            }
        }
        return true;
    }

    void halt() {
        const std::lock_guard lock(mutex_);
        stop_.store(true);
        room_.notify_all();
    }

    void run(int thread) {
        try {
            const BlockContext context{thread, stop_, done_};
            while (!stop_.load()) {
                const std::uint64_t block = next_block_.fetch_add(1);
                if (block >= blocks_) break;
                Result result = work_(block, context);
                if (stop_.load()) break;
                deliver(block, std::move(result));
            }
        } catch (...) {
            const std::lock_guard lock(mutex_);
            if (!failure_) failure_ = std::current_exception();
            stop_.store(true);
            room_.notify_all();
        }
        const std::lock_guard lock(mutex_);
        ++ended_;
        changed_.notify_all();
    }

    void deliver(std::uint64_t block, Result result) {
        std::unique_lock lock(mutex_);
        room_.wait(lock, [&] { return stop_.load() || block < next_delivery_ + reach_; });
        waiting_.emplace(block, std::move(result));
        while (!waiting_.empty() && waiting_.begin()->first == next_delivery_) {
            deliver_(std::move(waiting_.begin()->second));
            waiting_.erase(waiting_.begin());
            ++next_delivery_;
            room_.notify_all();
        }
    }

    const std::uint64_t blocks_;
    const int threads_;
    const std::uint64_t reach_;
    const Work work_;
    const Deliver deliver_;

    std::atomic<std::uint64_t> next_block_{0};
    std::atomic<std::uint64_t> done_{0};
    std::atomic<bool> stop_{false};

    std::mutex mutex_;  // guards everything below
    std::condition_variable changed_, room_;
    std::uint64_t next_delivery_ = 0;
    std::map<std::uint64_t, Result> waiting_;
    std::exception_ptr failure_;
    int ended_ = 0;
};

}  // namespace wideangle
