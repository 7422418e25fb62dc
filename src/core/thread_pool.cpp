#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

#include "core/control_groups.h"

namespace redoubt {
namespace {

// A worker that is still in its chunk so long after the caller's last one, and twice as long as the caller's chunks
// took, has lost its core: longer than two chunks ever differ, shorter than the slice that a scheduler gives another
// process.
constexpr int64_t kLateNs = 1'500'000;
constexpr int64_t kFirstRestNs = 50'000'000, kLongestRestNs = 800'000'000;

int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

constexpr int kSpins = 4000;  // about 50 us: longer than the gap between two operations of a step, shorter than a sleep

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

int ThreadPool::usable_cores(const std::filesystem::path& root) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int affinity = sched_getaffinity(0, sizeof set, &set) == 0
                           ? CPU_COUNT(&set)
                           : static_cast<int>(std::thread::hardware_concurrency());
  return static_cast<int>(std::max(1.0, std::min<double>(affinity, processor_quota(root).value_or(affinity))));
}

ThreadPool::ThreadPool(int num_threads) : seats_(static_cast<size_t>(std::max(num_threads, 1))) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  rested_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t num_chunks, Call call, void* context) {
  if (workers_.empty() || num_chunks <= 1) {
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) call(context, chunk, 0);
    return;
  }
  if (num_resting_ > 0) wake_rested();
  call_ = call;
  context_ = context;
  const auto threads = static_cast<int64_t>(seats_.size());
  for (int64_t t = 0; t < threads; ++t) {
    Seat& seat = seats_[static_cast<size_t>(t)];
    seat.end = num_chunks * (t + 1) / threads;
    seat.next.store(num_chunks * t / threads);
  }
  closed_.store(false);
  generation_.fetch_add(1);  // publishes the job
  if (sleeping_.load() > 0) {
    { const std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  const int64_t begin = now_ns(), own = take_chunks(0);
  closed_.store(true);
  wait_for_workers(now_ns() - begin, own);
}

void ThreadPool::wait_for_workers(int64_t job_ns, int64_t own_chunks) {
  for (int spins = 0; inside_.load() != 0;) {
    if (++spins < kSpins) {
      relax();
      continue;
    }
    const int64_t start = now_ns(), late = kLateNs + 2 * job_ns / std::max<int64_t>(own_chunks, 1);
    bool is_late = false;
    while (inside_.load() != 0) {
      std::this_thread::yield();
      const int64_t now = now_ns();
      if (is_late || now - start < late) continue;
      is_late = true;
      for (Seat& seat : seats_) {
        if (!seat.inside.load() || seat.resting.load()) continue;
        // Late again soon after a rest: a longer one.
        const bool again = now - seat.rests_until_ns < kFirstRestNs;
        seat.rest_ns = again ? std::min(2 * seat.rest_ns, kLongestRestNs) : kFirstRestNs;
        seat.rests_until_ns = now + seat.rest_ns;
        seat.resting.store(true);
        ++num_resting_;
      }
    }
  }
}

void ThreadPool::wake_rested() {
  const int64_t now = now_ns();
  bool any = false;
  for (Seat& seat : seats_) {
    if (!seat.resting.load() || now < seat.rests_until_ns) continue;
    const std::lock_guard lock(mutex_);
    seat.resting.store(false);
    --num_resting_;
    any = true;
  }
  if (any) rested_.notify_all();
}

int64_t ThreadPool::take_chunks(int thread) {
  const size_t threads = seats_.size();
  int64_t taken = 0;
  for (size_t i = 0; i < threads; ++i) {
    Seat& seat = seats_[(static_cast<size_t>(thread) + i) % threads];
    // Looked at before it is claimed: chunks that are gone are not written to.
    while (seat.next.load(std::memory_order_relaxed) < seat.end) {
      const int64_t chunk = seat.next.fetch_add(1);
      if (chunk >= seat.end) break;
      call_(context_, chunk, thread);
      ++taken;
    }
  }
  return taken;
}

void ThreadPool::work(int thread) {
  Seat& seat = seats_[static_cast<size_t>(thread)];
  for (uint64_t seen = 0;;) {
    if (seat.resting.load()) {
      std::unique_lock lock(mutex_);
      rested_.wait(lock, [&] { return !seat.resting.load() || stopping_.load(); });
    }
    for (int spins = 0; generation_.load() == seen && spins < kSpins; ++spins) relax();
    if (generation_.load() == seen) {
      std::unique_lock lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleeping_.fetch_sub(1);
    }
    seen = generation_.load();
    if (stopping_.load()) return;
    inside_.fetch_add(1);
    if (!closed_.load()) {
      seat.inside.store(true);
      take_chunks(thread);
      seat.inside.store(false);
    }
    inside_.fetch_sub(1);
  }
}

}  // namespace redoubt
