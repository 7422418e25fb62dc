// The query rows of one unit of attention: which they are, how they become words, and how their sums become outputs.
#pragma once

#include <algorithm>

#include "ops/attention_work.h"

namespace redoubt {

// Rows first_row .. first_row + rows - 1 of each of some parts, one after the other. Several parts share a unit only
// when each has one group: then the keys and values of all of them are read while their cache rows are at hand.
struct AttentionUnit {
  const ChunkView* chunk;
  int64_t part, parts, first_row, rows;

  int64_t token(const AttentionWork& work, int64_t row) const { return (first_row + row) / work.rows_per_token; }
  // Keys that the last of the rows may see.
  int64_t keys(const AttentionWork& work) const { return chunk->position + token(work, rows - 1) + 1; }
  int64_t groups() const { return (rows + kAttentionRows - 1) / kAttentionRows; }  // of each part
  int64_t all_groups() const { return parts * groups(); }
};

// All units of a call: chunk by chunk, part by part, rows in order.
class AttentionUnits {
 public:
  AttentionUnits(Arena& arena, const AttentionWork& work, std::span<const ChunkView> chunks, int threads);
  int64_t size() const { return starts_[chunks_.size()]; }
  AttentionUnit at(int64_t index) const;
  int64_t max_rows() const { return max_rows_; }  // of all parts, in whole groups

 private:
  int64_t units_of_part(const ChunkView& chunk) const;
  int64_t parts_at_once(int threads) const;
  const AttentionWork& work_;
  std::span<const ChunkView> chunks_;
  int32_t* starts_;  // [chunks + 1] the first unit of each chunk
  int64_t parts_ = 1, max_rows_ = 0;
};

// The running softmax of a unit's rows, as the kernels want it. Parts of one group may lie row by row.
struct SoftmaxState {
  float *max, *sum,
      *out;               // [rows], [rows], [groups, columns, kAttentionRows] or [parts, kAttentionRows, columns]
  int64_t rows, columns;  // rows a multiple of kAttentionRows

  SoftmaxState(float* memory, int64_t rows_of_state, int64_t value)
      : max(memory),
        sum(memory + rows_of_state),
        out(memory + 2 * rows_of_state),
        rows(rows_of_state),
        columns((value + 15) / 16 * 16) {}
  static int64_t floats(int64_t rows, int64_t value) { return rows * (2 + (value + 15) / 16 * 16); }
  void reset(int64_t groups) const {
    std::fill_n(max, groups * kAttentionRows, kNoScore);
    std::fill_n(sum, groups * kAttentionRows, 0.0f);
    std::fill_n(out, groups * kAttentionRows * columns, 0.0f);
  }
};

int64_t query_words(const AttentionKernels& kernels, int64_t head);  // of one row
// row: scratch of head + 1 floats. out: [parts, groups, words, kAttentionRows].
void pack_queries(const KernelTable& table, const AttentionKernels& kernels, const AttentionWork& work,
                  const AttentionUnit& unit, float* row, uint32_t* out);
// Divides by the sums and writes the unit's rows of work.out.
void write_outputs(const AttentionWork& work, const AttentionUnit& unit, const SoftmaxState& state, bool by_row);

}  // namespace redoubt
