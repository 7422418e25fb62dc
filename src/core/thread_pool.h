// Workers for the data plane: parallel_for splits one job into chunks that the caller and the workers take one by one.
//
// Each thread begins with a run of neighbouring chunks of its own, so that it walks through memory in order and meets
// the same part again in the next step; one that is through with its own takes from the others'. A job is over when its
// chunks are: a worker that comes late finds it closed and is not waited for. One that lost its core in a chunk is;
// that happens again while another process holds the core, so it then rests a while. Between jobs (a model step issues
// many a millisecond) a worker spins briefly, then sleeps. Which thread runs a chunk never affects a result: a chunk
// writes only its own outputs, and no sum crosses chunks. Thread safety: parallel_for may be called by one thread at a
// time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace redoubt {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);  // the caller counts as one; at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(chunk, thread) for each chunk in 0 .. num_chunks-1; thread is in 0 .. num_threads()-1. Does not
  // allocate.
  template <class Body>
  void parallel_for(int64_t num_chunks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        num_chunks, [](void* context, int64_t chunk, int thread) { (*static_cast<Plain*>(context))(chunk, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Cores this process may use: affinity and the whole ones of control groups' quotas, at least 1. `root`: "/" but in
  // tests.
  static int usable_cores(const std::filesystem::path& root = "/");

 private:
  using Call = void (*)(void* context, int64_t chunk, int thread);
  void run(int64_t num_chunks, Call call, void* context);
  void work(int thread);
  int64_t take_chunks(int thread);  // how many it took
  void wait_for_workers(int64_t job_ns, int64_t own_chunks);
  void wake_rested();

  struct alignas(64) Seat {        // of a thread
    std::atomic<int64_t> next{0};  // of the chunks that it begins with
    int64_t end = 0;
    std::atomic<bool> inside{false}, resting{false};
    int64_t rest_ns = 0, rests_until_ns = 0;  // the caller's
  };
  std::vector<Seat> seats_;
  int num_resting_ = 0;  // the caller's
  std::vector<std::thread> workers_;
  // One job at a time. `generation_` announces it. A worker counts itself in `inside_` before it looks at `closed_`,
  // the caller closes before it looks at `inside_`: so either the worker stays out, or the caller waits for it.
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> inside_{0};
  std::atomic<bool> closed_{true};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false};
  Call call_ = nullptr;
  void* context_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_, rested_;
};

}  // namespace redoubt
