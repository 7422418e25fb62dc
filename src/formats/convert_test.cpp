#include "formats/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "altered_model.h"
#include "core/mapped_file.h"
#include "formats/blocks.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/model_plan.h"
#include "formats/model_writer.h"
#include "formats/quantize.h"
#include "formats/tensor_rows.h"
#include "npz.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> golden_models() {
  std::vector<fs::path> models;
  const fs::path data = test::test_data();
  if (data.empty()) return models;
  for (const auto& entry : fs::directory_iterator(data / "golden/models")) models.push_back(entry.path());
  return models;
}

#define SKIP_WITHOUT_MODELS(models) \
  if ((models).empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models"

std::vector<float> values_of(const Checkpoint& model, const TensorView& tensor) {
  const TensorRows rows = rows_of(model, tensor);
  std::vector<float> values(static_cast<size_t>(rows.rows * rows.cols));
  rows.read(0, rows.rows, values.data());
  return values;
}

Checkpoint opened(const fs::path& path) {
  auto model = Checkpoint::open(path);
  EXPECT_TRUE(model) << model.error().message;
  return std::move(*model);
}

void expect_converted(const fs::path& in, const fs::path& out, const ConvertOptions& options = {}) {
  const auto report = convert(in, out, options);
  ASSERT_TRUE(report) << in << ": " << report.error().message;
}

bool has_fp8(const Checkpoint& model) {
  return std::ranges::any_of(model.tensors(), [](const TensorView& t) { return t.dtype == DType::f8_e4m3; });
}

TEST(Convert, GoldenModelsReturnToTheBit) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  for (const fs::path& path : models) {
    test::TemporaryFolder folder;
    expect_converted(path, folder / "model.gguf");
    expect_converted(folder / "model.gguf", folder / "back");
    const Checkpoint before = opened(path), after = opened(folder / "back");
    size_t compared = 0;
    for (const TensorView& tensor : before.tensors()) {
      if (tensor.name.ends_with("_scale_inv")) continue;
      const TensorView* back = after.find(tensor.name);
      ASSERT_NE(back, nullptr) << path << " " << tensor.name;
      ASSERT_EQ(back->shape, tensor.shape) << tensor.name;
      if (tensor.dtype == DType::f8_e4m3) {
        ASSERT_EQ(back->dtype, DType::f32);
        const auto want = values_of(before, tensor), got = values_of(after, *back);
        ASSERT_EQ(std::memcmp(want.data(), got.data(), want.size() * 4), 0) << tensor.name;
      } else {
        ASSERT_EQ(back->dtype, tensor.dtype) << tensor.name;
        ASSERT_EQ(std::memcmp(back->data.data(), tensor.data.data(), tensor.data.size()), 0) << tensor.name;
      }
      ++compared;
    }
    EXPECT_EQ(compared, after.tensors().size()) << path;
    EXPECT_EQ(before.generation().eos_token_ids, after.generation().eos_token_ids);
    EXPECT_EQ(before.generation().temperature, after.generation().temperature);
    EXPECT_EQ(before.chat_template(), after.chat_template());
    EXPECT_EQ(*read_text_file(path / "tokenizer.json"), *read_text_file((folder / "back") / "tokenizer.json"));
  }
}

void expect_same(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.model_type, b.model_type);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.intermediate_size, b.intermediate_size);
  EXPECT_EQ(a.num_hidden_layers, b.num_hidden_layers);
  EXPECT_EQ(a.num_attention_heads, b.num_attention_heads);
  EXPECT_EQ(a.num_key_value_heads, b.num_key_value_heads);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
  EXPECT_EQ(a.attention_bias, b.attention_bias);
  EXPECT_EQ(a.rope.theta, b.rope.theta);
  EXPECT_EQ(a.rope.factor, b.rope.factor);
  EXPECT_EQ(a.rope.mscale, b.rope.mscale);
  EXPECT_EQ(a.rope.mscale_all_dim, b.rope.mscale_all_dim);
  EXPECT_EQ(a.rope.original_max_position_embeddings, b.rope.original_max_position_embeddings);
  EXPECT_EQ(a.q_lora_rank, b.q_lora_rank);
  EXPECT_EQ(a.kv_lora_rank, b.kv_lora_rank);
  EXPECT_EQ(a.qk_nope_head_dim, b.qk_nope_head_dim);
  EXPECT_EQ(a.qk_rope_head_dim, b.qk_rope_head_dim);
  EXPECT_EQ(a.v_head_dim, b.v_head_dim);
  EXPECT_EQ(a.n_routed_experts, b.n_routed_experts);
  EXPECT_EQ(a.n_shared_experts, b.n_shared_experts);
  EXPECT_EQ(a.num_experts_per_tok, b.num_experts_per_tok);
  EXPECT_EQ(a.n_group, b.n_group);
  EXPECT_EQ(a.topk_group, b.topk_group);
  EXPECT_EQ(a.norm_topk_prob, b.norm_topk_prob);
  EXPECT_EQ(a.routed_scaling_factor, b.routed_scaling_factor);
  EXPECT_EQ(a.scoring_func, b.scoring_func);
  EXPECT_EQ(a.topk_method, b.topk_method);
  EXPECT_EQ(a.num_nextn_predict_layers, b.num_nextn_predict_layers);
}

TEST(Convert, GgufSaysTheSameOfTheModel) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  for (const fs::path& path : models) {
    SCOPED_TRACE(path);
    test::TemporaryFolder folder;
    expect_converted(path, folder / "model.gguf");
    const Checkpoint before = opened(path), after = opened(folder / "model.gguf");
    ModelConfig want = before.config();
    const ModelConfig& got = after.config();
    if (want.rope.scaling == RopeConfig::Scaling::llama3) {  // GGUF keeps its effect, not its parameters
      EXPECT_EQ(got.rope.scaling, RopeConfig::Scaling::factors);
      want.rope.factor = got.rope.factor;
      want.rope.original_max_position_embeddings = got.rope.original_max_position_embeddings;
    }
    expect_same(want, got);
    EXPECT_EQ(before.chat_template(), after.chat_template());
    EXPECT_EQ(after.gguf()->string("tokenizer.ggml.pre"), "deepseek-v3");
    EXPECT_EQ(after.gguf()->strings("tokenizer.ggml.tokens")->size(), static_cast<size_t>(want.vocab_size));
    EXPECT_EQ(after.gguf()->integer("tokenizer.ggml.bos_token_id"), 0);
  }
}

// Splits one GGUF file into a set, tensors dealt out in runs, as other programs do.
void write_split(const GgufFile& whole, const fs::path& folder, int count) {
  const auto tensors = whole.tensors();
  for (int part = 0; part < count; ++part) {
    GgufMetadata metadata{{"split.no", static_cast<uint16_t>(part)},
                          {"split.count", static_cast<uint16_t>(count)},
                          {"split.tensors.count", static_cast<uint32_t>(tensors.size())}};
    if (part == 0) {
      for (const auto& [key, value] : whole.metadata()) {
        if (key == "general.alignment") continue;
        if (value.type == GgufType::string) metadata.emplace_back(key, std::string(*whole.string(key)));
        if (value.type == GgufType::u32) metadata.emplace_back(key, static_cast<uint32_t>(*whole.integer(key)));
        if (value.type == GgufType::f32) metadata.emplace_back(key, static_cast<float>(*whole.number(key)));
        if (value.type == GgufType::boolean) metadata.emplace_back(key, *whole.boolean(key));
      }
    }
    std::vector<OutputTensor> outputs;
    for (size_t i = tensors.size() * part / count; i < tensors.size() * (part + 1) / count; ++i) {
      OutputTensor output{
          std::string(tensors[i].name), tensors[i].dtype, {tensors[i].dims.rbegin(), tensors[i].dims.rend()}, 1, {}};
      const int64_t stride = row_bytes(output.dtype, output.cols());
      output.fill = [data = tensors[i].data, stride](int64_t begin, int64_t end, std::byte* out) {
        std::memcpy(out, data.data() + begin * stride, static_cast<size_t>((end - begin) * stride));
      };
      outputs.push_back(std::move(output));
    }
    char name[64];
    std::snprintf(name, sizeof name, "model-%05d-of-%05d.gguf", part + 1, count);
    const Status written = write_gguf(folder / name, metadata, outputs);
    ASSERT_TRUE(written) << written.error().message;
  }
}

TEST(Convert, SplitSetsOpenAsOne) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  test::TemporaryFolder folder;
  expect_converted(models.front(), folder / "whole.gguf");
  const Checkpoint whole = opened(folder / "whole.gguf");
  write_split(*whole.gguf(), folder / "", 3);
  const Checkpoint split = opened(folder / "model-00001-of-00003.gguf");
  ASSERT_EQ(split.tensors().size(), whole.tensors().size());
  for (const TensorView& tensor : whole.tensors()) {
    const TensorView* found = split.find(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(std::memcmp(found->data.data(), tensor.data.data(), tensor.data.size()), 0) << tensor.name;
  }
  const auto second = Checkpoint::open(folder / "model-00002-of-00003.gguf");
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("expected the first of 3 files"), std::string::npos) << second.error().message;
  fs::remove(folder / "model-00003-of-00003.gguf");
  EXPECT_FALSE(Checkpoint::open(folder / "model-00001-of-00003.gguf"));
}

// Files from before the *_mla keys: kv_b whole, key_length of a head.
TEST(Convert, OldStyleDeepseekFilesLoad) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  int tried = 0;
  for (const fs::path& path : models) {
    const Checkpoint model = opened(path);
    const ModelConfig& c = model.config();
    if (c.architecture != Architecture::deepseek || has_fp8(model) || c.num_nextn_predict_layers > 0) continue;
    ++tried;
    const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
    GgufMetadata metadata{{"general.architecture", std::string("deepseek2")},
                          {"deepseek2.block_count", u32(c.num_hidden_layers)},
                          {"deepseek2.context_length", u32(c.max_position_embeddings)},
                          {"deepseek2.embedding_length", u32(c.hidden_size)},
                          {"deepseek2.feed_forward_length", u32(c.intermediate_size)},
                          {"deepseek2.attention.head_count", u32(c.num_attention_heads)},
                          {"deepseek2.attention.head_count_kv", u32(c.num_attention_heads)},
                          {"deepseek2.attention.layer_norm_rms_epsilon", static_cast<float>(c.rms_norm_eps)},
                          {"deepseek2.attention.kv_lora_rank", u32(c.kv_lora_rank)},
                          {"deepseek2.attention.key_length", u32(c.qk_head_dim())},
                          {"deepseek2.attention.value_length", u32(c.v_head_dim)},
                          {"deepseek2.rope.dimension_count", u32(c.qk_rope_head_dim)},
                          {"deepseek2.rope.freq_base", static_cast<float>(c.rope.theta)},
                          {"deepseek2.leading_dense_block_count", u32(c.first_k_dense_replace)},
                          {"deepseek2.expert_count", u32(c.n_routed_experts)},
                          {"deepseek2.expert_used_count", u32(c.num_experts_per_tok)},
                          {"deepseek2.expert_shared_count", u32(c.n_shared_experts)},
                          {"deepseek2.expert_feed_forward_length", u32(c.moe_intermediate_size)}};
    if (c.q_lora_rank > 0) metadata.emplace_back("deepseek2.attention.q_lora_rank", u32(c.q_lora_rank));
    auto plan = plan_gguf(model, [](TensorRole, DType stored, int64_t) { return stored; });
    ASSERT_TRUE(plan) << plan.error().message;
    std::erase_if(plan->tensors, [](const OutputTensor& t) {
      return t.name.ends_with("attn_k_b.weight") || t.name.ends_with("attn_v_b.weight");
    });
    for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
      const TensorView* kv_b = model.find("model.layers." + std::to_string(layer) + ".self_attn.kv_b_proj.weight");
      ASSERT_NE(kv_b, nullptr);
      plan->tensors.push_back(output_tensor("blk." + std::to_string(layer) + ".attn_kv_b.weight", kv_b->dtype,
                                            kv_b->shape, rows_of(model, *kv_b)));
    }
    test::TemporaryFolder folder;
    ASSERT_TRUE(write_gguf(folder / "old.gguf", metadata, plan->tensors));
    const Checkpoint old = opened(folder / "old.gguf");
    EXPECT_EQ(old.config().qk_nope_head_dim, c.qk_nope_head_dim);
    EXPECT_EQ(old.config().v_head_dim, c.v_head_dim);
    EXPECT_EQ(old.config().scoring_func, ScoringFunc::softmax);
    for (const TensorView& tensor : model.tensors()) {
      const TensorView* found = old.find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      EXPECT_EQ(found->shape, tensor.shape);
      EXPECT_EQ(std::memcmp(found->data.data(), tensor.data.data(), tensor.data.size()), 0) << tensor.name;
    }
  }
  EXPECT_GT(tried, 0);
}

double relative_error(const std::vector<float>& want, const std::vector<float>& got) {
  double error = 0, power = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (want[i] - got[i]) * static_cast<double>(want[i] - got[i]);
    power += static_cast<double>(want[i]) * want[i];
  }
  return std::sqrt(error / power);
}

TEST(Quantize, EveryTypeStaysWithinItsError) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  const std::vector<std::pair<DType, double>> types{{DType::bf16, 0.003}, {DType::f8_e4m3, 0.04}, {DType::q8_0, 0.008},
                                                    {DType::q4_0, 0.12},  {DType::q4_k, 0.09},    {DType::q6_k, 0.025}};
  ThreadPool pool(2);
  for (const fs::path& path : models) {
    const Checkpoint before = opened(path);
    for (const auto& [type, bound] : types) {
      test::TemporaryFolder folder;
      const fs::path out = folder / (type == DType::f8_e4m3 ? "directory" : "model.gguf");
      int64_t last = 0;
      const auto report =
          quantize(path, out, {.type = type, .pool = &pool, .progress = [&](int64_t done, int64_t total) {
                                 EXPECT_LE(done, total);
                                 last = done;
                               }});
      ASSERT_TRUE(report) << path << " " << info(type).name << ": " << report.error().message;
      EXPECT_EQ(last, report->bytes_out);
      test::TemporaryFolder second;
      if (type != DType::f8_e4m3) expect_converted(out, second / "back");
      const Checkpoint after = opened(type == DType::f8_e4m3 ? out : second / "back");
      for (const TensorView& tensor : before.tensors()) {
        if (tensor.name.ends_with("_scale_inv")) continue;
        const TensorView* found = after.find(tensor.name);
        ASSERT_NE(found, nullptr) << tensor.name;
        const double error = relative_error(values_of(before, tensor), values_of(after, *found));
        EXPECT_LT(error, bound) << path << " " << info(type).name << " " << tensor.name;
        if (role_of(tensor.name, tensor.shape) == TensorRole::kept) {
          EXPECT_EQ(error, 0) << tensor.name;
        }
      }
    }
  }
}

TEST(Quantize, RefusesWhatTheContainerCannotHold) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  test::TemporaryFolder folder;
  EXPECT_FALSE(quantize(models.front(), folder / "a", {.type = DType::q4_k}));
  EXPECT_FALSE(quantize(models.front(), folder / "a.gguf", {.type = DType::f8_e4m3}));
  EXPECT_FALSE(convert(models.front(), models.front()));
  EXPECT_FALSE(fs::exists(folder / "a"));
}

// What no command could load is not written, not even in part.
TEST(Convert, AShapeThatTheConfigurationDoesNotAskForIsRefused) {
  const auto models = golden_models();
  SKIP_WITHOUT_MODELS(models);
  struct Wrong {
    std::string model, tensor;
    std::vector<int64_t> shape;
    std::string says;
  };
  for (const Wrong& wrong : std::vector<Wrong>{
           {"llama3", "model.layers.0.self_attn.q_proj.weight", {64, 256}, "expected [128, 128], found [64, 256]"},
           {"llama3", "model.embed_tokens.weight", {128, 512}, "expected [512, 128], found [128, 512]"},
           {"deepseek_v3",
            "model.layers.1.mlp.experts.11.up_proj.weight",
            {128, 96},
            "expected [96, 128], found [128, 96]"}}) {
    SCOPED_TRACE(wrong.tensor);
    test::TemporaryFolder folder;
    fs::copy(test::test_data() / "golden/models" / wrong.model, folder / "model");
    for (const auto& entry : fs::directory_iterator(folder / "model"))
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    const fs::path file = test::say_shape(folder / "model", wrong.tensor, wrong.shape);
    const std::string sentence = file.string() + ": tensor '" + wrong.tensor + "': " + wrong.says;
    for (const char* out : {"new.gguf", "new", "new.redoubt-packed"}) {
      const auto converted = convert(folder / "model", folder / out);
      ASSERT_FALSE(converted) << out;
      EXPECT_EQ(converted.error().message, sentence);
      EXPECT_FALSE(fs::exists(folder / out));
    }
    const auto quantized = quantize(folder / "model", folder / "new.gguf", {.type = DType::q8_0});
    ASSERT_FALSE(quantized);
    EXPECT_EQ(quantized.error().message, sentence);
    EXPECT_FALSE(fs::exists(folder / "new.gguf"));
  }
}

}  // namespace
}  // namespace redoubt
