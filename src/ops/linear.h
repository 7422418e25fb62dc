// y = W x + b over stored or packed weights, split over rows of W; and the row-wise operations around it.
#pragma once

#include <initializer_list>

#include "ops/context.h"
#include "ops/first_use.h"

namespace redoubt {

struct Weight {
  WeightMatrix matrix{};                  // as stored; rows may be looked up in it
  PackedMatrix packed{};                  // the same in the packed form, preferred where it is there
  PackedInput input = PackedInput::none;  // what `packed` is multiplied with
  // What int8 rounds off its input is multiplied too, as int8 again: for the matrices whose error reaches furthest.
  bool fine = false;
  const float* bias = nullptr;       // [rows] or null
  const int32_t* columns = nullptr;  // [cols] column j meets value columns[j] of the input; null: in order
  FirstUse* first_use = nullptr;     // of the bytes of `packed`; null: they are ready

  bool empty() const { return matrix.rows == 0; }
  int64_t rows() const { return matrix.rows; }
  int64_t cols() const { return matrix.cols; }
};

// Before anything multiplies with w.
inline void make_ready(OpContext& ctx, const Weight& w) {
  if (w.first_use != nullptr && !w.first_use->is_ready()) w.first_use->make_ready(ctx.pool);
}

// The forms in which matrices take their input.
struct InputForms {
  bool int8 = false, fine = false, bf16 = false, float32 = false;

  InputForms& operator|=(const Weight& w) {
    float32 = float32 || w.packed.data == nullptr;
    int8 = int8 || w.input == PackedInput::int8;
    fine = fine || (w.input == PackedInput::int8 && w.fine);
    bf16 = bf16 || w.input == PackedInput::bf16;
    return *this;
  }
};

// x in those forms: made once, for all the matrices that it meets.
struct LinearInput {
  Tensor x;
  QuantizedRows int8{}, remainder{};  // of x, and of what int8 left of it
  const uint16_t* bf16 = nullptr;
};
// Of `rows`, those from row t on.
QuantizedRows rows_from(QuantizedRows rows, int64_t t);
inline int64_t quantized_stride(int64_t cols) { return (cols + 31) / 32 * 32; }
QuantizedRows quantized_rows(OpContext& ctx, int64_t rows, int64_t cols);  // in the arena, not yet filled
// Columns [begin, begin + n) of row t of `to` from x [n]: whole groups of 32, but for a row's last columns.
void quantize_values(const OpContext& ctx, const float* x, int64_t begin, int64_t n, const QuantizedRows& to,
                     int64_t t);
// What those codes leave of x; may be x.
void rest_of_codes(const float* x, int64_t begin, int64_t n, const QuantizedRows& codes, int64_t t, float* rest);

// In the arena, at most linear_input_floats(x.rows, x.cols). columns: as in Weight, of all the matrices.
LinearInput linear_input(OpContext& ctx, Tensor x, InputForms forms, const int32_t* columns = nullptr);
int64_t linear_input_floats(int64_t rows, int64_t cols);

// Rows [begin, end) of W times some rows of the input, by the calling thread: the part that parallel ops split.
struct LinearPart {
  const int32_t* x_rows = nullptr;  // row of x for token t; null: first + t
  int64_t first = 0, tokens = 0;
  int64_t begin = 0, end = 0;  // begin a multiple of kRowGroup
  float* y = nullptr;          // element (t, r) is y[t * y_stride + r]
  int64_t y_stride = 0;
};
void linear_part(const OpContext& ctx, const LinearInput& in, const Weight& w, const LinearPart& part, int thread);
// Rows of W [rows, cols] that make a chunk of work: long enough to be worth claiming, short enough that no thread waits
// long for another's last one.
int64_t rows_per_chunk(int64_t rows, int64_t cols, int64_t tokens, int threads);
int64_t most_rows_per_chunk(int64_t cols);  // whatever the rest

Tensor linear(OpContext& ctx, Tensor x, const Weight& w);  // [T, cols] -> [T, rows]
void linear_into(OpContext& ctx, Tensor x, const Weight& w, Tensor y);
// Several matrices that meet the same x, as one job.
struct LinearTask {
  const Weight* weight;
  Tensor y;
};
void linear_all(OpContext& ctx, Tensor x, std::initializer_list<LinearTask> tasks);
void linear_over(OpContext& ctx, const LinearInput& in, std::initializer_list<LinearTask> tasks);  // they are ready

Tensor rms_norm(OpContext& ctx, Tensor x, const float* weight, float eps);  // [T, dim]
void rms_norm_into(OpContext& ctx, Tensor x, const float* weight, float eps, Tensor y);
void add_into(OpContext& ctx, Tensor x, Tensor y);                                           // y += x
void embed(OpContext& ctx, const Weight& table, std::span<const int32_t> tokens, float* y);  // [T, cols]

}  // namespace redoubt
