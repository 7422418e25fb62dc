// Directories that other programs quantised. Tiny random models are written here from the formats' definitions, beside
// the same model with its matrices dequantised to F32 by this file's own arithmetic: the reference table must compute
// the same logits from both, and the fast tables stay within their tolerance, computing with the packed form. One
// matrix is of bitsandbytes' own making (golden/adapters/nf4).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>
#include <random>
#include <sstream>

#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "formats/inspect.h"
#include "formats/packed_file.h"
#include "formats/packing.h"
#include "formats/tensor_rows.h"
#include "kernels/kernel_table.h"
#include "log_lines.h"
#include "model/model.h"
#include "npz.h"
#include "ops/linear.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A safetensors file, written by the container's definition.
class FileWriter {
 public:
  template <class T>
  void add(const std::string& name, const char* dtype, const std::vector<int64_t>& shape, const std::vector<T>& data) {
    std::string extents;
    for (const int64_t n : shape) extents += (extents.empty() ? "" : ",") + std::to_string(n);
    const size_t begin = buffer_.size(), bytes = data.size() * sizeof(T);
    buffer_.append(reinterpret_cast<const char*>(data.data()), bytes);
    header_ += (header_.empty() ? "" : ",") +
               ("\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + extents + "],\"data_offsets\":[" +
                std::to_string(begin) + "," + std::to_string(begin + bytes) + "]}");
  }
  void write(const fs::path& directory, const std::string& config) const {
    fs::create_directories(directory);
    std::ofstream file(directory / "model.safetensors", std::ios::binary);
    const std::string header = "{" + header_ + "}";
    const uint64_t size = header.size();
    file.write(reinterpret_cast<const char*>(&size), 8) << header << buffer_;
    std::ofstream(directory / "config.json") << config;
  }

 private:
  std::string header_, buffer_;
};

// mantissa * 2^exponent as float16 and bfloat16; mantissa below 2048 and 256.
uint16_t half_of(int mantissa, int exponent) {
  while (mantissa < 1024) {
    mantissa *= 2;
    --exponent;
  }
  return static_cast<uint16_t>((exponent + 10 + 15) << 10 | (mantissa - 1024));
}
uint16_t bfloat_of(int mantissa, int exponent) {
  const float value = std::ldexp(static_cast<float>(mantissa), exponent);
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>(bits >> 16);
}

struct Scheme {
  std::string name, config;  // config: quantization_config
  enum class Kind : uint8_t { awq, gptq, int8, nf4, nf4_nested } kind;
  int bits = 4;
  int64_t group = 128;
  bool symmetric = false, sorted = false, format2 = false;
  const char* scales = "F16";
};

// Source: QLoRA (arXiv:2305.14314), appendix E.
const std::vector<float>& nf4_levels() {
  static const std::vector<float> kLevels{-1.0f,
                                          -0.6961928009986877f,
                                          -0.5250730514526367f,
                                          -0.39491748809814453f,
                                          -0.28444138169288635f,
                                          -0.18477343022823334f,
                                          -0.09105003625154495f,
                                          0.0f,
                                          0.07958029955625534f,
                                          0.16093020141124725f,
                                          0.24611230194568634f,
                                          0.33791524171829224f,
                                          0.44070982933044434f,
                                          0.5626170039176941f,
                                          0.7229568362236023f,
                                          1.0f};
  return kLevels;
}

// Writes one matrix [rows, cols] in both forms.
class MatrixWriter {
 public:
  MatrixWriter(const Scheme& scheme, FileWriter& quantised, FileWriter& plain)
      : scheme_(scheme), quantised_(quantised), plain_(plain) {}

  void write(const std::string& name, int64_t rows, int64_t cols) {
    values_.assign(static_cast<size_t>(rows * cols), 0.0f);
    random_.seed(static_cast<uint32_t>(std::hash<std::string>{}(name)));
    if (scheme_.kind == Scheme::Kind::int8) {
      write_int8(name, rows, cols);
    } else if (scheme_.kind == Scheme::Kind::nf4 || scheme_.kind == Scheme::Kind::nf4_nested) {
      write_nf4(name, rows, cols);
    } else {
      write_words(name, rows, cols);
    }
    plain_.add(name + ".weight", "F32", {rows, cols}, values_);
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }
  float& value(int64_t row, int64_t col, int64_t cols) { return values_[static_cast<size_t>(row * cols + col)]; }

  struct Scales {
    std::vector<float> values;
    std::vector<uint16_t> halves, bfloats;
  };
  // So that values of the scheme's bits are about 1 / sqrt(cols).
  Scales random_scales(int64_t n, int64_t cols) {
    Scales s;
    const int exponent = static_cast<int>(
        std::lround(std::log2(3.0 / (std::sqrt(static_cast<double>(cols)) * (1 << scheme_.bits) * 160.0))));
    for (int64_t i = 0; i < n; ++i) {
      const int mantissa = 100 + below(120);
      s.values.push_back(std::ldexp(static_cast<float>(mantissa), exponent));
      s.halves.push_back(half_of(mantissa, exponent));
      s.bfloats.push_back(bfloat_of(mantissa, exponent));
    }
    return s;
  }
  void add_scales(const std::string& name, const std::vector<int64_t>& shape, const Scales& s) {
    if (std::string(scheme_.scales) == "F32") {
      quantised_.add(name, "F32", shape, s.values);
    } else {
      quantised_.add(name, scheme_.scales, shape, std::string(scheme_.scales) == "F16" ? s.halves : s.bfloats);
    }
  }

  void write_words(const std::string& name, int64_t rows, int64_t cols) {
    const bool awq = scheme_.kind == Scheme::Kind::awq;
    const int bits = scheme_.bits, per_word = 32 / bits, top = 1 << bits;
    const int64_t group = scheme_.group == -1 ? cols : scheme_.group, groups = (cols + group - 1) / group;
    const Scales scales = random_scales(groups * rows, cols);
    std::vector<int> zeros(static_cast<size_t>(groups * rows), top / 2);
    if (!scheme_.symmetric) {
      for (int& zero : zeros) zero = top / 2 - top / 4 + below(top / 2);
    }
    std::vector<int32_t> group_of(static_cast<size_t>(cols));
    for (int64_t k = 0; k < cols; ++k) group_of[static_cast<size_t>(k)] = static_cast<int32_t>(k / group);
    if (scheme_.sorted) {  // q, k and v are quantised with the same inputs and take them in the same order
      const size_t at = name.rfind(".self_attn.");
      const bool together = at != std::string::npos && name.find("o_proj") == std::string::npos;
      std::mt19937 order(static_cast<uint32_t>(std::hash<std::string>{}(together ? name.substr(0, at) : name)));
      std::shuffle(group_of.begin(), group_of.end(), order);
    }
    std::vector<uint32_t> words(static_cast<size_t>(rows * cols / per_word)), zero_words(zeros.size() / per_word);
    static constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // the column in nibble i
    const auto awq_nibble = [](int64_t column) { return std::find(kAwqOrder, kAwqOrder + 8, column % 8) - kAwqOrder; };
    for (int64_t k = 0; k < cols; ++k) {
      for (int64_t n = 0; n < rows; ++n) {
        const auto g = static_cast<size_t>(group_of[static_cast<size_t>(k)] * rows + n);
        const int code = below(top);
        value(n, k, cols) = static_cast<float>(static_cast<double>(scales.values[g]) * (code - zeros[g]));
        if (awq) {
          words[static_cast<size_t>(k * (rows / 8) + n / 8)] |= static_cast<uint32_t>(code) << (4 * awq_nibble(n));
        } else {
          words[static_cast<size_t>(k / per_word * rows + n)] |= static_cast<uint32_t>(code) << (bits * (k % per_word));
        }
      }
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t n = 0; n < rows; ++n) {
        const int zero = zeros[static_cast<size_t>(g * rows + n)] - (awq || scheme_.format2 ? 0 : 1);
        const auto shift = awq ? 4 * awq_nibble(n) : bits * (n % per_word);
        zero_words[static_cast<size_t>(g * (rows / per_word) + n / per_word)] |= static_cast<uint32_t>(zero) << shift;
      }
    }
    quantised_.add(name + ".qweight", "I32",
                   awq ? std::vector<int64_t>{cols, rows / 8} : std::vector<int64_t>{cols / per_word, rows}, words);
    quantised_.add(name + ".qzeros", "I32", {groups, rows / per_word}, zero_words);
    add_scales(name + ".scales", {groups, rows}, scales);
    if (!awq) quantised_.add(name + ".g_idx", "I32", {cols}, group_of);
  }

  void write_int8(const std::string& name, int64_t rows, int64_t cols) {
    const int64_t groups = scheme_.group == -1 ? 1 : cols / scheme_.group;
    const Scales scales = random_scales(rows * groups, cols);
    std::vector<int8_t> codes(values_.size()), zeros(static_cast<size_t>(rows * groups), 0);
    if (!scheme_.symmetric) {
      for (int8_t& zero : zeros) zero = static_cast<int8_t>(below(40) - 20);
    }
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < cols; ++k) {
        const auto g = static_cast<size_t>(n * groups + k / (cols / groups)), at = static_cast<size_t>(n * cols + k);
        codes[at] = static_cast<int8_t>(below(256) - 128);
        values_[at] = static_cast<float>(static_cast<double>(scales.values[g]) * (codes[at] - zeros[g]));
      }
    }
    quantised_.add(name + ".weight", "I8", {rows, cols}, codes);
    add_scales(name + ".weight_scale", {rows, groups}, scales);
    if (!scheme_.symmetric) quantised_.add(name + ".weight_zero_point", "I8", {rows, groups}, zeros);
  }

  void write_nf4(const std::string& name, int64_t rows, int64_t cols) {
    const int64_t blocks = rows * cols / 64, nested = (blocks + 255) / 256;
    std::vector<float> absmax(static_cast<size_t>(blocks)), map(256), nested_absmax(static_cast<size_t>(nested));
    std::vector<uint8_t> absmax_codes(static_cast<size_t>(blocks)), bytes(values_.size() / 2);
    const double unit = 2.0 / std::sqrt(static_cast<double>(cols));
    for (int i = 0; i < 256; ++i) map[static_cast<size_t>(i)] = static_cast<float>(i - 128) / 128.0f;
    for (float& v : nested_absmax) v = static_cast<float>(unit * (0.2 + 0.001 * below(100)));
    const auto offset = static_cast<float>(unit * 0.6);
    for (size_t b = 0; b < absmax.size(); ++b) {
      absmax_codes[b] = static_cast<uint8_t>(below(256));
      absmax[b] = map[absmax_codes[b]] * nested_absmax[b / 256] + offset;
    }
    for (size_t i = 0; i < values_.size(); ++i) {
      const int code = below(16);
      bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] | code << (i % 2 == 0 ? 4 : 0));
      values_[i] = nf4_levels()[static_cast<size_t>(code)] * absmax[i / 64];
    }
    quantised_.add(name + ".weight", "U8", {rows * cols / 2, 1}, bytes);
    quantised_.add(name + ".weight.quant_map", "F32", {16}, nf4_levels());
    std::string state = R"({"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[)" + std::to_string(rows) +
                        "," + std::to_string(cols) + "]";
    if (scheme_.kind == Scheme::Kind::nf4_nested) {
      std::ostringstream text;
      text.precision(9);
      text << offset;
      state += R"(,"nested_blocksize":256,"nested_dtype":"float32","nested_offset":)" + text.str();
      quantised_.add(name + ".weight.absmax", "U8", {blocks}, absmax_codes);
      quantised_.add(name + ".weight.nested_absmax", "F32", {nested}, nested_absmax);
      quantised_.add(name + ".weight.nested_quant_map", "F32", {256}, map);
    } else {
      quantised_.add(name + ".weight.absmax", "F32", {blocks}, absmax);
    }
    state += "}";
    quantised_.add(name + ".weight.quant_state.bitsandbytes__nf4", "U8", {static_cast<int64_t>(state.size())},
                   std::vector<uint8_t>(state.begin(), state.end()));
  }

  const Scheme& scheme_;
  FileWriter &quantised_, &plain_;
  std::vector<float> values_;
  std::mt19937 random_;
};

constexpr const char* kDense =
    R"("model_type":"qwen2","vocab_size":96,"hidden_size":128,"intermediate_size":256,"num_hidden_layers":2,
"num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":256,"rms_norm_eps":1e-6,"hidden_act":"silu",
"tie_word_embeddings":false,"rope_theta":10000.0)";
// All experts of a token: a choice among them would hang on the rounding of activations.
constexpr const char* kDeepSeek =
    R"("model_type":"deepseek_v2","vocab_size":96,"hidden_size":128,"intermediate_size":256,"num_hidden_layers":2,
"num_attention_heads":4,"num_key_value_heads":4,"max_position_embeddings":256,"rms_norm_eps":1e-6,"hidden_act":"silu",
"tie_word_embeddings":false,"rope_theta":10000.0,"q_lora_rank":null,"kv_lora_rank":64,"qk_nope_head_dim":32,
"qk_rope_head_dim":16,"v_head_dim":32,"n_routed_experts":4,"n_shared_experts":1,"num_experts_per_tok":4,
"moe_intermediate_size":64,"first_k_dense_replace":1,"moe_layer_freq":1,"n_group":1,"topk_group":1,
"norm_topk_prob":false,"routed_scaling_factor":1.0,"scoring_func":"softmax","topk_method":"greedy")";

// The same model twice: DIR/quantised and DIR/plain.
void write_models(const Scheme& scheme, bool deepseek, const test::TemporaryFolder& directory) {
  FileWriter quantised, plain;
  MatrixWriter matrices(scheme, quantised, plain);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  const auto floats = [&](const std::string& name, const std::vector<int64_t>& shape, float scale, float mean = 0) {
    int64_t n = 1;
    for (const int64_t extent : shape) n *= extent;
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = mean + scale * normal(random);
    quantised.add(name, "F32", shape, values);
    plain.add(name, "F32", shape, values);
  };
  const auto mlp = [&](const std::string& at, int64_t inner) {
    matrices.write(at + ".gate_proj", inner, 128);
    matrices.write(at + ".up_proj", inner, 128);
    matrices.write(at + ".down_proj", 128, inner);
  };
  floats("model.embed_tokens.weight", {96, 128}, 1.0f);
  floats("lm_head.weight", {96, 128}, 0.1f);
  floats("model.norm.weight", {128}, 0.1f, 1.0f);
  for (const int layer : {0, 1}) {
    const std::string at = "model.layers." + std::to_string(layer), attention = at + ".self_attn.";
    floats(at + ".input_layernorm.weight", {128}, 0.1f, 1.0f);
    floats(at + ".post_attention_layernorm.weight", {128}, 0.1f, 1.0f);
    if (deepseek) {
      matrices.write(attention + "q_proj", 4 * 48, 128);
      matrices.write(attention + "kv_a_proj_with_mqa", 80, 128);
      floats(attention + "kv_a_layernorm.weight", {64}, 0.1f, 1.0f);
      matrices.write(attention + "kv_b_proj", 4 * 64, 64);
      matrices.write(attention + "o_proj", 128, 128);
    } else {
      for (const auto& [part, rows] : {std::pair{"q_proj", 128}, {"k_proj", 64}, {"v_proj", 64}}) {
        matrices.write(attention + part, rows, 128);
        floats(attention + part + ".bias", {rows}, 0.1f);
      }
      matrices.write(attention + "o_proj", 128, 128);
    }
    if (!deepseek || layer == 0) {
      mlp(at + ".mlp", 256);
      continue;
    }
    floats(at + ".mlp.gate.weight", {4, 128}, 0.1f);
    for (int e = 0; e < 4; ++e) mlp(at + ".mlp.experts." + std::to_string(e), 64);
    mlp(at + ".mlp.shared_experts", 64);
  }
  const std::string config = deepseek ? kDeepSeek : kDense;
  quantised.write(directory / "quantised", "{" + config + ",\"quantization_config\":" + scheme.config + "}");
  plain.write(directory / "plain", "{" + config + "}");
}

struct Answer {
  std::vector<float> logits;
  int64_t private_weights_bytes = 0;
};

Answer answer_of(const fs::path& path, const std::string& kernels) {
  auto checkpoint = Checkpoint::open(path);
  if (!checkpoint) throw std::runtime_error(checkpoint.error().message);
  auto model = Model::load(*checkpoint, {.kernels = kernels, .threads = 2});
  if (!model) throw std::runtime_error(model.error().message);
  if (!(*model)->reserve_cache(4)) throw std::runtime_error("no cache");
  const std::vector<int32_t> tokens{5, 17, 3, 90, 41, 41, 8, 62, 77, 1, 30, 12}, blocks{2, 0, 1, 3};
  std::vector<float> logits(tokens.size() * 96);
  const SequenceChunk all{tokens, 0, AttentionForm::prefill, blocks, static_cast<int64_t>(tokens.size())};
  (*model)->step({&all, 1}, logits);
  const int32_t next = 9;
  std::vector<float> last(96);
  const SequenceChunk one{{&next, 1}, static_cast<int64_t>(tokens.size()), AttentionForm::decode, blocks, 1};
  (*model)->step({&one, 1}, last);
  logits.insert(logits.end(), last.begin(), last.end());
  return {std::move(logits), (*model)->private_weights_bytes()};
}

std::vector<float> logits_of(const fs::path& path, const std::string& kernels) {
  return answer_of(path, kernels).logits;
}

// What a table's packed kernels take of the quantised matrices: all but kv_b_proj (docs/decisions/0006).
int64_t packed_bytes(const fs::path& path, const KernelTable& table) {
  const PackedKernels kernels = choose_packed(table.packed());
  const Checkpoint checkpoint = Checkpoint::open(path).value();
  int64_t bytes = 0;
  for (const TensorView& tensor : checkpoint.tensors()) {
    if (tensor.source == nullptr || tensor.name.ends_with("kv_b_proj.weight")) continue;
    const int64_t cols = tensor.shape.back(), rows = tensor.elements() / cols;
    if (packed_input(kernels, tensor.dtype) == PackedInput::none || !can_pack(tensor.dtype, cols)) continue;
    bytes += (packed_groups(rows) * packed_group_bytes(tensor.dtype, cols) + 63) / 64 * 64;
  }
  return bytes;
}

float deviation(const std::vector<float>& found, const std::vector<float>& expected) {
  float worst = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    worst = std::max(worst, std::fabs(found[i] - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  return worst / largest;
}

std::vector<Scheme> schemes() {
  using Kind = Scheme::Kind;
  const std::string awq = R"({"quant_method":"awq","bits":4,"version":"gemm","zero_point":true,"group_size":)";
  const std::string gptq = R"({"quant_method":"gptq","damp_percent":0.1,"group_size":)";
  const std::string int8_head =
      R"({"quant_method":"compressed-tensors","format":"int-quantized","ignore":["lm_head"],"kv_cache_scheme":null,
"config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":8,"type":"int","dynamic":false,)";
  const std::string int8_tail =
      R"("actorder":null},"input_activations":{"num_bits":8,"type":"int","strategy":"token","dynamic":true},
"output_activations":null}}})";
  const std::string nf4 =
      R"({"quant_method":"bitsandbytes","load_in_4bit":true,"load_in_8bit":false,"bnb_4bit_quant_type":"nf4",
"bnb_4bit_compute_dtype":"bfloat16","bnb_4bit_quant_storage":"uint8"})";
  return {
      {"awq_128", awq + "128}", Kind::awq},
      {"awq_64", awq + "64}", Kind::awq, 4, 64},
      {"awq_32", awq + "32}", Kind::awq, 4, 32},
      {"awq_whole", awq + "-1}", Kind::awq, 4, -1},
      {"gptq", gptq + R"(128,"bits":4,"sym":true,"desc_act":false})", Kind::gptq, 4, 128, true},
      {"gptq_sorted", gptq + R"(32,"bits":4,"desc_act":true,"checkpoint_format":"gptq"})", Kind::gptq, 4, 32, false,
       true},
      {"gptq_format2", gptq + R"(64,"bits":4,"desc_act":true,"checkpoint_format":"gptq_v2"})", Kind::gptq, 4, 64, false,
       true, true},
      {"gptq_bf16", gptq + R"(64,"bits":4,"desc_act":false})", Kind::gptq, 4, 64, false, false, false, "BF16"},
      {"gptq_8", gptq + R"(128,"bits":8,"sym":true})", Kind::gptq, 8, 128, true},
      {"gptq_8_sorted", gptq + R"(32,"bits":8,"desc_act":true})", Kind::gptq, 8, 32, false, true},
      {"int8_rows", int8_head + R"("strategy":"channel","symmetric":true,)" + int8_tail, Kind::int8, 8, -1, true, false,
       false, "BF16"},
      {"int8_groups", int8_head + R"("strategy":"group","group_size":32,"symmetric":false,)" + int8_tail, Kind::int8, 8,
       32, false, false, false, "F32"},
      {"nf4", nf4, Kind::nf4},
      {"nf4_nested", nf4, Kind::nf4_nested},
  };
}

class QuantisedDirectory : public testing::TestWithParam<std::tuple<Scheme, bool>> {};

TEST_P(QuantisedDirectory, ComputesWhatItsValuesSay) {
  const auto& [scheme, deepseek] = GetParam();
  const test::TemporaryFolder directory;
  write_models(scheme, deepseek, directory);
  const std::vector<float> expected = logits_of(directory / "plain", "reference");
  EXPECT_LT(deviation(logits_of(directory / "quantised", "reference"), expected), 1e-5f);
  for (const KernelTable* table : kernel_tables()) {
    if (table == &reference_kernels() || !table->supported()) continue;
    const Answer answer = answer_of(directory / "quantised", std::string(table->name));
    EXPECT_LT(deviation(answer.logits, expected), deepseek ? 6e-2f : 2e-2f) << table->name;
    const int64_t packed = packed_bytes(directory / "quantised", *table);
    EXPECT_EQ(packed > 0, choose_packed(table->packed()).supported()) << table->name;
    EXPECT_EQ(answer.private_weights_bytes, packed) << table->name;
  }
}

// Blocks, and the order of their columns, travel in a packed file.
TEST_P(QuantisedDirectory, APackedFileOfItGivesTheSameBits) {
  const auto& [scheme, deepseek] = GetParam();
  const test::TemporaryFolder directory;
  write_models(scheme, deepseek, directory);
  const fs::path packed = directory / "model.redoubt-packed";
  const auto made = convert(directory / "quantised", packed);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(inspect(packed)->quantization, inspect(directory / "quantised")->quantization);
  EXPECT_EQ(logits_of(packed, "reference"), logits_of(directory / "quantised", "reference"));
  for (const KernelTable* table : kernel_tables()) {
    if (table == &reference_kernels() || !table->supported()) continue;
    const std::string name(table->name);
    EXPECT_EQ(logits_of(packed, name), logits_of(directory / "quantised", name)) << name;
  }
}

// Nearly the stored size in memory is nearly the stored size of the blocks: inspect counts both.
TEST_P(QuantisedDirectory, IsInspectedAndConvertedToItsValues) {
  const auto& [scheme, deepseek] = GetParam();
  const test::TemporaryFolder directory;
  write_models(scheme, deepseek, directory);
  const auto summary = inspect(directory / "quantised"), plain = inspect(directory / "plain");
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_FALSE(summary->quantization.empty());
  EXPECT_EQ(summary->parameters, plain->parameters);
  EXPECT_LT(summary->weights_bytes, plain->weights_bytes);
  const auto converted = convert(directory / "quantised", directory / "converted");
  ASSERT_TRUE(converted) << converted.error().message;
  const auto one = Checkpoint::open(directory / "converted"), two = Checkpoint::open(directory / "plain");
  ASSERT_TRUE(one) << one.error().message;
  for (const TensorView& tensor : two->tensors()) {
    const TensorView* same = one->find(tensor.name);
    ASSERT_NE(same, nullptr) << tensor.name;
    ASSERT_EQ(same->shape, tensor.shape);
    ASSERT_EQ(same->dtype, DType::f32);
    for (size_t i = 0; i < tensor.data.size() / 4; ++i) {
      float found, expected;
      std::memcpy(&found, same->data.data() + 4 * i, 4);
      std::memcpy(&expected, tensor.data.data() + 4 * i, 4);
      ASSERT_EQ(found, expected) << tensor.name << " " << i;
    }
  }
}

TEST(QuantisedDirectories, AreNeverKeptAndThatIsSaid) {
  const test::TemporaryFolder directory;
  write_models(schemes().front(), false, directory);
  const KernelTable& kernels = *choose_kernels("auto").value();
  if (!choose_packed(kernels.packed()).supported()) GTEST_SKIP() << "the kernels of this machine have no packed form";
  const Checkpoint checkpoint = Checkpoint::open(directory / "quantised").value();
  for (const PackedMode mode : {PackedMode::only_memory, PackedMode::automatic}) {
    const test::LogLines log;
    ModelOptions options{.threads = 2};
    options.packed = {.mode = mode, .folder = directory / "cache", .least_bytes = 0};
    Model::load(checkpoint, options).value()->wait_until_kept();
    EXPECT_EQ(log.count("the packed weights are not kept: "), mode == PackedMode::automatic ? 1 : 0) << log.text();
    EXPECT_EQ(log.count("another program's layout (awq"), mode == PackedMode::automatic ? 1 : 0) << log.text();
  }
  EXPECT_FALSE(fs::exists(kept_packed_path(directory / "quantised")));
  EXPECT_FALSE(fs::exists(directory / "cache"));
}

// A matrix [96, 320] that bitsandbytes packed, its absolute maxima plain and quantised again, and what it makes of
// both.
TEST(QuantisedDirectories, Nf4OfBitsandbytesHasItsValuesToTheBit) {
  const fs::path data = test::test_data() / "golden/adapters/nf4/golden.npz";
  if (!fs::exists(data)) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/adapters";
  test::Npz golden = test::read_npz(data);
  for (const bool nested : {false, true}) {
    const test::TemporaryFolder directory;
    FileWriter file;
    std::string state = R"({"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[96,320])";
    file.add("X.weight.quant_map", "F32", {16}, nf4_levels());
    if (nested) {
      state += fmt::format(R"(,"nested_blocksize":256,"nested_dtype":"float32","nested_offset":{})",
                           golden.at("nested_offset").as<float>().at(0));
      file.add("X.weight", "U8", {15360, 1}, golden.at("nested_packed").bytes);
      file.add("X.weight.absmax", "U8", {480}, golden.at("nested_absmax_q").bytes);
      file.add("X.weight.nested_absmax", "F32", {2}, golden.at("nested_absmax2").as<float>());
      file.add("X.weight.nested_quant_map", "F32", {256}, golden.at("nested_map").as<float>());
    } else {
      file.add("X.weight", "U8", {15360, 1}, golden.at("plain_packed").bytes);
      file.add("X.weight.absmax", "F32", {480}, golden.at("plain_absmax").as<float>());
    }
    state += "}";
    file.add("X.weight.quant_state.bitsandbytes__nf4", "U8", {static_cast<int64_t>(state.size())},
             std::vector<uint8_t>(state.begin(), state.end()));
    file.write(directory.path(),
               "{" + std::string(kDense) + R"(,"quantization_config":)" + schemes().back().config + "}");
    const Checkpoint checkpoint = Checkpoint::open(directory.path()).value();
    const TensorView* tensor = checkpoint.find("X.weight");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->dtype, DType::nf4);
    EXPECT_EQ(tensor->shape, (std::vector<int64_t>{96, 320}));
    std::vector<float> values(96 * 320);
    rows_of(checkpoint, *tensor).read(0, 96, values.data());
    EXPECT_EQ(values, golden.at(nested ? "nested_dequant" : "plain_dequant").as<float>()) << nested;
  }
}

// What Checkpoint::open says of a directory with this quantization_config and these tensors.
std::string refusal(const std::string& quantization, const std::function<void(FileWriter&)>& add) {
  const test::TemporaryFolder directory;
  FileWriter file;
  add(file);
  file.write(directory.path(), "{" + std::string(kDense) + ",\"quantization_config\":" + quantization + "}");
  const auto opened = Checkpoint::open(directory.path());
  if (opened) return "opened";
  EXPECT_EQ(opened.error().message.find('\n'), std::string::npos);
  return opened.error().message;
}

TEST(QuantisedDirectories, UnknownSettingsAreRefusedByName) {
  const auto none = [](FileWriter& file) { file.add("x", "F32", {1}, std::vector<float>{1}); };
  const auto says = [&](const char* config, const char* part) { EXPECT_THAT(refusal(config, none), HasSubstr(part)); };
  says(R"({"quant_method":"hqq"})", "quant_method: expected fp8, awq, gptq, compressed-tensors or bitsandbytes");
  says(R"({"quant_method":7})", "quant_method");
  says("7", "expected an object");
  says(R"({"quant_method":"awq","bits":3,"group_size":128})", "bits: expected 4, found '3'");
  says(R"({"quant_method":"awq","bits":4,"group_size":128,"version":"gemv"})", "version: expected gemm");
  says(R"({"quant_method":"awq","bits":4,"group_size":128,"zero_point":false})", "zero_point");
  says(R"({"quant_method":"awq","bits":4,"group_size":0})", "group_size");
  says(R"({"quant_method":"awq","bits":4})", "q_group_size");
  says(R"({"quant_method":"gptq","bits":3,"group_size":128})", "bits: expected 4 or 8");
  says(R"({"quant_method":"gptq","bits":4,"group_size":1e30})", "group_size");
  says(R"({"quant_method":"gptq","bits":4,"group_size":16})", "group_size");
  says(R"({"quant_method":"gptq","bits":4,"group_size":128,"checkpoint_format":"marlin"})", "checkpoint_format");
  says(R"({"quant_method":"gptq","bits":4,"group_size":128,"dynamic":{"+:x":{"bits":8}}})", "dynamic");
  says(R"({"quant_method":"compressed-tensors","format":"float-quantized"})", "format: expected int-quantized");
  says(R"({"quant_method":"compressed-tensors","format":"int-quantized"})", "config_groups");
  says(
      R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{"a":{"weights":{"num_bits":4}}}})",
      "weights.num_bits");
  says(
      R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{"a":{"weights":{"num_bits":8},
"input_activations":{"num_bits":8,"dynamic":false}}}})",
      "input_activations.dynamic");
  says(R"({"quant_method":"bitsandbytes","load_in_8bit":true})", "load_in_4bit");
  says(R"({"quant_method":"bitsandbytes","load_in_4bit":true})", "bnb_4bit_quant_type: expected nf4, found nothing");
}

TEST(QuantisedDirectories, PartsThatDoNotFitAreRefusedByTensor) {
  const std::string gptq = R"({"quant_method":"gptq","bits":4,"group_size":32})";
  const std::vector<int32_t> words(64, 0);
  const auto with = [&](const std::string& name, std::vector<int64_t> shape, int32_t value) {
    return refusal(gptq, [&](FileWriter& file) {  // X [8, 64]
      const auto add = [&](const std::string& part, const char* dtype, std::vector<int64_t> extents, auto values) {
        if (part == name && shape.empty()) return;
        if (part == name) extents = shape;
        int64_t n = 1;
        for (const int64_t extent : extents) n *= extent;
        values.resize(static_cast<size_t>(n));
        file.add("X." + part, dtype, extents, values);
      };
      add("qweight", "I32", {8, 8}, words);
      add("qzeros", "I32", {2, 1}, words);
      add("scales", "F16", {2, 8}, std::vector<uint16_t>(16, 0x3c00));
      std::vector<int32_t> index(64, 0);
      std::fill(index.begin() + 32, index.end(), 1);
      index[7] = value;
      add("g_idx", "I32", {64}, index);
    });
  };
  EXPECT_EQ(with("", {}, 0), "opened");
  EXPECT_THAT(with("", {}, 2), HasSubstr("tensor 'X.g_idx': expected groups 0 to 1, found 2"));
  EXPECT_THAT(with("", {}, -1), HasSubstr("found -1"));
  EXPECT_THAT(with("", {}, 1), HasSubstr("expected groups of a multiple of 32 columns"));
  EXPECT_THAT(with("g_idx", {63}, 0), HasSubstr("tensor 'X.g_idx': expected i32 [64]"));
  EXPECT_THAT(with("scales", {1, 8}, 0), HasSubstr("tensor 'X.scales': expected f16 [2, 8], found f16 [1, 8]"));
  EXPECT_THAT(with("scales", {}, 0), HasSubstr("tensor X.scales"));
  EXPECT_THAT(with("qzeros", {2, 2}, 0), HasSubstr("tensor 'X.qzeros'"));
  EXPECT_THAT(with("qweight", {8}, 0), HasSubstr("tensor 'X.qweight'"));
  EXPECT_THAT(with("qweight", {0, 1048576}, 0), HasSubstr("tensor 'X.qweight'"));
  EXPECT_THAT(with("qweight", {8, 7}, 0), HasSubstr("tensor 'X.qweight': expected a multiple of 8 outputs"));

  const std::string nf4 = R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4"})";
  const auto state = [&](const std::string& json) {
    return refusal(nf4, [&](FileWriter& file) {
      file.add("X.weight", "U8", {64, 1}, std::vector<uint8_t>(64));
      file.add("X.weight.absmax", "F32", {2}, std::vector<float>(2));
      file.add("X.weight.quant_map", "F32", {16}, std::vector<float>(16));
      file.add("X.weight.quant_state.bitsandbytes__nf4", "U8", {static_cast<int64_t>(json.size())},
               std::vector<uint8_t>(json.begin(), json.end()));
    });
  };
  const std::string head = R"({"quant_type":"nf4","blocksize":64,"shape":)";
  EXPECT_THAT(state("{"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(state(R"({"quant_type":"fp4","blocksize":64})"), HasSubstr("expected quant_type nf4"));
  EXPECT_THAT(state(head + "[2]}"), HasSubstr("shape: expected two sizes"));
  EXPECT_THAT(state(head + "[2,-64]}"), HasSubstr("shape: expected a positive integer"));
  EXPECT_THAT(state(head + "[2,65]}"), HasSubstr("a multiple of 64 values"));
  EXPECT_THAT(state(head + "[4,64]}"), HasSubstr("tensor 'X.weight': expected u8 [128, 1]"));
  EXPECT_THAT(state(head + "[2,64]}"), HasSubstr("expected the levels of nf4"));
}

INSTANTIATE_TEST_SUITE_P(Schemes, QuantisedDirectory, testing::Combine(testing::ValuesIn(schemes()), testing::Bool()),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + (std::get<1>(info.param) ? "_deepseek" : "_dense");
                         });

}  // namespace
}  // namespace redoubt
