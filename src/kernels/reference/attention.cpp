// Attention in float32, each sum in index order. Loops end in the rows of a group, so that they may be vectorised.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/reference/reference.h"

namespace redoubt::reference {
namespace {

const float* floats(const void* words) { return static_cast<const float*>(words); }

float weight(float x) { return x < -87.0f ? 0.0f : exp_approximation(x); }

// One group of rows: q [words, kAttentionRows], the state of its rows.
void fold_group(const AttentionTileArgs& a, int64_t group) {
  constexpr int64_t kRows = kAttentionRows;
  const float* q = floats(a.q) + group * a.words * kRows;
  const int32_t* valid = a.valid + group * kRows;
  const int64_t keys = *std::max_element(valid, valid + kRows);
  float s[kKeyTile][kRows];
  for (int64_t k = 0; k < keys; ++k) {
    const unsigned char* key = a.k[k / kRows] + k % kRows * a.k_stride;
    float sums[kRows] = {};
    for (int64_t w = 0; w < a.words; ++w) {
      float value;
      std::memcpy(&value, key + 4 * w, 4);
      for (int64_t r = 0; r < kRows; ++r) sums[r] += q[w * kRows + r] * value;
    }
    for (int64_t r = 0; r < kRows; ++r) s[k][r] = k < valid[r] ? sums[r] : -INFINITY;
  }
  float *max = a.max + group * kRows, *sum = a.sum + group * kRows, shrink[kRows];
  for (int64_t r = 0; r < kRows; ++r) {
    float top = max[r];
    for (int64_t k = 0; k < keys; ++k) top = std::max(top, s[k][r]);
    shrink[r] = weight(a.scale * (max[r] - top));
    sum[r] *= shrink[r];
    max[r] = top;
    for (int64_t k = 0; k < keys; ++k) {
      s[k][r] = weight(a.scale * (s[k][r] - top));
      sum[r] += s[k][r];
    }
  }
  for (int64_t c = 0; c < a.panels * 16; ++c) {
    const float* v = floats(a.v) + c / 16 * kKeyTile * 16 + c % 16;
    float* out = a.out + (group * a.panels * 16 + c) * kRows;
    for (int64_t r = 0; r < kRows; ++r) out[r] *= shrink[r];
    for (int64_t k = 0; k < keys; ++k) {
      for (int64_t r = 0; r < kRows; ++r) out[r] += s[k][r] * v[k * 16];
    }
  }
}

}  // namespace

void attention_tile(const AttentionTileArgs& args) {
  for (int64_t group = 0; group < args.groups; ++group) fold_group(args, group);
}

void attention_merge(const AttentionMergeArgs& args) {
  for (int64_t i = 0; i < args.groups * kAttentionRows; ++i) {
    const float top = std::max(args.max[i], args.later_max[i]);
    const float shrink = weight(args.scale * (args.max[i] - top));
    const float later = weight(args.scale * (args.later_max[i] - top));
    args.max[i] = top;
    args.sum[i] = args.sum[i] * shrink + args.later_sum[i] * later;
    for (int64_t c = 0; c < args.columns; ++c) {
      const int64_t at = (i / kAttentionRows * args.columns + c) * kAttentionRows + i % kAttentionRows;
      args.out[at] = args.out[at] * shrink + args.later_out[at] * later;
    }
  }
}

void attention_values(const AttentionValuesArgs& args) {
  float* out = reinterpret_cast<float*>(args.out);
  for (int64_t c = 0; c < args.n; c += 16) {
    const int64_t n = std::min<int64_t>(16, args.n - c);
    for (int64_t k = 0; k < kKeyTile; ++k, out += 16) {
      std::fill_n(out, 16, 0.0f);
      if (args.rows[k] != nullptr) std::memcpy(out, args.rows[k] + 4 * c, static_cast<size_t>(4 * n));
    }
  }
}

void attention_decode_q8(const AttentionDecodeArgs& args) {
  float* out = static_cast<float*>(args.out);
  for (int64_t i = 0; i < args.n; ++i) {
    float scale;
    std::memcpy(&scale, args.scales + 4 * ((args.first + i) / kCacheGroup), 4);
    out[i] = scale * static_cast<float>(static_cast<int8_t>(args.codes[args.first + i]));
  }
}

}  // namespace redoubt::reference
