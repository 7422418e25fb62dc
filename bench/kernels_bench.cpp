// How near each kernel comes to what this machine can do: kernels_bench [--kernels NAME] [--type T,…] [--tokens N,…]
//
// linear, packed: one matrix of each type by 1 to 512 tokens through ops, the input's own form included, over copies
// that together exceed the caches, as a model's layers do: bytes of weights against the read loop, multiply-adds
// against the int8 peak (bf16 peak for float types). Of the two shares the larger one is the share of the roofline.
// gqa, mla: one layer over a cache of --depth tokens. The rest: bytes read and written, in the caches. Every figure
// stands between two measurements of the ceilings.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include "apps/ceilings.h"
#include "core/json.h"
#include "formats/blocks.h"
#include "model/packed_store.h"
#include "ops/attention.h"
#include "ops/linear.h"

namespace redoubt {
namespace {

struct Flags {
  std::string kernels = "all";
  std::vector<std::string> types{"q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "bf16", "fp8", "f32"};
  std::vector<int64_t> tokens{1, 2, 4, 8, 16, 32, 64, 128, 512};
  int64_t rows = 8960, cols = 1536, depth = 4096;  // the matrix of a 1.5B model's MLP
  int threads = 0;
  bool stored = false, json = false;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Seconds of one call: the median of five runs of at least 20 ms each.
template <class Body>
double time_of(Body&& body) {
  body();
  std::vector<double> runs;
  int64_t calls = 1;
  while (runs.size() < 5) {
    const auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) body();
    const double seconds = seconds_since(start);
    if (seconds < 0.02 && runs.empty()) {
      calls *= 2;
    } else {
      runs.push_back(seconds / static_cast<double>(calls));
    }
  }
  std::sort(runs.begin(), runs.end());
  return runs[2];
}

std::string percent(double share) { return share > 0 ? fmt::format("{:.1f} %", share * 100) : "-"; }

// What one call does, and how it is said.
struct Case {
  std::string kernel, what;
  double bytes = 0, ops = 0;  // a multiply-add is two
  bool integer = false;       // against the int8 peak
  bool from_memory = true;    // else the bytes are in the caches, and have no share
};

class Bench {
 public:
  Bench(const Flags& flags, const KernelTable& table)
      : flags_(flags),
        table_(table),
        pool_(flags.threads > 0 ? flags.threads : ThreadPool::usable_cores()),
        probe_(pool_),
        arena_(int64_t{1} << 24) {
    for (int i = 0; i < pool_.num_threads(); ++i) {
      scratch_memory_.emplace_back(static_cast<size_t>(OpContext::kThreadScratch));
      scratch_.push_back(scratch_memory_.back().data());
    }
  }

  void run() {
    for (const std::string& type : flags_.types) linear_of(type);
    attention_of(CacheFormat::bf16);
    attention_of(CacheFormat::q8);
    latent_attention();
    row_wise();
  }

 private:
  OpContext context() { return {table_, pool_, arena_, scratch_}; }

  template <class Body>
  void report(const Case& c, Body&& body) {
    const Ceilings before = probe_.measure();
    const double seconds = time_of(body);
    const Ceilings ceilings = between(before, probe_.measure());
    const double peak = c.integer ? ceilings.int8_ops_per_s : ceilings.bf16_flops_per_s;
    const auto share = [&](double amount, double ceiling) { return ceiling > 0 ? amount / seconds / ceiling : 0.0; };
    const double reading = c.from_memory ? share(c.bytes, ceilings.read_bandwidth_bytes_per_s) : 0;
    const double computing = share(c.ops, peak);
    if (flags_.json) {
      fmt::print("{}\n", dump_json({{"table", table_.name},
                                    {"threads", pool_.num_threads()},
                                    {"kernel", c.kernel},
                                    {"what", c.what},
                                    {"seconds", seconds},
                                    {"bytes_per_s", c.bytes / seconds},
                                    {"ops_per_s", c.ops / seconds},
                                    {"read_bandwidth_bytes_per_s", ceilings.read_bandwidth_bytes_per_s},
                                    {"peak_ops_per_s", peak},
                                    {"share_of_read", reading},
                                    {"share_of_peak", computing}}));
    } else {
      fmt::print("{:<12} {:<10} {:<20} {:>10.1f} us {:>8.1f} GB/s {:>7} {:>8.1f} Gop/s {:>7}\n", table_.name, c.kernel,
                 c.what, seconds * 1e6, c.bytes / seconds / 1e9, percent(reading), c.ops / seconds / 1e9,
                 percent(computing));
    }
    std::fflush(stdout);
  }

  std::vector<float> random_floats(int64_t n) {
    std::normal_distribution<float> normal(0.0f, 0.05f);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = normal(random_);
    return values;
  }

  void linear_of(const std::string& name) {
    const std::optional<DType> dtype = dtype_from_name(name);
    if (!dtype || !can_encode(*dtype) || flags_.cols % info(*dtype).block_elems != 0) {
      fmt::print(stderr, "kernels_bench: {} is left out: it has no encoder, or does not divide the columns\n", name);
      return;
    }
    const int64_t row_bytes = flags_.cols / info(*dtype).block_elems * info(*dtype).block_bytes;
    const int64_t bytes = row_bytes * flags_.rows, copies = std::max<int64_t>((int64_t{256} << 20) / bytes, 2);
    const std::vector<float> row = random_floats(flags_.cols);
    std::vector<std::byte> memory(static_cast<size_t>(bytes * copies));
    encode_row(*dtype, row, memory.data());  // what the numbers are does not matter for the time
    for (int64_t r = 1; r < flags_.rows * copies; ++r) {
      std::copy_n(memory.data(), row_bytes, memory.data() + r * row_bytes);
    }
    const std::vector<float> scales(
        static_cast<size_t>((flags_.rows / kScaleBlock + 1) * (flags_.cols / kScaleBlock + 1)), 1.0f);
    std::vector<Weight> weights(static_cast<size_t>(copies));
    PackedStore store(pool_);
    const PackedKernels kernels = choose_packed(flags_.stored ? PackedSets{} : table_.packed());
    const bool packs = kernels.supported() || kernels.bf16_supported();
    if (packs && !store.reserve(2 * bytes * copies)) return;
    for (int64_t i = 0; i < copies; ++i) {
      Weight& w = weights[static_cast<size_t>(i)];
      w.matrix = {.data = reinterpret_cast<const unsigned char*>(memory.data() + i * bytes),
                  .rows = flags_.rows,
                  .cols = flags_.cols,
                  .row_bytes = row_bytes,
                  .dtype = static_cast<int32_t>(*dtype),
                  .block_elems = info(*dtype).block_elems,
                  .block_bytes = info(*dtype).block_bytes,
                  .scales = *dtype == DType::f8_e4m3 ? scales.data() : nullptr,
                  .scale_cols = (flags_.cols + kScaleBlock - 1) / kScaleBlock,
                  .decode = decoder_for(table_, *dtype)};
      if (packs) store.add(kernels, {}, w);
    }
    const bool packed = weights[0].packed.data != nullptr;
    for (const int64_t tokens : flags_.tokens) {
      std::vector<float> x = random_floats(tokens * flags_.cols), y(static_cast<size_t>(tokens * flags_.rows));
      OpContext ctx = context();
      size_t next = 0;
      const Case c{.kernel = packed ? "packed" : "linear",
                   .what = fmt::format("{} x {}", name, tokens),
                   .bytes = static_cast<double>(bytes),
                   .ops = 2.0 * static_cast<double>(tokens * flags_.rows * flags_.cols),
                   .integer = info(*dtype).block_elems > 1};
      report(c, [&] {
        const ArenaScope scope(arena_);
        linear_into(ctx, {x.data(), tokens, flags_.cols}, weights[next], {y.data(), tokens, flags_.rows});
        next = (next + 1) % weights.size();
      });
    }
  }

  // A cache of one sequence with `depth` tokens, zeros.
  struct Cache {
    Cache(CacheFormat format, int64_t width, int64_t depth)
        : layer{nullptr, format, width, cache_row_bytes(format, width)} {
      blocks.resize(static_cast<size_t>((depth + kCacheRows - 1) / kCacheRows));
      std::iota(blocks.begin(), blocks.end(), 0);
      memory.resize(blocks.size() * static_cast<size_t>(kCacheRows * layer.row_bytes));
      layer.data = memory.data();
    }
    CacheLayer layer;
    std::vector<int32_t> blocks;
    std::vector<std::byte> memory;
  };

  // Grouped queries, 12 heads of 128 on 2 of keys: the 1.5B model's. One token a sequence, and a prompt of 128.
  void attention_of(CacheFormat format) {
    constexpr int64_t kHeads = 12, kKeyHeads = 2, kHead = 128, kWidth = kHeads * kHead;
    Cache cache(format, 2 * kKeyHeads * kHead, flags_.depth);
    for (const int64_t tokens : {int64_t{1}, int64_t{128}}) {
      std::vector<float> q = random_floats(tokens * kWidth), out(q.size());
      const ChunkView chunk{0, tokens, flags_.depth - tokens, cache.blocks};
      const auto keys = static_cast<double>(flags_.depth);
      const Case c{
          .kernel = "gqa",
          .what = fmt::format("{} x {} @ {}", format == CacheFormat::bf16 ? "bf16" : "q8", tokens, flags_.depth),
          .bytes = keys * static_cast<double>(cache.layer.row_bytes),
          .ops = static_cast<double>(tokens * kHeads * kHead) * 4 * keys,
          .from_memory = false};
      report(c, [&] {
        OpContext ctx = context();
        const ArenaScope scope(arena_);
        gqa_attention(ctx, {{q.data(), tokens, kWidth}, {out.data(), tokens, kWidth}, kHeads, kKeyHeads, kHead, 0.1f},
                      cache.layer, {&chunk, 1});
      });
    }
  }

  // Multi-head latent attention, absorbed, 128 heads: R1's. One token, the projections by W_UK and W_UV included.
  void latent_attention() {
    constexpr int64_t kHeads = 128, kNope = 128, kRope = 64, kValue = 128, kLatent = 512;
    Cache cache(CacheFormat::bf16, kLatent + kRope, flags_.depth);
    std::vector<uint16_t> up(static_cast<size_t>(kHeads * (kNope + kValue) * kLatent), 0x3c00);  // bf16, small
    LatentUpProjection projection{.heads = kHeads, .nope = kNope, .value = kValue, .latent = kLatent};
    projection.kv_b.matrix = {.data = reinterpret_cast<const unsigned char*>(up.data()),
                              .rows = kHeads * (kNope + kValue),
                              .cols = kLatent,
                              .row_bytes = kLatent * 2,
                              .dtype = static_cast<int32_t>(DType::bf16),
                              .block_elems = 1,
                              .block_bytes = 2,
                              .scales = nullptr,
                              .scale_cols = 0,
                              .decode = decoder_for(table_, DType::bf16)};
    std::vector<float> q = random_floats(kHeads * (kNope + kRope)), out(static_cast<size_t>(kHeads * kValue));
    const ChunkView chunk{0, 1, flags_.depth - 1, cache.blocks};
    const Case c{
        .kernel = "mla",
        .what = fmt::format("absorbed @ {}", flags_.depth),
        .bytes = static_cast<double>(flags_.depth * cache.layer.row_bytes) + static_cast<double>(up.size() * 2),
        .ops = 2.0 * kHeads * static_cast<double>(flags_.depth * (2 * kLatent + kRope) + (kNope + kValue) * kLatent),
        .from_memory = false};
    report(c, [&] {
      OpContext ctx = context();
      const ArenaScope scope(arena_);
      mla_absorbed(ctx,
                   {{q.data(), 1, kHeads * (kNope + kRope)}, {out.data(), 1, kHeads * kValue}, projection, kRope, 0.1f},
                   cache.layer, {&chunk, 1});
    });
  }

  // On one thread, 128 rows of 1536: in the cache.
  void row_wise() {
    constexpr int64_t kRows = 128, kDim = 1536, kAll = kRows * kDim;
    std::vector<float> x = random_floats(kAll), y = random_floats(kAll), weight = random_floats(kDim);
    std::vector<uint16_t> narrow(static_cast<size_t>(kAll));
    const auto with_bytes = [](const char* kernel, double bytes) {
      return Case{.kernel = kernel, .what = "one thread", .bytes = bytes * kAll, .from_memory = false};
    };
    report(with_bytes("rms_norm", 8), [&] {
      table_.rms_norm({x.data(), kDim, weight.data(), y.data(), kDim, kRows, kDim, 1e-6f});
    });
    report(with_bytes("silu_mul", 12), [&] { table_.silu_mul({x.data(), y.data(), y.data(), kAll}); });
    report(with_bytes("axpy", 12), [&] { table_.axpy({1e-9f, x.data(), y.data(), kAll}); });
    report(with_bytes("bf16", 6), [&] { table_.bf16_encode(x.data(), narrow.data(), kAll); });
  }

  const Flags& flags_;
  const KernelTable& table_;
  ThreadPool pool_;
  CeilingProbe probe_;
  Arena arena_;
  std::vector<std::vector<float>> scratch_memory_;
  std::vector<float*> scratch_;
  std::mt19937 random_{1};
};

int run(const Flags& flags) {
  bool found = false;
  for (const KernelTable* table : kernel_tables()) {
    if ((flags.kernels != "all" && flags.kernels != table->name) || !table->supported()) continue;
    found = true;
    Bench(flags, *table).run();
  }
  if (!found)
    fmt::print(stderr, "kernels_bench: --kernels: {} is not a table that this processor can run\n", flags.kernels);
  return found ? 0 : 1;
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) {
  redoubt::Flags flags;
  CLI::App app("Each kernel beside what this machine could do at most");
  const auto count = CLI::Range(int64_t{1}, int64_t{1} << 16);
  app.add_option("--kernels", flags.kernels, "One table, or all that this processor can run")->capture_default_str();
  app.add_option("--type", flags.types, "Types of the matrix")->delimiter(',');
  app.add_option("--tokens", flags.tokens, "Tokens that meet it")->delimiter(',')->check(count);
  app.add_option("--rows", flags.rows, "Rows of the matrix")->check(count)->capture_default_str();
  app.add_option("--cols", flags.cols, "Its columns")->check(count)->capture_default_str();
  app.add_option("--depth", flags.depth, "Tokens in the cache")->check(CLI::Range(256, 1 << 17))->capture_default_str();
  app.add_option("--threads", flags.threads, "0: the cores this process may use")->check(CLI::Range(0, 1024));
  app.add_flag("--stored", flags.stored, "Matrices as stored, also where the table packs them");
  app.add_flag("--json", flags.json, "One JSON object a line");
  CLI11_PARSE(app, argc, argv);
  return redoubt::run(flags);
}
