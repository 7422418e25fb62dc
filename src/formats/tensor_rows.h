// Rows of weights on their way from one container to another: read as float32, or copied byte for byte where the stored
// type is the wanted one. A row is the last dimension; a tensor of shape [.., cols] has elements / cols rows.
// Nothing here holds more than the rows asked for. Thread safety: const; several threads may read at once.
// Lifetime: borrows from the Checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/thread_pool.h"
#include "formats/checkpoint.h"

namespace redoubt {

struct TensorRows {
  DType dtype = DType::f32;  // as stored
  int64_t rows = 0, cols = 0;
  int64_t quantum = 1;  // ranges that begin and end at multiples of this are read without repeated work
  // out [end - begin, cols]. FP8 blocks come with their scale applied.
  std::function<void(int64_t begin, int64_t end, float* out)> read;
  // The stored bytes of rows [begin, end); empty where rows are not stored as such (transposed, other columns). Those
  // of FP8 blocks say nothing without their scales, and are not there where rows changed places.
  std::function<void(int64_t begin, int64_t end, std::byte* out)> raw;
  std::function<Status(ThreadPool* pool)>
      verify;                     // of the bytes, once, before the first read; empty: nothing to verify
  std::function<void()> release;  // gives the pages that were read back to the system; they may be read again
};

TensorRows rows_of(const Checkpoint& model, const TensorView& tensor);
const TensorView* fp8_scales(const Checkpoint& model, const TensorView& tensor);  // null: it is no weight of FP8 blocks
TensorRows stacked_rows(std::vector<TensorRows> parts);  // one behind the other; all of one type and width
TensorRows mapped_rows(TensorRows source, int64_t rows, std::function<int64_t(int64_t row)> source_row);

// Llama's q and k between Hugging Face's halves (x_i, x_i+d/2) and GGUF's adjacent pairs (x_2i, x_2i+1), head by head.
TensorRows halves_to_pairs(TensorRows source, int64_t head_dim);
TensorRows pairs_to_halves(TensorRows source, int64_t head_dim);

// MLA's kv_b_proj [heads * (nope + v), kv_lora] and its halves k_b [heads * kv_lora, nope] (transposed) and
// v_b [heads * v, kv_lora].
TensorRows k_b_rows(TensorRows kv_b, const ModelConfig& config);
TensorRows v_b_rows(TensorRows kv_b, const ModelConfig& config);
TensorRows kv_b_rows(TensorRows k_b, TensorRows v_b, const ModelConfig& config);

}  // namespace redoubt
