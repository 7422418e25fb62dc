// A value that many threads read and one changes as a whole: a policy set, a list of keys.
//
// load() neither locks, loops nor waits: it announces itself, copies the pointer, and takes the announcement back.
// store() puts the new value in place at once, then waits until nobody is still copying the old pointer (nanoseconds),
// and lets go of its own hold on it. Readers are announced in one of two phases, so that those who come later cannot
// keep a writer waiting.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace redoubt {

template <class T>
class Snapshot {
 public:
  explicit Snapshot(std::shared_ptr<const T> first) : current_(new Holder{std::move(first)}) {}
  ~Snapshot() { delete current_.load(); }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  std::shared_ptr<const T> load() const noexcept {
    Announced& own = announced_[std::hash<std::thread::id>{}(std::this_thread::get_id()) * kOdd >> 60];
    std::atomic<uint32_t>& readers = own.readers[phase_.load() & 1];
    readers.fetch_add(1);
    std::shared_ptr<const T> value = current_.load()->value;
    readers.fetch_sub(1);
    return value;
  }

  void store(std::shared_ptr<const T> next) {
    const std::lock_guard one_writer(writing_);
    const std::unique_ptr<const Holder> old(current_.exchange(new Holder{std::move(next)}));
    // Whoever may hold `old` announced itself before the exchange, in either phase: wait for both, each after it was
    // left, so that no newcomer joins it.
    for (int i = 0; i < 2; ++i) {
      const uint32_t left = phase_.fetch_add(1) & 1;
      for (const Announced& shard : announced_) {
        while (shard.readers[left].load() != 0) std::this_thread::yield();
      }
    }
  }

 private:
  struct Holder {
    std::shared_ptr<const T> value;
  };
  // Threads are spread over a few lines of cache, so that they do not take one from each other at every load.
  struct alignas(64) Announced {
    std::array<std::atomic<uint32_t>, 2> readers{};
  };
  static constexpr size_t kOdd = 0x9E3779B97F4A7C15u;

  std::atomic<const Holder*> current_;
  std::atomic<uint32_t> phase_{0};
  mutable std::array<Announced, 16> announced_{};
  std::mutex writing_;
};

}  // namespace redoubt
