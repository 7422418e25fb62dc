// Arguments of every kernel: plain data, no inline functions, so that files built for one instruction set may include
// it.
//
// Batch invariance (docs/decisions/0002): an output element is computed by the same operations in the same order
// whatever the number of rows, tokens or queries in the call. A sum over K is one accumulator (reference) or kLanes
// accumulators (lane k % kLanes), each running through K in order; tiles change which elements are computed together,
// never how.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace redoubt {

// Decodes n values of one row; n is a multiple of the type's block. Equal to the bit to formats/blocks.h decode_row.
typedef void (*DecodeFn)(const unsigned char* in, float* out, int64_t n);

// A stored matrix W[rows, cols], row-major in blocks along cols. Unaligned.
struct WeightMatrix {
  const unsigned char* data;
  int64_t rows, cols;
  int64_t row_bytes;
  int32_t dtype;        // DType, for the table to choose a decoder
  int32_t block_elems;  // values in a block
  int32_t block_bytes;
  // FP8 blocks: W[r, c] = value * scales[r / 128 * scale_cols + c / 128]; null otherwise.
  const float* scales;
  int64_t scale_cols;
  DecodeFn decode;  // of the active table
};

constexpr int64_t kScaleBlock = 128;   // DeepSeek FP8: rows and columns under one scale
constexpr int64_t kKeyTile = 64;       // keys of one attention tile; tiles begin at multiples of it
constexpr int64_t kRowGroup = 16;      // rows a linear kernel decodes together: split work at multiples of it
constexpr int64_t kTokenGroup = 128;   // tokens that share one decoding of a row group
constexpr int64_t kColumnChunk = 256;  // columns decoded at a time: a multiple of every block size, 16 KB a row group
constexpr int64_t kMaxLanes = 16;
// Floats of scratch one call of linear or linear_transposed needs.
constexpr int64_t kLinearScratch = kRowGroup * kColumnChunk * 2 + kRowGroup * kTokenGroup * kMaxLanes;

// y[t, r] = sum_k W[r, k] * x[row(t), k]  for t in 0 .. tokens-1, r in row_begin .. row_end-1.
struct LinearArgs {
  WeightMatrix w;
  const float* x;         // [*, cols]
  int64_t x_stride;       // floats between rows of x
  const int32_t* x_rows;  // row of x for token t; null: t
  float* y;               // [tokens, *]: element (t, r) is y[t * y_stride + r]
  int64_t y_stride;
  int64_t tokens;
  int64_t row_begin, row_end;
  const float* bias;  // [rows] added after the sum, or null
  float* scratch;     // kLinearScratch floats of the calling thread
};

// y[t, c] = sum_r W[r, c] * x[t, r - row_begin] for r in row_begin .. row_end-1, in order; all columns.
struct LinearTransposedArgs {
  WeightMatrix w;
  const float* x;  // [tokens, row_end - row_begin]
  int64_t x_stride;
  float* y;  // [tokens, cols]
  int64_t y_stride;
  int64_t tokens;
  int64_t row_begin, row_end;
  float* scratch;
};

// y = x * weight / sqrt(mean(x^2) + eps), row by row. Source: arXiv:1910.07467.
struct RmsNormArgs {
  const float* x;  // [rows, dim]
  int64_t x_stride;
  const float* weight;  // [dim]
  float* y;             // [rows, dim], may be x
  int64_t y_stride;
  int64_t rows, dim;
  float eps;
};

// y = silu(gate) * up, element by element, silu(v) = v / (1 + exp(-v)).
struct SiluMulArgs {
  const float* gate;
  const float* up;
  float* y;  // may be gate or up
  int64_t n;
};

// One tile of FlashAttention-2 (arXiv:2307.08691, algorithm 1, inner loop): folds keys of one tile into the running
// softmax of each query. q is scaled already.
struct AttentionTileArgs {
  const float* q;  // [queries, head]
  int64_t q_stride;
  const float* k;  // [kKeyTile, head]
  int64_t k_stride;
  const float* v;  // [kKeyTile, value]
  int64_t v_stride;
  int64_t queries, head, value;
  const int32_t* valid;  // [queries] keys of this tile that the query may see: 0 .. kKeyTile
  float* max;            // [queries] running maximum, -inf at the start
  float* sum;            // [queries] running sum of exponentials, 0 at the start
  float* out;            // [queries, value] running weighted sum, not yet divided by sum; 0 at the start
  int64_t out_stride;
};

// y[i] += a * x[i]
struct AxpyArgs {
  float a;
  const float* x;
  float* y;
  int64_t n;
};

}  // namespace redoubt
