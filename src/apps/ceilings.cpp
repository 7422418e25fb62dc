#include "apps/ceilings.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "apps/ceiling_loops.h"
#include "engine/memory_room.h"

namespace redoubt {
namespace {

using SteadyTime = std::chrono::steady_clock;

constexpr int kProbes = 5;
constexpr int64_t kChunk = int64_t{1} << 20;

double seconds_since(SteadyTime::time_point start) {
  return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Eight times the last-level cache that one core sees and at least 512 MiB, but no more than a quarter of what is free.
int64_t wanted_bytes() {
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  const int64_t wanted = std::min(std::max(int64_t{512} << 20, 8 * cache), int64_t{2} << 30);
  const int64_t available = available_memory_bytes();
  return (available > 0 ? std::min(wanted, available / 4) : wanted) / kChunk * kChunk;
}

// As many rounds as take some 10 ms, found once by trying.
double arithmetic_rate(ThreadPool& pool, const ArithmeticLoop& loop) {
  if (loop.run == nullptr) return 0;
  std::atomic<uint64_t> sink{0};
  const auto seconds_for = [&](int64_t rounds) {
    const auto start = SteadyTime::now();
    pool.parallel_for(pool.num_threads(), [&](int64_t, int) { sink += loop.run(rounds); });
    return seconds_since(start);
  };
  int64_t rounds = 1000;
  while (seconds_for(rounds) < 0.004) rounds *= 2;
  rounds *= 2;
  std::vector<double> rates;
  for (int probe = 0; probe < kProbes; ++probe) {
    rates.push_back(loop.ops_per_round * static_cast<double>(rounds) * pool.num_threads() / seconds_for(rounds));
  }
  return median(std::move(rates));
}

}  // namespace

Ceilings between(const Ceilings& before, const Ceilings& after) {
  return {(before.read_bandwidth_bytes_per_s + after.read_bandwidth_bytes_per_s) / 2,
          (before.int8_ops_per_s + after.int8_ops_per_s) / 2, (before.bf16_flops_per_s + after.bf16_flops_per_s) / 2};
}

CeilingProbe::CeilingProbe(ThreadPool& pool) : pool_(pool), bytes_(wanted_bytes()) {
  void* address = bytes_ > 0 ? ::mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                             : MAP_FAILED;
  if (address == MAP_FAILED) {
    bytes_ = 0;
    return;
  }
  data_ = static_cast<std::byte*>(address);
#if defined(MADV_HUGEPAGE)
  ::madvise(address, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // the system may have none: then small pages
#endif
  pool_.parallel_for(bytes_ / kChunk,
                     [&](int64_t chunk, int) { std::fill_n(data_ + chunk * kChunk, kChunk, std::byte{1}); });
}

CeilingProbe::~CeilingProbe() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
}

double CeilingProbe::read_once() {
  const ReadLoop loop = read_loop();
  std::atomic<uint64_t> sink{0};
  const auto start = SteadyTime::now();
  pool_.parallel_for(bytes_ / kChunk, [&](int64_t chunk, int) { sink += loop(data_ + chunk * kChunk, kChunk); });
  return static_cast<double>(bytes_) / seconds_since(start);
}

Ceilings CeilingProbe::measure() {
  Ceilings ceilings;
  ceilings.int8_ops_per_s = arithmetic_rate(pool_, int8_loop());
  ceilings.bf16_flops_per_s = arithmetic_rate(pool_, bf16_loop());
  if (bytes_ > 0) {
    read_once();  // the threads are awake after it
    std::vector<double> rates;
    for (int probe = 0; probe < kProbes; ++probe) rates.push_back(read_once());
    ceilings.read_bandwidth_bytes_per_s = median(std::move(rates));
  }
  return ceilings;
}

std::string int8_instruction() { return int8_loop().instruction; }
std::string bf16_instruction() { return bf16_loop().instruction; }

}  // namespace redoubt
