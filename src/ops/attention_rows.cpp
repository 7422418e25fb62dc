#include "ops/attention_rows.h"

#include <cstring>

namespace redoubt {

AttentionUnits::AttentionUnits(Arena& arena, const AttentionWork& work, std::span<const ChunkView> chunks)
    : work_(work), chunks_(chunks), starts_(arena.ints(static_cast<int64_t>(chunks.size()) + 1)) {
  starts_[0] = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    starts_[i + 1] = starts_[i] + static_cast<int32_t>(work.parts * units_of_part(chunks[i]));
    max_rows_ = std::max(max_rows_, std::min(work.unit_rows, chunks[i].tokens * work.rows_per_token));
  }
  max_rows_ = (max_rows_ + kAttentionRows - 1) / kAttentionRows * kAttentionRows;
}

int64_t AttentionUnits::units_of_part(const ChunkView& chunk) const {
  return (chunk.tokens * work_.rows_per_token + work_.unit_rows - 1) / work_.unit_rows;
}

AttentionUnit AttentionUnits::at(int64_t index) const {
  const int32_t* next = std::upper_bound(starts_, starts_ + chunks_.size() + 1, static_cast<int32_t>(index));
  const auto chunk = static_cast<size_t>(next - starts_ - 1);
  const int64_t local = index - starts_[chunk], of_part = units_of_part(chunks_[chunk]);
  const int64_t first = local % of_part * work_.unit_rows;
  return {&chunks_[chunk], local / of_part, first,
          std::min(work_.unit_rows, chunks_[chunk].tokens * work_.rows_per_token - first)};
}

namespace {

// Where row r of the unit lies in a tensor of slices `width` wide.
float* slice(const Tensor& tensor, const AttentionWork& work, const AttentionUnit& unit, int64_t r, int64_t width) {
  const int64_t row = unit.first_row + r, token = row / work.rows_per_token;
  return tensor.row(unit.chunk->first_row + token) +
         (unit.part * work.rows_per_token + row % work.rows_per_token) * width;
}

}  // namespace

void pack_queries(const KernelTable& table, const AttentionKernels& kernels, const AttentionWork& work,
                  const AttentionUnit& unit, float* row, uint32_t* out) {
  const bool pairs = kernels.word_elements == 2;
  const int64_t words = (work.head + kernels.word_elements - 1) / kernels.word_elements;
  auto* halves = reinterpret_cast<uint16_t*>(row);
  for (int64_t r = 0; r < unit.groups() * kAttentionRows; ++r) {
    uint32_t* to = out + r / kAttentionRows * words * kAttentionRows + r % kAttentionRows;
    if (r >= unit.rows) {
      for (int64_t w = 0; w < words; ++w) to[w * kAttentionRows] = 0;
      continue;
    }
    const float* from = slice(work.q, work, unit, r, work.head);
    if (pairs) {
      if (work.head % 2 != 0) halves[work.head] = 0;
      table.bf16_encode(from, halves, work.head);
      from = row;
    }
    for (int64_t w = 0; w < words; ++w) std::memcpy(to + w * kAttentionRows, from + w, 4);
  }
}

void write_outputs(const AttentionWork& work, const AttentionUnit& unit, const SoftmaxState& state, bool by_row) {
  // + 0: keys that a row may not see may leave a zero of either sign.
  if (by_row) {
    for (int64_t r = 0; r < unit.rows; ++r) {
      const float inverse = 1.0f / state.sum[r], *from = state.out + r * state.columns;
      float* to = slice(work.out, work, unit, r, work.value);
      for (int64_t c = 0; c < work.value; ++c) to[c] = from[c] * inverse + 0.0f;
    }
    return;
  }
  for (int64_t g = 0; g < unit.groups(); ++g) {
    const int64_t rows = std::min(kAttentionRows, unit.rows - g * kAttentionRows);
    const float* out = state.out + g * state.columns * kAttentionRows;
    float* to[kAttentionRows];
    float inverse[kAttentionRows];
    for (int64_t r = 0; r < rows; ++r) {
      to[r] = slice(work.out, work, unit, g * kAttentionRows + r, work.value);
      inverse[r] = 1.0f / state.sum[g * kAttentionRows + r];
    }
    for (int64_t c0 = 0; c0 < work.value; c0 += 16) {
      const int64_t c1 = std::min(work.value, c0 + 16);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = c0; c < c1; ++c) to[r][c] = out[c * kAttentionRows + r] * inverse[r] + 0.0f;
      }
    }
  }
}

}  // namespace redoubt
