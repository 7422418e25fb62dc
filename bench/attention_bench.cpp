// What attention costs at a depth, as a share of what the machine can do: attention_bench [threads [kernels [filter]]]
//
// Beside each call stands a register-only loop of vdpbf16ps on as many threads, and beside each row a read loop over
// 512 MB. Printed are the fastest call and the fastest loop, and in brackets the median of the pair-wise shares (on a
// machine with other work the two differ much). Arithmetic counts the keys that each query sees, two operations a
// multiply-add; bytes count the cache once a sequence, read cold as in a model of many layers. Rows whose name contains
// the filter.

#include <fmt/format.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>

#include "ops/attention_work.h"

namespace redoubt {
namespace {

using Clock = std::chrono::steady_clock;

// One thread is timed by its processor time, so that other work on the machine counts little.
bool by_processor_time = false;
double now() {
  if (by_processor_time) {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}
double seconds_of(const std::function<void()>& work) {
  const double start = now();
  work();
  return now() - start;
}

constexpr int64_t kPeakRounds = 50'000;  // 0.1 ms
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) float dot_pairs() {
  __m512 sums[16];
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) sums[j] = _mm512_setzero_ps();
  const __m512i ones = _mm512_set1_epi32(0x3f803f80);
  for (int64_t i = 0; i < kPeakRounds; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      sums[j] = _mm512_dpbf16_ps(sums[j], reinterpret_cast<__m512bh>(ones), reinterpret_cast<__m512bh>(ones));
      __asm__("" : "+v"(sums[j]));  // sixteen sums, not sixteen names of one
    }
  }
#pragma GCC unroll 16
  for (int j = 1; j < 16; ++j) sums[0] = _mm512_add_ps(sums[0], sums[j]);
  return _mm512_cvtss_f32(sums[0]);
}
bool has_pairs() { return __builtin_cpu_supports("avx512bf16") != 0; }
#else
float dot_pairs() { return 0; }
bool has_pairs() { return false; }
#endif

double peak_flops(ThreadPool& pool) {
  if (!has_pairs()) return 0;
  std::vector<float> sink(static_cast<size_t>(pool.num_threads()));
  const auto threads = static_cast<int64_t>(pool.num_threads());
  const double seconds = seconds_of(
      [&] { pool.parallel_for(threads, [&](int64_t i, int) { sink[static_cast<size_t>(i)] = dot_pairs(); }); });
  return static_cast<double>(threads * kPeakRounds * 16 * 64) / seconds;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) uint64_t read_words(const uint64_t* from, int64_t n) {
  __m256i sums[8];
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) sums[j] = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 32) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm256_xor_si256(sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i + 4 * j)));
    }
  }
#pragma GCC unroll 8
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
  return static_cast<uint64_t>(_mm256_extract_epi64(sums[0], 0));
}
#else
uint64_t read_words(const uint64_t* from, int64_t n) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum ^= from[i];
  return sum;
}
#endif

double read_bytes_per_second(ThreadPool& pool, const std::vector<uint64_t>& memory) {
  constexpr int64_t kChunk = 1 << 17;  // words: 1 MB
  const auto chunks = static_cast<int64_t>(memory.size()) / kChunk;
  std::vector<uint64_t> sink(static_cast<size_t>(chunks));
  const double seconds = seconds_of([&] {
    pool.parallel_for(chunks, [&](int64_t chunk, int) {
      sink[static_cast<size_t>(chunk)] = read_words(memory.data() + chunk * kChunk, kChunk);
    });
  });
  return static_cast<double>(chunks * kChunk * 8) / seconds;
}

struct Row {
  const char* name;
  int64_t parts, rows_per_token, head, value;
  bool latent;  // one stream for keys and values, as MLA's
  int64_t depth, tokens, sequences;
  CacheFormat format = CacheFormat::bf16;
};

class Measurement {
 public:
  Measurement(const KernelTable& table, int threads)
      : table_(table), pool_(threads), memory_(static_cast<size_t>(1) << 26, 1) {
    for (int i = 0; i < threads; ++i) scratch_.push_back(nullptr);
  }

  void print(const Row& row) {
    const int64_t width = row.latent ? row.head : row.parts * (row.head + row.value);
    const int64_t keys = row.depth + row.tokens, rows = row.tokens * row.sequences;
    const int64_t slices = row.parts * row.rows_per_token;
    const CacheLayer empty{nullptr, row.format, width, cache_row_bytes(row.format, width)};
    const int64_t blocks = (keys + kCacheRows - 1) / kCacheRows;
    const int64_t layer_bytes = row.sequences * blocks * kCacheRows * empty.row_bytes;
    // As many layers as exceed the last-level cache: a model's step meets every layer's cache cold.
    const int64_t layers = std::max<int64_t>(1, (int64_t{128} << 20) / layer_bytes);
    std::vector<std::byte> bytes(static_cast<size_t>(layers * layer_bytes));
    CacheLayer cache = empty;
    cache.data = bytes.data();
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(width * 64));
    for (float& v : values) v = normal(generator);
    std::vector<std::vector<int32_t>> tables(static_cast<size_t>(row.sequences));
    std::vector<ChunkView> chunks;
    for (int64_t s = 0; s < row.sequences; ++s) {
      auto& table = tables[static_cast<size_t>(s)];
      for (int64_t b = 0; b < blocks; ++b) table.push_back(static_cast<int32_t>(s * blocks + b));
      for (int64_t p = 0; p < keys; ++p) cache_store(table_, cache, table, p, values.data() + p % 64 * width);
      chunks.push_back({s * row.tokens, row.tokens, row.depth, table});
    }
    for (int64_t l = 1; l < layers; ++l) std::copy_n(bytes.data(), layer_bytes, bytes.data() + l * layer_bytes);
    std::vector<float> q(static_cast<size_t>(rows * slices * row.head)),
        out(static_cast<size_t>(rows * slices * row.value));
    for (size_t i = 0; i < q.size(); ++i) q[i] = values[i % values.size()] * 0.1f;
    const int64_t unit_rows = rows_of_unit(row.value);
    Arena arena(pool_.num_threads() * TileMemory::floats(row.head, row.value) +
                run_attention_floats(row.head, row.value, unit_rows, row.sequences, pool_.num_threads()));
    OpContext ctx{table_, pool_, arena, scratch_};
    const AttentionWork work{.q = {q.data(), rows, slices * row.head},
                             .out = {out.data(), rows, slices * row.value},
                             .parts = row.parts,
                             .rows_per_token = row.rows_per_token,
                             .head = row.head,
                             .value = row.value,
                             .scale = 0.1f,
                             .split_keys = kSplitKeys,
                             .unit_rows = unit_rows};
    const CacheColumns columns = row.latent ? CacheColumns{.head = row.head, .value = row.value}
                                            : CacheColumns{.head = row.head,
                                                           .value = row.value,
                                                           .k_step = row.head,
                                                           .v_offset = row.parts * row.head,
                                                           .v_step = row.value};
    double seen = 0;
    for (int64_t t = 0; t < row.tokens; ++t) seen += static_cast<double>(row.depth + t + 1);
    const double flops = 2.0 * static_cast<double>(row.sequences * slices * (row.head + row.value)) * seen;
    const double read = static_cast<double>(row.sequences * keys * cache.row_bytes);
    int64_t layer = 0;
    const auto attend = [&] {
      const ArenaScope scope(arena);
      layer = (layer + 1) % layers;
      cache.data = bytes.data() + layer * layer_bytes;
      const CacheKeys source(ctx, cache, columns);
      run_attention(ctx, work, attention_kernels(table_, row.format, columns), source, chunks);
    };
    attend();
    double seconds = INFINITY, peak = 0, bandwidth = 0;
    std::vector<double> shares;
    for (const auto start = Clock::now(); shares.size() < 5 || Clock::now() - start < std::chrono::milliseconds(700);) {
      const double loop = peak_flops(pool_), call = seconds_of(attend);
      seconds = std::min(seconds, call);
      peak = std::max(peak, loop);
      shares.push_back(loop > 0 ? flops / call / loop : 0);
    }
    std::nth_element(shares.begin(), shares.begin() + static_cast<std::ptrdiff_t>(shares.size() / 2), shares.end());
    for (int i = 0; i < 3; ++i) bandwidth = std::max(bandwidth, read_bytes_per_second(pool_, memory_));
    fmt::print("{:<34} {:>8.3f} ms {:>6.1f} GFLOP/s", row.name, seconds * 1e3, flops / seconds * 1e-9);
    if (peak > 0) {
      fmt::print(" = {:>3.0f} % of {:>4.0f} ({:.0f} %)", 100 * flops / seconds / peak, peak * 1e-9,
                 100 * shares[shares.size() / 2]);
    }
    fmt::print("  {:>5.1f} GB/s = {:>3.0f} % of {:>4.1f}\n", read / seconds * 1e-9, 100 * read / seconds / bandwidth,
               bandwidth * 1e-9);
    std::fflush(stdout);
  }

 private:
  const KernelTable& table_;
  ThreadPool pool_;
  std::vector<uint64_t> memory_;
  std::vector<float*> scratch_;
};

int run(int threads, const char* kernels, std::string_view filter) {
  const auto table = choose_kernels(kernels);
  if (!table) {
    fmt::print("{}\n", table.error().message);
    return 1;
  }
  by_processor_time = threads == 1;
  fmt::print("kernels {}, {} threads\n", (*table)->name, threads);
  Measurement measurement(**table, threads);
  const Row rows[] = {
      {"MLA 128 heads, 1 token at 4096", 1, 128, 576, 512, true, 4095, 1, 1},
      {"MLA 128 heads, 1 token at 16384", 1, 128, 576, 512, true, 16383, 1, 1},
      {"MLA 128 heads, 2 tokens at 4096", 1, 128, 576, 512, true, 4094, 2, 1},
      {"MLA 16 heads, 1 token at 4096", 1, 16, 576, 512, true, 4095, 1, 1},
      {"MLA 16 heads, 1 token at 16384", 1, 16, 576, 512, true, 16383, 1, 1},
      {"MLA 16 heads, 16384, 8-bit", 1, 16, 576, 512, true, 16383, 1, 1, CacheFormat::q8},
      {"MLA 16 heads, batch 32 at 1024", 1, 16, 576, 512, true, 1023, 1, 32},
      {"MLA expanded 16 heads, 512 at 0", 16, 1, 192, 128, false, 0, 512, 1},
      {"GQA 12/2, 1 token at 1024", 2, 6, 128, 128, false, 1023, 1, 1},
      {"GQA 12/2, 1 token at 4096", 2, 6, 128, 128, false, 4095, 1, 1},
      {"MQA 6/1, 1 token at 8192", 1, 6, 128, 128, false, 8191, 1, 1},
      {"GQA 12/2, 1 token at 16384", 2, 6, 128, 128, false, 16383, 1, 1},
      {"GQA 12/2, 16384, 8-bit", 2, 6, 128, 128, false, 16383, 1, 1, CacheFormat::q8},
      {"GQA 12/2, batch 16 at 1024", 2, 6, 128, 128, false, 1023, 1, 16},
      {"GQA 12/2, 512 tokens at 0", 2, 6, 128, 128, false, 0, 512, 1},
      {"GQA 12/2, 512 tokens at 4096", 2, 6, 128, 128, false, 4096, 512, 1},
      {"GQA 12/2, 512 tokens, 8-bit", 2, 6, 128, 128, false, 4096, 512, 1, CacheFormat::q8},
  };
  for (const Row& row : rows) {
    if (std::string_view(row.name).find(filter) != std::string_view::npos) measurement.print(row);
  }
  return 0;
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) {
  return redoubt::run(argc > 1 ? std::atoi(argv[1]) : redoubt::ThreadPool::usable_cores(), argc > 2 ? argv[2] : "auto",
                      argc > 3 ? argv[3] : "");
}
