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

constexpr int64_t kScaleBlock = 128;    // DeepSeek FP8: rows and columns under one scale
constexpr int64_t kKeyTile = 128;       // keys of one attention tile; tiles begin at multiples of it
constexpr int64_t kAttentionRows = 16;  // query rows of one group of an attention tile
constexpr float kNoScore = -1e38f;      // a running maximum before the first key: finite, so that no difference is NaN
constexpr int64_t kRowGroup = 16;       // rows a linear kernel decodes together: split work at multiples of it
constexpr int64_t kTokenGroup = 128;    // tokens that share one decoding of a row group
constexpr int64_t kColumnChunk = 256;   // columns decoded at a time: a multiple of every block size, 16 KB a row group
constexpr int64_t kMaxLanes = 16;
// Floats of scratch one call of linear or linear_transposed needs.
constexpr int64_t kLinearScratch = kRowGroup * kColumnChunk * 2 + kRowGroup * kTokenGroup * kMaxLanes;

// Activations for integer kernels: x[k] ~ q[k] * scale[k / 32], q in -120 .. 120. Rows are `stride` values apart,
// stride a multiple of 32; what lies beyond the columns is zero.
constexpr float kLargestCode = 120;  // plus -8 .. 7 of a weight it is still a byte (docs/decisions/0014)
struct QuantizedRows {
  int8_t* q;       // [*, stride]
  float* scale;    // [*, stride / 32] largest magnitude / kLargestCode
  float* sum;      // [*, stride / 32] scale * sum of q: what a weight's minimum is multiplied with
  int32_t* minus;  // [*, stride / 16] minus the sum of q over 16 columns: what a weight's offset is multiplied with
  int32_t* pairs;  // [*, stride / 16] two for 32 columns, for products of sums (avx512/paired_tile.inc): minus the sum
                   // of (q[k] + 128) * q[k + 16] over the first 16; and that with 8 * sum of q
  int64_t stride;
};

// The types that have a packed form, as the kernels' files may name them.
enum class PackedType : int32_t {
  none,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  mxfp4,
  g4_32,
  g4_64,
  g4_128,
  g8_32,
  i8_32,
  i8_128,
  nf4,
  bf16,
  f8_e4m3
};

// A matrix in the packed form (formats/packing.h): groups of 16 rows.
struct PackedMatrix {
  const unsigned char* data;  // null: the matrix is not packed
  int64_t rows, cols;
  int64_t group_bytes;
  PackedType type;
  const float* scales;  // FP8: as in WeightMatrix
  int64_t scale_cols;
};

constexpr int64_t kPackedTokens = 512;  // at most, in one call of packed_linear
constexpr int64_t kPanelColumns = 512;  // of 32 rows whose codes are spelled out together
// Floats of scratch one call of packed_linear needs: a panel's codes, scales and minimums, and the sums of 32 rows for
// every token and its remainder.
constexpr int64_t kPackedScratch = 11 * kPanelColumns + 2 * 32 * kPackedTokens + 16;

// y[t, r] = sum_k W[r, k] * x[row(t), k] over packed weights. An output is one float sum over the units of 32 columns
// in order: for each scale of the unit fma(dot, scale_w * scale_x, sum) with an exact integer dot, of its half of the
// columns or its plane of codes, then fma(minimum_w, sum_x, sum); a remainder's sum, made alike, is added to the output
// at the end. Every table computes the same bits.
struct PackedLinearArgs {
  PackedMatrix w;
  QuantizedRows x;         // integer codes
  const uint16_t* x_bf16;  // [*, x.stride] instead, for bf16 and f8_e4m3 weights
  const int32_t* x_rows;   // row of x for token t; null: t
  float* y;                // [tokens, *]: element (t, r) is y[t * y_stride + r]
  int64_t y_stride;
  int64_t tokens;              // 1 .. kPackedTokens
  int64_t row_begin, row_end;  // row_begin a multiple of 16
  const float* bias;           // [rows] added after the sum, or null
  float* scratch;              // kPackedScratch floats of the calling thread
  QuantizedRows remainder;     // integer codes: of what x left, multiplied and added to y after x; q null: none
};

// One row of x into q, scale, sum, minus, pairs; columns up to stride are filled with zeros.
struct QuantizeRowArgs {
  const float* x;  // [cols]
  int64_t cols, stride;
  int8_t* q;
  float* scale;
  float* sum;
  int32_t* minus;
  int32_t* pairs;
};

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

// Attention runs over *words* of 32 bits: one float, or two neighbouring bfloat16 (the even one in the low half, a
// missing odd one 0). A table has a set of kernels for either; layouts in words are the same. A third set takes keys
// and values as codes of 8 bits, and queries too; weights and the values' words are then bfloat16. Query rows go in
// groups of kAttentionRows, lane by lane beside one another, so that nothing is ever summed across lanes.

// One tile of FlashAttention-2 (arXiv:2307.08691, algorithm 1, inner loop): folds the keys of one tile into the running
// softmax of each row. A score is one sum over the head's words in order; a weighted sum runs through the words of the
// tile's keys in order, from what it was before times the shrink. Keys that a row may not see add exactly nothing.
struct AttentionTileArgs {
  const uint32_t* q;                                  // [groups, words, kAttentionRows]
  int64_t groups, words;                              // words: of a head
  float scale;                                        // a weight is exp(scale * (score - maximum)); above 0
  const unsigned char* k[kKeyTile / kAttentionRows];  // key i: words at k[i / 16] + i % 16 * k_stride; readable to a
  int64_t k_stride;                                   // multiple of 16 keys beyond the visible ones; bytes
  int64_t k_scales;                                   // where keys are codes: their floats, bytes from the codes on
  const uint32_t* v;     // [panels, kKeyTile / elements per word, 16]: 16 columns of the values, word by word of keys
  int64_t panels;        // 16 columns each
  const int32_t* valid;  // [groups * kAttentionRows] keys of this tile that the row may see: 0 .. kKeyTile
  float* max;            // [groups * kAttentionRows] running maximum, kNoScore at the start
  float* sum;            // [groups * kAttentionRows] running sum of exponentials, 0 at the start
  float* out;            // [groups, panels * 16, kAttentionRows] running weighted sums, not yet divided; 0 at the start
  // For few_rows_tile, instead of v and panels: one group, `rows` of it, values in place.
  int64_t rows, columns;               // columns: a multiple of 32, of values and of out [rows, columns]
  const unsigned char* const* v_rows;  // [kKeyTile], elements (or codes) of each key; readable as k is
  int64_t v_scales;                    // as k_scales
  // What the next tile will read, to be fetched while this one is computed: rows i of both at next[i / 16] + i % 16 *
  // k_stride, so many cache lines each; 0 lines: nothing.
  const unsigned char* next_k[kKeyTile / kAttentionRows];
  const unsigned char* next_v[kKeyTile / kAttentionRows];
  int64_t next_k_lines, next_v_lines;
};

// Joins the softmax of later keys to that of earlier ones: max, sum and out as in AttentionTileArgs.
struct AttentionMergeArgs {
  int64_t groups, columns;  // columns: panels * 16
  float scale;
  float *max, *sum, *out;
  const float *later_max, *later_sum, *later_out;
};

// Values of a tile's keys as AttentionTileArgs::v wants them.
struct AttentionValuesArgs {
  const unsigned char* const* rows;  // [kKeyTile] n elements each (float or bfloat16), or codes; null: zeros
  int64_t n;
  int64_t scales;  // as AttentionTileArgs::v_scales
  uint32_t* out;   // [ceil(n / 16), kKeyTile / elements per word, 16]; columns past n are 0
};

// 8-bit values of a cache row (ops/cache.h): codes times the scale of their group of 32, as elements.
struct AttentionDecodeArgs {
  const unsigned char* scales;  // float of each group of the row
  const unsigned char* codes;   // of the row
  int64_t first, n;             // values of the row
  void* out;                    // [n] float or bfloat16
};
constexpr int64_t kCacheGroup = 32;

// A query row as codes: for each group of kCacheGroup values eight words of four codes, then the float scale =
// max|q| / 127, then -128 * (sum of the codes).
constexpr int64_t kQueryWords = kCacheGroup / 4 + 2;
struct AttentionQueryArgs {
  const float* q;  // [n], n a multiple of kCacheGroup
  int64_t n;
  uint32_t* out;  // [n / kCacheGroup * kQueryWords] words, kAttentionRows apart
};

struct AttentionKernels {
  int64_t word_elements;                   // 1: float, 2: bfloat16
  void (*tile)(const AttentionTileArgs&);  // null: this table has none of the kind
  void (*merge)(const AttentionMergeArgs&);
  void (*values)(const AttentionValuesArgs&);
  // The same sums, to the bit, for a single group: values lie along the lanes and are read where they are. Null: none.
  void (*few_rows_tile)(const AttentionTileArgs&);
  void (*few_rows_merge)(const AttentionMergeArgs&);  // groups: rows; out [rows, columns]
  void (*decode_q8)(const AttentionDecodeArgs&);
  // Not null: queries are codes, and so are keys and values, as an 8-bit cache has them, in whole groups.
  void (*encode_query)(const AttentionQueryArgs&);
};

// y[i] += a * x[i]
struct AxpyArgs {
  float a;
  const float* x;
  float* y;
  int64_t n;
};

}  // namespace redoubt
