#include "apps/machine.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace redoubt {
namespace {

using SteadyTime = std::chrono::steady_clock;

double seconds_since(SteadyTime::time_point start) {
  return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) uint64_t read_avx2(const std::byte* data, int64_t bytes) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  const auto* p = reinterpret_cast<const __m256i*>(data);
  for (int64_t i = 0; i + 4 <= bytes / 32; i += 4) {
    a = _mm256_xor_si256(a, _mm256_load_si256(p + i));
    b = _mm256_xor_si256(b, _mm256_load_si256(p + i + 1));
    c = _mm256_xor_si256(c, _mm256_load_si256(p + i + 2));
    d = _mm256_xor_si256(d, _mm256_load_si256(p + i + 3));
  }
  return static_cast<uint64_t>(
      _mm256_extract_epi64(_mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d)), 0));
}

// Eight independent sums hide the latency of the multiply-add; the empty asm keeps the compiler from folding the loop.
constexpr int kSums = 8;

__attribute__((target("avx512f,avx512vnni"))) uint64_t int8_avx512_vnni(int64_t rounds) {
  __m512i sums[kSums], x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
    for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, x, y);
    asm volatile("" : "+v"(x), "+v"(y));
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  alignas(64) int32_t lanes[16];
  _mm512_store_si512(lanes, sums[0]);  // GCC 12 warns inside its own _mm512_reduce_add_epi32
  return static_cast<uint64_t>(lanes[0]);
}

__attribute__((target("avx2"))) uint64_t int8_avx2(int64_t rounds) {
  __m256i sums[kSums], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; ++i) {
    for (auto& sum : sums) {
      asm volatile("" : "+x"(x));  // each product is computed anew
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
    }
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return static_cast<uint64_t>(_mm256_extract_epi32(sums[0], 0));
}

#endif

uint64_t read_plain(const std::byte* data, int64_t bytes) {
  const auto* p = reinterpret_cast<const uint64_t*>(data);
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (int64_t i = 0; i + 4 <= bytes / 8; i += 4) a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
  return a ^ b ^ c ^ d;
}

using ReadLoop = uint64_t (*)(const std::byte*, int64_t);
ReadLoop read_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return read_avx2;
#endif
  return read_plain;
}

struct Int8Loop {
  uint64_t (*run)(int64_t rounds);
  double ops_per_round;
};
Int8Loop int8_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni")) return {int8_avx512_vnni, 2.0 * 64 * kSums};
  if (__builtin_cpu_supports("avx2")) return {int8_avx2, 2.0 * 32 * kSums};
#endif
  return {nullptr, 0};
}

struct FreeBytes {
  void operator()(std::byte* p) const { std::free(p); }
};

double best_read_bandwidth(ThreadPool& pool) {
  constexpr int64_t kBytes = int64_t{512} << 20, kChunk = int64_t{1} << 20;
  const std::unique_ptr<std::byte, FreeBytes> memory(static_cast<std::byte*>(std::aligned_alloc(4096, kBytes)));
  if (!memory) return 0;
  pool.parallel_for(kBytes / kChunk,
                    [&](int64_t chunk, int) { std::fill_n(memory.get() + chunk * kChunk, kChunk, std::byte{1}); });
  const ReadLoop loop = read_loop();
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = SteadyTime::now();
    pool.parallel_for(kBytes / kChunk,
                      [&](int64_t chunk, int) { sink += loop(memory.get() + chunk * kChunk, kChunk); });
    best = std::max(best, static_cast<double>(kBytes) / seconds_since(start));
  }
  return best;
}

double best_int8_rate(ThreadPool& pool) {
  const Int8Loop loop = int8_loop();
  if (loop.run == nullptr) return 0;
  constexpr int64_t kRounds = 4'000'000;
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = SteadyTime::now();
    pool.parallel_for(pool.num_threads(), [&](int64_t, int) { sink += loop.run(kRounds); });
    best = std::max(best, loop.ops_per_round * kRounds * pool.num_threads() / seconds_since(start));
  }
  return best;
}

}  // namespace

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  }
  return "unknown";
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) found.push_back("avx2");
  if (__builtin_cpu_supports("fma")) found.push_back("fma");
  if (__builtin_cpu_supports("avx512f")) found.push_back("avx512f");
  if (__builtin_cpu_supports("avx512bw")) found.push_back("avx512bw");
  if (__builtin_cpu_supports("avx512vl")) found.push_back("avx512vl");
  if (__builtin_cpu_supports("avx512vnni")) found.push_back("avx512vnni");
  if (__builtin_cpu_supports("avx512bf16")) found.push_back("avx512bf16");
#elif defined(__aarch64__)
  found.push_back("neon");
#endif
  return found;
}

int64_t total_memory_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  int64_t kilobytes = 0;
  while (meminfo >> key) {
    if (key == "MemTotal:" && meminfo >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

Ceilings measure_ceilings(ThreadPool& pool) { return {best_read_bandwidth(pool), best_int8_rate(pool)}; }

}  // namespace redoubt
