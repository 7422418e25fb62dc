#include "formats/tensor_rows.h"

#include <algorithm>
#include <cstring>

#include "core/float_bits.h"
#include "formats/blocks.h"
#include "formats/packing.h"
#include "formats/quantized_matrix.h"

namespace redoubt {
namespace {

// What a transposed matrix can still be called: blocks do not survive, plain floats do.
DType plain(DType stored) { return stored == DType::f16 || stored == DType::bf16 ? stored : DType::f32; }

std::function<Status(ThreadPool*)> both(std::function<Status(ThreadPool*)> a, std::function<Status(ThreadPool*)> b) {
  if (!a || !b) return a ? a : b;
  return [a, b](ThreadPool* pool) -> Status {
    REDOUBT_CHECK(a(pool));
    return b(pool);
  };
}

}  // namespace

const TensorView* fp8_scales(const Checkpoint& model, const TensorView& tensor) {
  if (tensor.dtype != DType::f8_e4m3 || tensor.shape.size() != 2) return nullptr;
  return model.find(std::string(tensor.name) + "_scale_inv");
}

TensorRows rows_of(const Checkpoint& model, const TensorView& tensor) {
  TensorRows rows;
  rows.dtype = tensor.dtype;
  rows.cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  rows.rows = rows.cols == 0 ? 0 : tensor.elements() / rows.cols;
  if (tensor.packed != nullptr)
    rows.verify = [&model, &tensor](ThreadPool* pool) { return model.verify(tensor, pool); };
  rows.release = [&tensor] { tensor.release_pages(); };
  const std::byte* data = tensor.data.data();
  const int64_t stride = row_bytes(tensor.dtype, rows.cols), cols = rows.cols;
  if (tensor.source == nullptr) {
    rows.raw = [=](int64_t begin, int64_t end, std::byte* out) {
      std::memcpy(out, data + begin * stride, static_cast<size_t>((end - begin) * stride));
    };
  } else {
    rows.quantum = kPackedRows;
    if (tensor.source->columns.empty()) rows.raw = tensor.source->read;
  }
  if (const TensorView* scale = fp8_scales(model, tensor)) {
    const std::byte* scales = scale->data.data();
    const int64_t blocks = scale->shape.back();
    rows.quantum = 128;
    rows.read = [=, raw = rows.raw](int64_t begin, int64_t end, float* out) {
      std::vector<std::byte> codes(static_cast<size_t>(stride));
      for (int64_t row = begin; row < end; ++row, out += cols) {
        raw(row, row + 1, codes.data());
        decode_row(DType::f8_e4m3, codes.data(), {out, static_cast<size_t>(cols)});
        for (int64_t c = 0; c < cols; ++c) {
          float factor;
          std::memcpy(&factor, scales + (row / 128 * blocks + c / 128) * 4, 4);
          out[c] *= factor;
        }
      }
    };
    if (tensor.packed != nullptr) {
      rows.verify = [&model, &tensor, scale](ThreadPool* pool) -> Status {
        REDOUBT_CHECK(model.verify(*scale, pool));
        return model.verify(tensor, pool);
      };
    }
  } else if (tensor.source != nullptr) {
    rows.read = [source = tensor.source, dtype = tensor.dtype, cols](int64_t begin, int64_t end, float* out) {
      read_values(*source, dtype, cols, begin, end, out);
    };
  } else {
    rows.read = [=, dtype = tensor.dtype](int64_t begin, int64_t end, float* out) {
      decode_row(dtype, data + begin * stride, {out, static_cast<size_t>((end - begin) * cols)});
    };
  }
  return rows;
}

TensorRows stacked_rows(std::vector<TensorRows> parts) {
  TensorRows rows = parts.front();
  const int64_t each = rows.rows, cols = rows.cols;
  const bool raw = std::ranges::all_of(parts, [](const TensorRows& part) { return static_cast<bool>(part.raw); });
  rows.rows = each * static_cast<int64_t>(parts.size());
  rows.read = [parts, each, cols](int64_t begin, int64_t end, float* out) {
    while (begin < end) {
      const int64_t part = begin / each, stop = std::min(end, (part + 1) * each);
      parts[static_cast<size_t>(part)].read(begin - part * each, stop - part * each, out);
      out += (stop - begin) * cols;
      begin = stop;
    }
  };
  rows.raw = nullptr;
  if (raw) {
    rows.raw = [parts, each, stride = row_bytes(rows.dtype, cols)](int64_t begin, int64_t end, std::byte* out) {
      while (begin < end) {
        const int64_t part = begin / each, stop = std::min(end, (part + 1) * each);
        parts[static_cast<size_t>(part)].raw(begin - part * each, stop - part * each, out);
        out += (stop - begin) * stride;
        begin = stop;
      }
    };
  }
  rows.release = [parts] {
    for (const TensorRows& part : parts) part.release ? part.release() : void();
  };
  if (rows.verify) {
    rows.verify = [parts](ThreadPool* pool) -> Status {
      for (const TensorRows& part : parts) REDOUBT_CHECK(part.verify(pool));
      return ok();
    };
  }
  return rows;
}

TensorRows mapped_rows(TensorRows source, int64_t count, std::function<int64_t(int64_t)> source_row) {
  TensorRows rows = source;
  rows.rows = count;
  rows.quantum = 1;
  rows.read = [source, source_row](int64_t begin, int64_t end, float* out) {
    for (int64_t row = begin; row < end; ++row, out += source.cols) {
      const int64_t from = source_row(row);
      source.read(from, from + 1, out);
    }
  };
  rows.raw = nullptr;
  if (source.raw && source.dtype != DType::f8_e4m3) {
    rows.raw = [source, source_row, stride = row_bytes(source.dtype, source.cols)](int64_t begin, int64_t end,
                                                                                   std::byte* out) {
      for (int64_t row = begin; row < end; ++row, out += stride) {
        const int64_t from = source_row(row);
        source.raw(from, from + 1, out);
      }
    };
  }
  return rows;
}

// Row r of the pairs: pair (r / 2) of its head, first or second of the pair.
TensorRows halves_to_pairs(TensorRows source, int64_t head_dim) {
  const int64_t count = source.rows;
  return mapped_rows(std::move(source), count, [head_dim](int64_t row) {
    const int64_t head = row / head_dim, i = row % head_dim;
    return head * head_dim + (i % 2) * (head_dim / 2) + i / 2;
  });
}

TensorRows pairs_to_halves(TensorRows source, int64_t head_dim) {
  const int64_t count = source.rows;
  return mapped_rows(std::move(source), count, [head_dim](int64_t row) {
    const int64_t head = row / head_dim, i = row % head_dim, half = head_dim / 2;
    return head * head_dim + (i % half) * 2 + i / half;
  });
}

TensorRows k_b_rows(TensorRows kv_b, const ModelConfig& config) {
  const int64_t nope = config.qk_nope_head_dim, head_rows = nope + config.v_head_dim, lora = config.kv_lora_rank;
  TensorRows rows;
  rows.dtype = plain(kv_b.dtype);
  rows.rows = config.num_attention_heads * lora;
  rows.cols = nope;
  rows.quantum = lora;
  rows.verify = kv_b.verify;
  rows.release = kv_b.release;
  rows.read = [=](int64_t begin, int64_t end, float* out) {
    std::vector<float> head(static_cast<size_t>(nope * lora));  // [nope, lora] of the head at hand
    int64_t loaded = -1;
    for (int64_t row = begin; row < end; ++row, out += nope) {
      if (row / lora != loaded) {
        loaded = row / lora;
        kv_b.read(loaded * head_rows, loaded * head_rows + nope, head.data());
      }
      for (int64_t n = 0; n < nope; ++n) out[n] = head[static_cast<size_t>(n * lora + row % lora)];
    }
  };
  return rows;
}

TensorRows v_b_rows(TensorRows kv_b, const ModelConfig& config) {
  const int64_t nope = config.qk_nope_head_dim, v = config.v_head_dim;
  return mapped_rows(std::move(kv_b), config.num_attention_heads * v,
                     [=](int64_t row) { return row / v * (nope + v) + nope + row % v; });
}

TensorRows kv_b_rows(TensorRows k_b, TensorRows v_b, const ModelConfig& config) {
  const int64_t nope = config.qk_nope_head_dim, v = config.v_head_dim, lora = config.kv_lora_rank;
  TensorRows rows;
  rows.dtype = k_b.dtype == v_b.dtype ? plain(k_b.dtype) : DType::f32;
  rows.rows = config.num_attention_heads * (nope + v);
  rows.cols = lora;
  rows.quantum = nope + v;
  rows.verify = both(k_b.verify, v_b.verify);
  rows.release = k_b.release;
  rows.read = [=](int64_t begin, int64_t end, float* out) {
    std::vector<float> head(static_cast<size_t>(nope * lora));  // [lora, nope] of the head at hand
    int64_t loaded = -1;
    for (int64_t row = begin; row < end; ++row, out += lora) {
      const int64_t h = row / (nope + v), i = row % (nope + v);
      if (i >= nope) {
        v_b.read(h * v + i - nope, h * v + i - nope + 1, out);
        continue;
      }
      if (h != loaded) {
        loaded = h;
        k_b.read(h * lora, (h + 1) * lora, head.data());
      }
      for (int64_t c = 0; c < lora; ++c) out[c] = head[static_cast<size_t>(c * nope + i)];
    }
  };
  return rows;
}

}  // namespace redoubt
