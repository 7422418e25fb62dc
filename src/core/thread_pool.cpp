#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace redoubt {
namespace {

constexpr int kSpins = 4000;  // about 50 us: longer than the gap between two operations of a step, shorter than a sleep

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int cgroup_cores() {
  std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r");
  if (file == nullptr) return 1 << 20;
  char quota[32] = {};
  long period = 0;
  const int fields = std::fscanf(file, "%31s %ld", quota, &period);
  std::fclose(file);
  if (fields != 2 || std::strcmp(quota, "max") == 0 || period <= 0) return 1 << 20;
  return static_cast<int>(std::max(1L, std::strtol(quota, nullptr, 10) / period));
}

}  // namespace

int ThreadPool::usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int affinity = sched_getaffinity(0, sizeof set, &set) == 0
                           ? CPU_COUNT(&set)
                           : static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, std::min(affinity, cgroup_cores()));
}

ThreadPool::ThreadPool(int num_threads) : runs_(static_cast<size_t>(std::max(num_threads, 1))) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t num_chunks, Call call, void* context) {
  if (workers_.empty() || num_chunks <= 1) {
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) call(context, chunk, 0);
    return;
  }
  call_ = call;
  context_ = context;
  const auto threads = static_cast<int64_t>(runs_.size());
  for (int64_t t = 0; t < threads; ++t) {
    Run& run = runs_[static_cast<size_t>(t)];
    run.end = num_chunks * (t + 1) / threads;
    run.next.store(num_chunks * t / threads);
  }
  closed_.store(false);
  generation_.fetch_add(1);  // publishes the job
  if (sleeping_.load() > 0) {
    { const std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  take_chunks(0);
  closed_.store(true);
  for (int spins = 0; inside_.load() != 0;) {
    if (++spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::take_chunks(int thread) {
  const size_t threads = runs_.size();
  for (size_t i = 0; i < threads; ++i) {
    Run& run = runs_[(static_cast<size_t>(thread) + i) % threads];
    // Looked at before it is claimed: a run that is through is not written to.
    while (run.next.load(std::memory_order_relaxed) < run.end) {
      const int64_t chunk = run.next.fetch_add(1);
      if (chunk < run.end) call_(context_, chunk, thread);
    }
  }
}

void ThreadPool::work(int thread) {
  for (uint64_t seen = 0;;) {
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
    if (!closed_.load()) take_chunks(thread);
    inside_.fetch_sub(1);
  }
}

}  // namespace redoubt
