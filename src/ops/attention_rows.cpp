#include "ops/attention_rows.h"

#include <cstring>

namespace redoubt {

AttentionUnits::AttentionUnits(Arena& arena, const AttentionWork& work, std::span<const ChunkView> chunks, int threads)
    : work_(work), chunks_(chunks), starts_(arena.ints(static_cast<int64_t>(chunks.size()) + 1)) {
  parts_ = parts_at_once(threads);
  starts_[0] = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    starts_[i + 1] = starts_[i] + static_cast<int32_t>(work.parts / parts_ * units_of_part(chunks[i]));
    const int64_t rows = std::min(work.unit_rows, chunks[i].tokens * work.rows_per_token);
    max_rows_ = std::max(max_rows_, parts_ * ((rows + kAttentionRows - 1) / kAttentionRows * kAttentionRows));
  }
}

// As many as leave four pieces of work for each thread.
int64_t AttentionUnits::parts_at_once(int threads) const {
  int64_t pieces = 0;
  for (const ChunkView& chunk : chunks_) {
    if (chunk.tokens * work_.rows_per_token > kAttentionRows) return 1;
    const int64_t keys = chunk.position + chunk.tokens;
    pieces += work_.split_keys == 0 ? 1 : (keys + work_.split_keys - 1) / work_.split_keys;
  }
  for (int64_t at_once = std::min(work_.parts, work_.unit_rows / kAttentionRows); at_once > 1; --at_once) {
    if (work_.parts % at_once == 0 && pieces * (work_.parts / at_once) >= 4 * threads) return at_once;
  }
  return 1;
}

int64_t AttentionUnits::units_of_part(const ChunkView& chunk) const {
  return (chunk.tokens * work_.rows_per_token + work_.unit_rows - 1) / work_.unit_rows;
}

AttentionUnit AttentionUnits::at(int64_t index) const {
  const int32_t* next = std::upper_bound(starts_, starts_ + chunks_.size() + 1, static_cast<int32_t>(index));
  const auto chunk = static_cast<size_t>(next - starts_ - 1);
  const int64_t local = index - starts_[chunk], of_part = units_of_part(chunks_[chunk]);
  const int64_t first = local % of_part * work_.unit_rows;
  return {&chunks_[chunk], local / of_part * parts_, parts_, first,
          std::min(work_.unit_rows, chunks_[chunk].tokens * work_.rows_per_token - first)};
}

namespace {

// Where row r of the unit's part p lies in a tensor of slices `width` wide.
float* slice(const Tensor& tensor, const AttentionWork& work, const AttentionUnit& unit, int64_t p, int64_t r,
             int64_t width) {
  const int64_t row = unit.first_row + r, token = row / work.rows_per_token;
  return tensor.row(unit.chunk->first_row + token) +
         ((unit.part + p) * work.rows_per_token + row % work.rows_per_token) * width;
}

}  // namespace

int64_t query_words(const AttentionKernels& kernels, int64_t head) {
  if (kernels.encode_query != nullptr) return head / kCacheGroup * kQueryWords;
  return (head + kernels.word_elements - 1) / kernels.word_elements;
}

void pack_queries(const KernelTable& table, const AttentionKernels& kernels, const AttentionWork& work,
                  const AttentionUnit& unit, float* row, uint32_t* out) {
  const bool pairs = kernels.word_elements == 2;
  const int64_t words = query_words(kernels, work.head);
  const int64_t padded = unit.groups() * kAttentionRows;
  auto* halves = reinterpret_cast<uint16_t*>(row);
  for (int64_t r = 0; r < unit.parts * padded; ++r) {
    uint32_t* to = out + r / kAttentionRows * words * kAttentionRows + r % kAttentionRows;
    if (r % padded >= unit.rows) {
      for (int64_t w = 0; w < words; ++w) to[w * kAttentionRows] = 0;
      continue;
    }
    const float* from = slice(work.q, work, unit, r / padded, r % padded, work.head);
    if (kernels.encode_query != nullptr) {
      kernels.encode_query({from, work.head, to});
      continue;
    }
    if (pairs) {
      if (work.head % 2 != 0) halves[work.head] = 0;
      table.bf16_encode(from, halves, work.head);
      from = row;
    }
    for (int64_t w = 0; w < words; ++w) std::memcpy(to + w * kAttentionRows, from + w, 4);
  }
}

void write_outputs(const AttentionWork& work, const AttentionUnit& unit, const SoftmaxState& state, bool by_row) {
  for (int64_t g = 0; g < unit.all_groups(); ++g) {
    const int64_t part = g / unit.groups(), first = g % unit.groups() * kAttentionRows;
    const int64_t rows = std::min(kAttentionRows, unit.rows - first);
    const float* out = state.out + g * state.columns * kAttentionRows;
    float* to[kAttentionRows];
    float inverse[kAttentionRows];
    for (int64_t r = 0; r < rows; ++r) {
      to[r] = slice(work.out, work, unit, part, first + r, work.value);
      inverse[r] = 1.0f / state.sum[g * kAttentionRows + r];
    }
    // + 0: keys that a row may not see may leave a zero of either sign.
    for (int64_t r = 0; by_row && r < rows; ++r) {
      for (int64_t c = 0; c < work.value; ++c) to[r][c] = out[r * state.columns + c] * inverse[r] + 0.0f;
    }
    for (int64_t c0 = 0; !by_row && c0 < work.value; c0 += 16) {
      const int64_t c1 = std::min(work.value, c0 + 16);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = c0; c < c1; ++c) to[r][c] = out[c * kAttentionRows + r] * inverse[r] + 0.0f;
      }
    }
  }
}

}  // namespace redoubt
