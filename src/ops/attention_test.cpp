// Attention over a paged cache against plain sums in double, and the promise of docs/decisions/0002: the bits of a
// token do not depend on chunks, neighbours or threads, at depths of several splits.
#include "ops/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "emulated_tiles.h"
#include "op_bench.h"
#include "ops/attention_work.h"

namespace redoubt {
namespace {

std::vector<float> random_floats(uint32_t seed, int64_t n) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(generator);
  return values;
}

// With a cache of one sequence whose blocks are in no order.
struct Bench : test::OpBench {
  const KernelTable& table;
  std::vector<std::byte> memory;
  CacheLayer cache;
  std::vector<int32_t> blocks;

  Bench(const KernelTable& kernels, int threads, CacheFormat format, int64_t width, int64_t keys)
      : OpBench(kernels, threads, 1 << 24),
        table(kernels),
        cache{nullptr, format, width, cache_row_bytes(format, width)} {
    const int64_t count = (keys + kCacheRows - 1) / kCacheRows;
    memory.assign(static_cast<size_t>(count * kCacheRows * cache.row_bytes), std::byte{0xff});  // NaN where unwritten
    cache.data = memory.data();
    for (int64_t b = 0; b < count; ++b) blocks.push_back(static_cast<int32_t>((b * 7 + 3) % count));
    std::vector<float> rows = random_floats(5, keys * width);
    for (int64_t p = 0; p < keys; ++p) cache_store(table, cache, blocks, p, rows.data() + p * width);
  }
  // What the cache holds of position p.
  std::vector<float> row(int64_t p) const {
    std::vector<float> values(static_cast<size_t>(cache.width));
    cache_load(cache, table, blocks, p, 1, 0, cache.width, values.data(), cache.width);
    return values;
  }
};

// What is left of a query where scores are of codes: in groups, rounded to max|q| / 127.
void round_to_codes(std::vector<float>& q) {
  for (size_t at = 0; at < q.size(); at += kCacheGroup) {
    float largest = 0;
    for (size_t i = at; i < at + kCacheGroup; ++i) largest = std::max(largest, std::fabs(q[i]));
    for (size_t i = at; i < at + kCacheGroup; ++i) q[i] = std::nearbyint(q[i] / largest * 127) * (largest / 127);
  }
}

// softmax(scale q k^T) v over keys 0 .. position, in double.
std::vector<double> plain_attention(const Bench& bench, const float* q, int64_t k_at, int64_t head, int64_t v_at,
                                    int64_t value, int64_t position, double scale) {
  std::vector<double> out(static_cast<size_t>(value)), scores;
  for (int64_t p = 0; p <= position; ++p) {
    const auto row = bench.row(p);
    double sum = 0;
    for (int64_t i = 0; i < head; ++i) sum += static_cast<double>(q[i]) * row[static_cast<size_t>(k_at + i)];
    scores.push_back(sum * scale);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (int64_t p = 0; p <= position; ++p) {
    const double weight = std::exp(scores[static_cast<size_t>(p)] - top);
    total += weight;
    const auto row = bench.row(p);
    for (int64_t i = 0; i < value; ++i) out[static_cast<size_t>(i)] += weight * row[static_cast<size_t>(v_at + i)];
  }
  for (double& v : out) v /= total;
  return out;
}

class EveryTable : public testing::TestWithParam<const KernelTable*> {
 protected:
  void SetUp() override {
    if (!GetParam()->supported()) GTEST_SKIP() << GetParam()->name << " is not supported by this CPU";
  }
};

struct Shape {
  int64_t heads, kv_heads, head_dim;
};
constexpr int64_t kKeys = 1700;  // four splits, the last one short

std::vector<float> run_gqa(Bench& bench, const Shape& s, std::vector<float>& q, std::span<const ChunkView> chunks) {
  const int64_t width = s.heads * s.head_dim, tokens = static_cast<int64_t>(q.size()) / width;
  std::vector<float> out(q.size(), NAN);
  gqa_attention(bench.ctx,
                {{q.data(), tokens, width}, {out.data(), tokens, width}, s.heads, s.kv_heads, s.head_dim, 0.2f},
                bench.cache, chunks);
  return out;
}

void follows_its_definition(const KernelTable& table, const Shape& s, CacheFormat format) {
  const int64_t width = s.heads * s.head_dim, first = kKeys - 3;
  Bench bench(table, 2, format, 2 * s.kv_heads * s.head_dim, kKeys);
  std::vector<float> q = random_floats(9, 3 * width);
  const ChunkView chunk{0, 3, first, bench.blocks};
  const std::vector<float> out = run_gqa(bench, s, q, {&chunk, 1});
  const bool pairs = attends_in_bf16(table, format);
  if (attention_kernels(table, format, {.head = s.head_dim, .value = s.head_dim}).encode_query != nullptr) {
    round_to_codes(q);
  }
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / 3, at = t * width + h * s.head_dim;
      const auto expected = plain_attention(bench, q.data() + at, kv * s.head_dim, s.head_dim,
                                            (s.kv_heads + kv) * s.head_dim, s.head_dim, first + t, 0.2f);
      for (int64_t i = 0; i < s.head_dim; ++i) {
        // Pairs: queries and weights have 8 bits, 8-bit keys and values are rounded once more.
        EXPECT_NEAR(out[static_cast<size_t>(at + i)], expected[static_cast<size_t>(i)], pairs ? 1e-2 : 1e-5);
      }
    }
  }
}

TEST_P(EveryTable, GroupedQueryAttentionFollowsItsDefinition) {
  for (const CacheFormat format : {CacheFormat::f32, CacheFormat::bf16, CacheFormat::q8}) {
    follows_its_definition(*GetParam(), {6, 2, 48}, format);  // no whole groups of an 8-bit cache
    follows_its_definition(*GetParam(), {6, 2, 64}, format);
  }
}

TEST_P(EveryTable, GroupedQueryAttentionIsTheSameBitsInAnyChunksAndThreads) {
  for (const Shape s : {Shape{6, 2, 48}, Shape{5, 1, 64}, Shape{4, 4, 33}}) {
    const int64_t width = s.heads * s.head_dim;
    for (const CacheFormat format : {CacheFormat::bf16, CacheFormat::q8}) {
      Bench one(*GetParam(), 1, format, 2 * s.kv_heads * s.head_dim, kKeys),
          three(*GetParam(), 3, format, 2 * s.kv_heads * s.head_dim, kKeys);
      std::vector<float> q = random_floats(9, kKeys * width);
      const ChunkView whole{0, kKeys, 0, one.blocks};
      const std::vector<float> expected = run_gqa(one, s, q, {&whole, 1});
      const auto check = [&](Bench& bench, std::span<const ChunkView> chunks) {
        const std::vector<float> found = run_gqa(bench, s, q, chunks);
        for (const ChunkView& chunk : chunks) {
          EXPECT_EQ(0, std::memcmp(found.data() + chunk.first_row * width, expected.data() + chunk.first_row * width,
                                   static_cast<size_t>(chunk.tokens * width) * sizeof(float)))
              << chunk.position << "+" << chunk.tokens;
        }
      };
      for (const int64_t at : {0, 17, 511, 512, 1024, 1699}) {
        const ChunkView alone{at, 1, at, three.blocks};
        check(three, {&alone, 1});
        check(one, {&alone, 1});
      }
      const std::vector<ChunkView> batch{{1600, 100, 1600, three.blocks},
                                         {3, 7, 3, three.blocks},
                                         {700, 1, 700, three.blocks},
                                         {900, 300, 900, three.blocks},
                                         {1500, 1, 1500, three.blocks}};
      check(three, batch);
      check(one, batch);
    }
  }
}

// W_UK and W_UV as float rows of kv_b.
struct Latent {
  int64_t rope;
  std::vector<float> weights;
  LatentUpProjection up;

  Latent(const KernelTable& table, int64_t rope_values) : rope(rope_values) {
    up.heads = 5, up.nope = 32, up.value = 24, up.latent = 64;
    const int64_t rows = up.heads * (up.nope + up.value);
    weights = random_floats(11, rows * up.latent);
    for (float& w : weights) w *= 0.125f;
    up.kv_b.matrix = {reinterpret_cast<const unsigned char*>(weights.data()),
                      rows,
                      up.latent,
                      up.latent * 4,
                      static_cast<int32_t>(DType::f32),
                      1,
                      4,
                      nullptr,
                      0,
                      decoder_for(table, DType::f32)};
  }
  int64_t q_width() const { return up.heads * (up.nope + rope); }
  int64_t out_width() const { return up.heads * up.value; }
};

using MlaForm = void (*)(OpContext&, const MlaArgs&, const CacheLayer&, std::span<const ChunkView>);

std::vector<float> run_mla(MlaForm form, Bench& bench, const Latent& latent, std::vector<float>& q,
                           std::span<const ChunkView> chunks) {
  const int64_t tokens = static_cast<int64_t>(q.size()) / latent.q_width();
  std::vector<float> out(static_cast<size_t>(tokens * latent.out_width()), NAN);
  form(bench.ctx,
       {{q.data(), tokens, latent.q_width()}, {out.data(), tokens, latent.out_width()}, latent.up, latent.rope, 0.15f},
       bench.cache, chunks);
  return out;
}

TEST_P(EveryTable, BothFormsOfLatentAttentionAgree) {
  for (const CacheFormat format : {CacheFormat::f32, CacheFormat::bf16, CacheFormat::q8}) {
    const Latent latent(*GetParam(), 16);
    Bench bench(*GetParam(), 2, format, latent.up.latent + latent.rope, kKeys);
    std::vector<float> q = random_floats(9, 4 * latent.q_width());
    const ChunkView chunk{0, 4, kKeys - 4, bench.blocks};
    const std::vector<float> expanded = run_mla(mla_expanded, bench, latent, q, {&chunk, 1}),
                             absorbed = run_mla(mla_absorbed, bench, latent, q, {&chunk, 1});
    const bool pairs = attends_in_bf16(*GetParam(), format);
    for (size_t i = 0; i < expanded.size(); ++i) EXPECT_NEAR(expanded[i], absorbed[i], pairs ? 2e-2 : 1e-5) << i;
  }
}

void latent_bits_are_the_same(const KernelTable& table, CacheFormat format, int64_t rope) {
  const Latent latent(table, rope);
  Bench one(table, 1, format, latent.up.latent + latent.rope, kKeys),
      three(table, 3, format, latent.up.latent + latent.rope, kKeys);
  std::vector<float> q = random_floats(9, kKeys * latent.q_width());
  const int64_t width = latent.out_width();
  for (const MlaForm form : {mla_expanded, mla_absorbed}) {
    const ChunkView whole{0, kKeys, 0, one.blocks};
    const std::vector<float> expected = run_mla(form, one, latent, q, {&whole, 1});
    const std::vector<ChunkView> last{{kKeys - 1, 1, kKeys - 1, three.blocks}};
    const std::vector<ChunkView> batch{
        {1600, 99, 1600, three.blocks}, {3, 7, 3, three.blocks}, {700, 1, 700, three.blocks}};
    for (const auto& chunks : {last, batch}) {
      for (Bench* bench : {&one, &three}) {
        const std::vector<float> found = run_mla(form, *bench, latent, q, chunks);
        for (const ChunkView& chunk : chunks) {
          EXPECT_EQ(0, std::memcmp(found.data() + chunk.first_row * width, expected.data() + chunk.first_row * width,
                                   static_cast<size_t>(chunk.tokens * width) * sizeof(float)))
              << chunk.position << "+" << chunk.tokens;
        }
      }
    }
  }
}

TEST_P(EveryTable, LatentAttentionIsTheSameBitsInAnyChunksAndThreads) {
  latent_bits_are_the_same(*GetParam(), CacheFormat::bf16, 16);
  latent_bits_are_the_same(*GetParam(), CacheFormat::q8, 16);
  latent_bits_are_the_same(*GetParam(), CacheFormat::q8, 32);  // whole groups
}

INSTANTIATE_TEST_SUITE_P(Attention, EveryTable, testing::ValuesIn(test::tested_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace redoubt
