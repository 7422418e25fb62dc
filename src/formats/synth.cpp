#include "formats/synth.h"

#include <fmt/format.h>

#include <cstring>

#include "core/json.h"
#include "core/mapped_file.h"
#include "formats/blocks.h"
#include "formats/config_json.h"
#include "formats/gguf_names.h"
#include "formats/model_plan.h"
#include "formats/output_directory.h"
#include "formats/tensor_shapes.h"
#include "formats/tokenizer_keys.h"

namespace redoubt {
namespace {

constexpr float kDeviation = 0.02f;  // the published initializer_range

uint64_t mixed(uint64_t x) {  // splitmix64's finaliser: any two counters give unrelated numbers
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Nearly normal and cheap: the sum of four 16-bit numbers of one draw, centred and scaled. Value i of tensor `seed`.
float draw(uint64_t seed, uint64_t i) {
  const uint64_t bits = mixed(seed ^ mixed(i));
  const auto sum =
      static_cast<int64_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48));
  constexpr float kScale = 1.0f / (65536.0f * 0.57735f);  // four uniforms of variance 1/12 each
  return static_cast<float>(sum - 2 * 65535) * kScale * kDeviation;
}

TensorRows random_rows(const std::string& name, const std::vector<int64_t>& shape, uint64_t model_seed) {
  uint64_t seed = mixed(model_seed);
  for (const char c : name) seed = mixed(seed ^ static_cast<unsigned char>(c));
  TensorRows rows;
  rows.cols = shape.back();
  rows.rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows.rows *= shape[i];
  const bool norm = name.ends_with("norm.weight");
  rows.read = [seed, norm, cols = rows.cols](int64_t begin, int64_t end, float* out) {
    for (int64_t i = begin * cols; i < end * cols; ++i) *out++ = norm ? 1.0f : draw(seed, static_cast<uint64_t>(i));
  };
  return rows;
}

DType type_for(DType wanted, TensorRole role, int64_t cols, Container target) {
  if (role == TensorRole::kept) return DType::f32;
  if (wanted == DType::f8_e4m3) return role == TensorRole::matrix ? wanted : DType::bf16;
  if (target == Container::safetensors && info(wanted).block_elems > 1) return DType::bf16;
  if (cols % info(wanted).block_elems == 0) return wanted;
  return cols % 32 == 0 ? (wanted == DType::q6_k ? DType::q8_0 : DType::q5_0) : DType::bf16;
}

// GGUF's arrangement of the same tensors: experts stacked, k_b and v_b apart. Random needs no permutation.
void add_gguf(const NamedShape& entry, const ModelConfig& c, DType wanted, uint64_t seed, ModelPlan& plan) {
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    const DType type = type_for(wanted, role_of(entry.name, entry.shape), shape.back(), Container::gguf);
    TensorRows rows = random_rows(name, shape, seed);
    plan.tensors.push_back(output_tensor(name, type, std::move(shape), std::move(rows)));
  };
  const auto layer = hf_layer(entry.name);
  if (layer && layer->rest == "self_attn.kv_b_proj.weight") {
    add(fmt::format("blk.{}.attn_k_b.weight", layer->layer),
        {c.num_attention_heads, c.kv_lora_rank, c.qk_nope_head_dim});
    add(fmt::format("blk.{}.attn_v_b.weight", layer->layer), {c.num_attention_heads, c.v_head_dim, c.kv_lora_rank});
  } else if (layer && layer->rest.starts_with("mlp.experts.")) {
    if (!layer->rest.starts_with("mlp.experts.0.")) return;
    add(expert_stack_name(layer->layer, layer->rest.substr(std::strlen("mlp.experts.0."))),
        {c.n_routed_experts, entry.shape[0], entry.shape[1]});
  } else if (const auto name = gguf_name(entry.name)) {
    add(*name, entry.shape);
  }
}

}  // namespace

Result<ConvertReport> synthesize(const std::filesystem::path& config_path, const std::filesystem::path& out,
                                 const SynthOptions& options) {
  const Container target = container_of(out);
  if (target == Container::packed) return invalid("out: expected a .gguf file or a directory; convert packs it", "out");
  const DType wanted = options.type.value_or(DType::bf16);
  const bool fits =
      target == Container::gguf ? info(wanted).ggml_type >= 0 : info(wanted).block_elems == 1 && wanted != DType::f64;
  if (!can_encode(wanted) || !fits) {
    return invalid(fmt::format("type: {} cannot be written to {}", info(wanted).name, out.string()), "type");
  }
  REDOUBT_CHECK(check_output_is_new(out, target));
  REDOUBT_TRY(const std::string text, read_text_file(config_path, 1 << 20));
  REDOUBT_TRY(Json json, parse_json(text));
  REDOUBT_TRY(ModelConfig config, parse_model_config(json));
  if (config.name.empty()) config.name = out.stem().string();

  ModelPlan plan;
  for (const NamedShape& entry : tensor_shapes(config)) {
    if (target == Container::gguf) {
      add_gguf(entry, config, wanted, options.seed, plan);
      continue;
    }
    const DType type = type_for(wanted, role_of(entry.name, entry.shape), entry.shape.back(), target);
    TensorRows rows = random_rows(entry.name, entry.shape, options.seed);
    if (type == DType::f8_e4m3) {
      add_fp8_blocks(entry.name, entry.shape, std::move(rows), plan.tensors);
    } else {
      plan.tensors.push_back(output_tensor(entry.name, type, entry.shape, std::move(rows)));
    }
  }
  const WriteOptions write{.pool = options.pool, .progress = options.progress, .stop = options.stop};
  if (target == Container::gguf) {
    GgufMetadata metadata = config_to_gguf(config);
    metadata.emplace_back("general.quantization_version", uint32_t{2});
    std::filesystem::path folder = config_path.parent_path();
    if (folder.empty()) folder = ".";
    REDOUBT_CHECK(add_tokenizer_keys(SideFiles::in_directory(folder), config.vocab_size, {}, metadata, plan.notes));
    REDOUBT_CHECK(write_gguf(out, metadata, plan.tensors, write));
  } else {
    REDOUBT_TRY(OutputDirectory directory, OutputDirectory::create(out));
    json.erase("quantization_config");
    if (wanted == DType::f8_e4m3) {
      json["quantization_config"] = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {128, 128}}};
    }
    REDOUBT_CHECK(write_safetensors(out, plan.tensors, write));
    REDOUBT_CHECK(directory.finish(json.dump(2)));
  }
  ConvertReport report;
  report.tensors = static_cast<int64_t>(plan.tensors.size());
  report.notes = std::move(plan.notes);
  for (const OutputTensor& tensor : plan.tensors) report.bytes_out += tensor.bytes();
  return report;
}

}  // namespace redoubt
