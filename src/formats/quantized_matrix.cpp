#include "formats/quantized_matrix.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "formats/blocks.h"
#include "formats/quantized_rows.h"
#include "formats/shown.h"
#include "formats/tensor_table.h"

namespace redoubt {
namespace {

using Method = QuantizationConfig::Method;

Error mismatch(const TensorView& tensor, std::string_view expected) {
  return corrupt(fmt::format("tensor {}: expected {}, found {} [{}]", shown(tensor.name), expected,
                             info(tensor.dtype).name, fmt::join(tensor.shape, ", ")));
}

// The parts of one quantised matrix, each with the type and shape that it must have.
class Parts {
 public:
  Parts(const TensorTable& table, std::string_view prefix) : table_(table), prefix_(prefix) {}

  Result<const TensorView*> part(std::string_view suffix, std::initializer_list<DType> types,
                                 const std::vector<int64_t>& shape) {
    const TensorView* tensor = table_.find(fmt::format("{}.{}", prefix_, suffix));
    if (tensor == nullptr) {
      return corrupt(fmt::format("tensor {}.{}: expected beside its matrix, found none", prefix_, suffix));
    }
    if (std::ranges::find(types, tensor->dtype) == types.end() || tensor->shape != shape) {
      return mismatch(*tensor, fmt::format("{} [{}]", info(*types.begin()).name, fmt::join(shape, ", ")));
    }
    return tensor;
  }

 private:
  const TensorTable& table_;
  std::string_view prefix_;
};

bool is_positive_matrix(const TensorView& tensor) {
  return tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0;
}

// A view of type, shape and rows of a layout (quantized_rows.h).
template <class Layout>
TensorView view_of(DType dtype, std::shared_ptr<const Layout> layout, std::vector<std::span<const std::byte>> parts) {
  auto source = std::make_shared<RowSource>();
  source->columns = layout->columns;
  source->parts = std::move(parts);
  source->read = [dtype, layout](int64_t begin, int64_t end, std::byte* out) {
    write_rows(*layout, dtype, begin, end, reinterpret_cast<uint8_t*>(out));
  };
  TensorView view;
  view.dtype = dtype;
  view.shape = {layout->rows, layout->cols};
  view.source = std::move(source);
  return view;
}

// The group of each run of 32 columns, and the widest block of 128, 64, 32 columns that stays inside a group.
Result<int64_t> group_columns(std::string_view name, GroupedLayout& layout, const std::vector<int32_t>& group_of) {
  const int64_t cols = layout.cols;
  if (!std::ranges::is_sorted(group_of)) {
    layout.columns.resize(static_cast<size_t>(cols));
    std::iota(layout.columns.begin(), layout.columns.end(), 0);
    std::ranges::stable_sort(layout.columns, {}, [&](int32_t k) { return group_of[static_cast<size_t>(k)]; });
  }
  const auto group_at = [&](int64_t column) {
    return group_of[static_cast<size_t>(layout.columns.empty() ? column : layout.columns[static_cast<size_t>(column)])];
  };
  for (int64_t block = 128; block >= 32; block /= 2) {
    bool whole = cols % block == 0;
    for (int64_t column = 0; whole && column < cols; column += block) {
      whole = group_at(column) == group_at(column + block - 1);  // sorted, so all between are equal
    }
    if (!whole) continue;
    for (int64_t column = 0; column < cols; column += kPackedColumns) layout.group_of_unit.push_back(group_at(column));
    return block;
  }
  return unsupported(
      fmt::format("tensor {}: expected groups of a multiple of 32 columns, found others among {}", name, cols));
}

// The type whose blocks hold the codes exactly.
DType grouped_type(const GroupedLayout& layout, int bits, int64_t block) {
  const bool halves = layout.scales.all_are_halves(layout.groups * layout.rows);
  if (bits == 4 && halves) return block == 128 ? DType::g4_128 : block == 64 ? DType::g4_64 : DType::g4_32;
  if (bits == 4 || !layout.zeros_are(128)) return DType::g8_32;
  return block == 128 ? DType::i8_128 : DType::i8_32;
}

constexpr std::initializer_list<DType> kFloats{DType::f16, DType::bf16, DType::f32};

Result<TensorView> adopt_words(const QuantizationConfig& config, const TensorTable& table, std::string_view prefix,
                               const TensorView& codes) {
  Parts parts(table, prefix);
  if (codes.dtype != DType::i32 || !is_positive_matrix(codes)) return mismatch(codes, "i32 [rows, columns]");
  auto layout = std::make_shared<GroupedLayout>();
  const bool awq = config.method == Method::awq;
  const int64_t per_word = 32 / config.bits;
  layout->kind = awq ? GroupedLayout::Kind::awq : GroupedLayout::Kind::gptq;
  layout->bits = config.bits;
  layout->cols = awq ? codes.shape[0] : codes.shape[0] * per_word;
  layout->rows = awq ? codes.shape[1] * per_word : codes.shape[1];
  const int64_t group = config.group_size == -1 ? layout->cols : config.group_size;
  layout->groups = (layout->cols + group - 1) / group;
  if (layout->rows % per_word != 0) return mismatch(codes, fmt::format("a multiple of {} outputs", per_word));
  const TensorView *zeros = nullptr, *scales = nullptr;
  REDOUBT_TRY(zeros, parts.part("qzeros", {DType::i32}, {layout->groups, layout->rows / per_word}));
  REDOUBT_TRY(scales, parts.part("scales", kFloats, {layout->groups, layout->rows}));
  layout->codes = codes.data;
  layout->zeros = zeros->data;
  layout->zeros_less_one = config.zeros_less_one;
  layout->scales = {scales->dtype, scales->data};

  std::vector<std::span<const std::byte>> bytes{codes.data, zeros->data, scales->data};
  std::vector<int32_t> group_of(static_cast<size_t>(layout->cols));
  const std::string index_name = fmt::format("{}.g_idx", prefix);
  if (!awq && table.find(index_name) != nullptr) {
    REDOUBT_TRY(const TensorView* index, parts.part("g_idx", {DType::i32}, {layout->cols}));
    std::memcpy(group_of.data(), index->data.data(), index->data.size());
    for (const int32_t g : group_of) {
      if (g < 0 || g >= layout->groups) {
        return corrupt(
            fmt::format("tensor {}: expected groups 0 to {}, found {}", shown(index->name), layout->groups - 1, g));
      }
    }
    bytes.push_back(index->data);
  } else {
    for (int64_t k = 0; k < layout->cols; ++k) group_of[static_cast<size_t>(k)] = static_cast<int32_t>(k / group);
  }
  REDOUBT_TRY(const int64_t block, group_columns(shown(codes.name), *layout, group_of));
  const DType dtype = grouped_type(*layout, config.bits, block);
  return view_of<GroupedLayout>(dtype, std::move(layout), std::move(bytes));
}

Result<TensorView> adopt_int8(const QuantizationConfig&, const TensorTable& table, std::string_view prefix,
                              const TensorView& scales) {
  Parts parts(table, prefix);
  const TensorView* codes = table.find(fmt::format("{}.weight", prefix));
  if (codes == nullptr || codes->dtype != DType::i8 || !is_positive_matrix(*codes)) {
    return corrupt(fmt::format("tensor {}.weight: expected i8 [rows, columns] beside its weight_scale", prefix));
  }
  auto layout = std::make_shared<GroupedLayout>();
  layout->kind = GroupedLayout::Kind::bytes;
  layout->bits = 8;
  layout->rows = codes->shape[0];
  layout->cols = codes->shape[1];
  layout->codes = codes->data;
  const bool one = scales.elements() == 1;
  const bool by_row = scales.shape.size() == 1 && scales.shape[0] == layout->rows;
  const bool by_group = scales.shape.size() == 2 && scales.shape[0] == layout->rows && scales.shape[1] > 0 &&
                        layout->cols % scales.shape[1] == 0;
  if (std::ranges::find(kFloats, scales.dtype) == kFloats.end() || (!one && !by_row && !by_group)) {
    return mismatch(scales, fmt::format("f32 [{}, 1], [{}, groups] or [1]", layout->rows, layout->rows));
  }
  layout->groups = !one && by_group ? scales.shape[1] : 1;
  layout->one_scale = one;
  layout->scales = {scales.dtype, scales.data};
  std::vector<std::span<const std::byte>> bytes{codes->data, scales.data};
  if (table.find(fmt::format("{}.weight_zero_point", prefix)) != nullptr) {
    REDOUBT_TRY(const TensorView* zeros, parts.part("weight_zero_point", {DType::i8}, scales.shape));
    layout->zeros = zeros->data;
    bytes.push_back(zeros->data);
  }
  std::vector<int32_t> group_of(static_cast<size_t>(layout->cols));
  for (int64_t k = 0; k < layout->cols; ++k) {
    group_of[static_cast<size_t>(k)] = static_cast<int32_t>(k / (layout->cols / layout->groups));
  }
  REDOUBT_TRY(const int64_t block, group_columns(shown(codes->name), *layout, group_of));
  const DType dtype = grouped_type(*layout, 8, block);
  return view_of<GroupedLayout>(dtype, std::move(layout), std::move(bytes));
}

Result<int64_t> whole_number(const Json& state, const char* key, const TensorView& tensor) {
  const auto it = state.find(key);
  if (it == state.end() || !it->is_number_integer() || it->get<int64_t>() < 1 || it->get<int64_t>() > (1 << 24)) {
    return corrupt(fmt::format("tensor {}: {}: expected a positive integer", shown(tensor.name), key));
  }
  return it->get<int64_t>();
}

Result<TensorView> adopt_nf4(const QuantizationConfig&, const TensorTable& table, std::string_view prefix,
                             const TensorView& state_bytes) {
  Parts parts(table, prefix);
  const std::string_view text(reinterpret_cast<const char*>(state_bytes.data.data()), state_bytes.data.size());
  const auto parsed = parse_json(text, {.max_depth = 4, .max_bytes = 64 << 10});
  if (!parsed || !parsed->is_object()) return mismatch(state_bytes, "a JSON object");
  const Json& state = *parsed;
  const auto is = [&](const char* key, const Json& value) {
    const auto it = state.find(key);
    return it != state.end() && *it == value;
  };
  if (!is("quant_type", "nf4") || !is("blocksize", 64)) {
    return unsupported(fmt::format("tensor {}: expected quant_type nf4 and blocksize 64", shown(state_bytes.name)));
  }
  const auto shape = state.find("shape");
  if (shape == state.end() || !shape->is_array() || shape->size() != 2) {
    return corrupt(fmt::format("tensor {}: shape: expected two sizes", shown(state_bytes.name)));
  }
  auto layout = std::make_shared<Nf4Layout>();
  for (size_t i = 0; i < 2; ++i) {
    REDOUBT_TRY((i == 0 ? layout->rows : layout->cols), whole_number({{"shape", (*shape)[i]}}, "shape", state_bytes));
  }
  if (layout->cols % 64 != 0) {
    return unsupported(fmt::format("tensor {}: expected rows of a multiple of 64 values, found {}",
                                   shown(state_bytes.name), layout->cols));
  }
  const TensorView* codes = table.find(prefix);
  const int64_t blocks = layout->rows * layout->cols / 64;
  if (codes == nullptr || codes->dtype != DType::u8 || codes->elements() != 32 * blocks) {
    return corrupt(fmt::format("tensor {}: expected u8 [{}, 1]", shown(prefix), 32 * blocks));
  }
  layout->codes = codes->data;
  std::vector<std::span<const std::byte>> bytes{codes->data};
  REDOUBT_TRY(const TensorView* levels, parts.part("quant_map", {DType::f32}, {16}));
  if (std::memcmp(levels->data.data(), codec::kNf4Levels, sizeof codec::kNf4Levels) != 0) {
    return unsupported(fmt::format("tensor {}: expected the levels of nf4, found others", shown(levels->name)));
  }
  if (table.find(fmt::format("{}.nested_absmax", prefix)) == nullptr) {
    REDOUBT_TRY(const TensorView* absmax, parts.part("absmax", {DType::f32}, {blocks}));
    layout->absmax = absmax->data;
    bytes.push_back(absmax->data);
  } else {
    REDOUBT_TRY(layout->nested_block, whole_number(state, "nested_blocksize", state_bytes));
    const auto offset = state.find("nested_offset");
    if (offset == state.end() || !offset->is_number()) {
      return corrupt(fmt::format("tensor {}: nested_offset: expected a number", shown(state_bytes.name)));
    }
    layout->nested_offset = static_cast<float>(offset->get<double>());
    const int64_t nested = (blocks + layout->nested_block - 1) / layout->nested_block;
    REDOUBT_TRY(const TensorView* absmax, parts.part("absmax", {DType::u8}, {blocks}));
    REDOUBT_TRY(const TensorView* nested_absmax, parts.part("nested_absmax", {DType::f32}, {nested}));
    REDOUBT_TRY(const TensorView* nested_map, parts.part("nested_quant_map", {DType::f32}, {256}));
    layout->absmax = absmax->data;
    layout->nested_absmax = nested_absmax->data;
    layout->nested_map = nested_map->data;
    for (const TensorView* tensor : {absmax, nested_absmax, nested_map}) bytes.push_back(tensor->data);
  }
  return view_of<Nf4Layout>(DType::nf4, std::move(layout), std::move(bytes));
}

// How the matrices of one method are found: by the tensor whose name ends so, and what belongs to it.
struct Scheme {
  std::string_view key;  // behind the prefix
  std::initializer_list<std::string_view> parts;
  std::string_view name;  // of the matrix, behind the prefix
  Result<TensorView> (*adopt)(const QuantizationConfig&, const TensorTable&, std::string_view prefix,
                              const TensorView& key);
};
const Scheme* scheme_of(Method method) {
  static const Scheme kWords{".qweight", {".qweight", ".qzeros", ".scales", ".g_idx"}, ".weight", adopt_words};
  static const Scheme kInt8{".weight_scale", {".weight", ".weight_scale", ".weight_zero_point"}, ".weight", adopt_int8};
  static const Scheme kNf4{
      ".quant_state.bitsandbytes__nf4",
      {"", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state.bitsandbytes__nf4"},
      "",
      adopt_nf4};
  switch (method) {
    case Method::awq:
    case Method::gptq:
      return &kWords;
    case Method::int8:
      return &kInt8;
    case Method::nf4:
      return &kNf4;
    case Method::none:
    case Method::fp8:
      break;
  }
  return nullptr;
}

}  // namespace

int64_t RowSource::stored_bytes() const {
  int64_t bytes = 0;
  for (const auto& part : parts) bytes += static_cast<int64_t>(part.size());
  return bytes;
}

void read_values(const RowSource& source, DType dtype, int64_t cols, int64_t begin, int64_t end, float* out) {
  std::vector<std::byte> blocks(static_cast<size_t>((end - begin) * row_bytes(dtype, cols)));
  source.read(begin, end, blocks.data());
  decode_row(dtype, blocks.data(), {out, static_cast<size_t>((end - begin) * cols)});
  if (source.columns.empty()) return;
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t r = begin; r < end; ++r, out += cols) {
    std::copy_n(out, cols, row.begin());
    for (size_t j = 0; j < row.size(); ++j) out[source.columns[j]] = row[j];
  }
}

Status adopt_quantized(const QuantizationConfig& config, TensorTable& table) {
  const Scheme* scheme = scheme_of(config.method);
  if (scheme == nullptr) return ok();
  std::unordered_map<std::string_view, TensorView> adopted;  // by the name of the first part
  std::unordered_map<std::string_view, bool> taken;
  std::deque<std::string> names;
  for (const TensorView& tensor : table.tensors) {
    if (!tensor.name.ends_with(scheme->key)) continue;
    const std::string_view prefix = tensor.name.substr(0, tensor.name.size() - scheme->key.size());
    REDOUBT_TRY(TensorView view, scheme->adopt(config, table, prefix, tensor));
    for (const std::string_view part : scheme->parts) taken[names.emplace_back(fmt::format("{}{}", prefix, part))];
    adopted.emplace(tensor.name, std::move(view));
  }
  TensorTable result;
  for (TensorView& tensor : table.tensors) {
    if (const auto it = adopted.find(tensor.name); it != adopted.end()) {
      const std::string_view prefix = tensor.name.substr(0, tensor.name.size() - scheme->key.size());
      REDOUBT_CHECK(result.add(fmt::format("{}{}", prefix, scheme->name), it->second.dtype, it->second.shape, {}));
      result.tensors.back().source = it->second.source;
      result.weights_bytes += it->second.stored_bytes();
    } else if (!taken.contains(tensor.name)) {
      REDOUBT_CHECK(result.add(std::string(tensor.name), tensor.dtype, std::move(tensor.shape), tensor.data));
    }
  }
  table = std::move(result);
  return ok();
}

}  // namespace redoubt
