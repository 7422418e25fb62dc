// A small real model against the published implementation: greedy continuations and perplexity with the reference
// table, and how far the fast tables are from it. The figures are those of REDOUBT_TEST_DATA/golden/real/*.json; the
// model is found by the file's name at REDOUBT_REAL_MODEL or in the cache folder that `make test` fills.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "core/json.h"
#include "core/mapped_file.h"
#include "kernels/kernel_table.h"
#include "model/model.h"
#include "npz.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

constexpr size_t kChunk = 64;

struct RealCase {
  std::filesystem::path figures, model;
};

std::filesystem::path cached_model(const std::string& name) {
  if (const char* named = std::getenv("REDOUBT_REAL_MODEL"); named != nullptr) return named;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path base =
      cache != nullptr ? std::filesystem::path(cache) : std::filesystem::path(home != nullptr ? home : "") / ".cache";
  return base / "redoubt/models" / name;
}

class RealModel : public testing::Test {
 protected:
  void SetUp() override {
    const auto folder = test::test_data() / "golden/real";
    if (test::test_data().empty() || !std::filesystem::exists(folder)) {
      GTEST_SKIP() << "SKIPPED LOUDLY: no figures of a real model at REDOUBT_TEST_DATA/golden/real";
    }
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".json") continue;
      figures_ = parse_json(read_text_file(entry.path()).value()).value();
      text_folder_ = folder;
      model_path_ = cached_model(figures_["model"].get<std::string>());
    }
    if (!std::filesystem::exists(model_path_)) {
      GTEST_SKIP() << "SKIPPED LOUDLY: no real model at " << model_path_ << " (scripts/fetch_model fetches it)";
    }
    checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(model_path_).value());
  }

  std::unique_ptr<Model> load(const std::string& kernels) {
    auto model =
        Model::load(*checkpoint_, {.kernels = kernels, .limits = {.max_tokens = kChunk, .max_logits = kChunk}});
    EXPECT_TRUE(model) << model.error().message;
    EXPECT_TRUE((*model)->reserve_cache(64));
    return std::move(*model);
  }
  // Logits of the last `wanted` tokens of a prompt computed from an empty cache.
  std::vector<float> prefill(Model& model, const std::vector<int32_t>& ids, bool all) {
    const auto vocab = static_cast<size_t>(model.config().vocab_size);
    std::vector<float> logits((all ? ids.size() : 1) * vocab);
    for (size_t at = 0; at < ids.size(); at += kChunk) {
      const size_t n = std::min(kChunk, ids.size() - at);
      const int64_t wanted = all ? static_cast<int64_t>(n) : (at + n == ids.size() ? 1 : 0);
      const SequenceChunk chunk{std::span(ids).subspan(at, n), static_cast<int64_t>(at), AttentionForm::prefill,
                                blocks_, wanted};
      model.step({&chunk, 1}, all ? std::span(logits).subspan(at * vocab, n * vocab) : std::span(logits));
    }
    return logits;
  }
  std::vector<float> decode(Model& model, int32_t token, size_t position) {
    std::vector<float> logits(static_cast<size_t>(model.config().vocab_size));
    const SequenceChunk chunk{{&token, 1}, static_cast<int64_t>(position), AttentionForm::decode, blocks_, 1};
    model.step({&chunk, 1}, logits);
    return logits;
  }

  Json figures_;
  std::filesystem::path text_folder_, model_path_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<int32_t> blocks_ = [] {
    std::vector<int32_t> blocks;
    for (int32_t b = 63; b >= 0; --b) blocks.push_back(b);
    return blocks;
  }();
};

int32_t first_choice(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

float gap(std::vector<float> logits) {
  std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>());
  return *std::max_element(logits.begin(), logits.begin() + 1) - logits[1];
}

TEST_F(RealModel, GreedyIdsEqualTheReferenceAndFastTablesChooseTheSame) {
  const auto reference = load("reference"), fast = load("auto");
  for (const Json& prompt : figures_["prompts"]) {
    const std::vector<int32_t> ids = prompt["ids"], greedy = prompt["greedy_ids"];
    SCOPED_TRACE(prompt["prompt"].get<std::string>());
    std::vector<float> slow_logits = prefill(*reference, ids, false), fast_logits = prefill(*fast, ids, false);
    for (size_t step = 0; step < greedy.size(); ++step) {
      ASSERT_EQ(first_choice(slow_logits), greedy[step]) << "step " << step;
      if (gap(slow_logits) > 0.5f) {
        ASSERT_EQ(first_choice(fast_logits), greedy[step]) << fast->kernels_name() << " step " << step;
      }
      slow_logits = decode(*reference, greedy[step], ids.size() + step);
      fast_logits = decode(*fast, greedy[step], ids.size() + step);
    }
  }
}

// log p of every token, in double.
std::vector<double> log_softmax(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - top);
  std::vector<double> result(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) result[i] = logits[i] - top - std::log(sum);
  return result;
}

TEST_F(RealModel, PerplexityEqualsTheReferenceAndFastTablesStayClose) {
  const Json& rule = figures_["perplexity"];
  const auto window = rule["window"].get<size_t>(), windows = rule["windows"].get<size_t>();
  const std::string text = read_text_file(text_folder_ / rule["text"].get<std::string>()).value();
  const auto tokenizer = Tokenizer::open(model_path_);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const std::vector<int32_t> ids = tokenizer->encode(MarkedText::all_markup(text));
  ASSERT_GE(ids.size(), window * windows);
  const auto reference = load("reference"), fast = load("auto");
  const auto vocab = static_cast<size_t>(reference->config().vocab_size);
  double slow_loss = 0, fast_loss = 0, divergence = 0;
  int64_t scored = 0, same = 0;
  for (size_t w = 0; w < windows; ++w) {
    const std::vector<int32_t> part(ids.begin() + static_cast<std::ptrdiff_t>(w * window),
                                    ids.begin() + static_cast<std::ptrdiff_t>((w + 1) * window));
    const std::vector<float> slow = prefill(*reference, part, true), quick = prefill(*fast, part, true);
    for (size_t i = 0; i + 1 < window; ++i) {
      const auto p = log_softmax(std::span(slow).subspan(i * vocab, vocab));
      const auto q = log_softmax(std::span(quick).subspan(i * vocab, vocab));
      const auto next = static_cast<size_t>(part[i + 1]);
      slow_loss -= p[next];
      fast_loss -= q[next];
      for (size_t v = 0; v < vocab; ++v) divergence += std::exp(p[v]) * (p[v] - q[v]);
      same += first_choice(std::span(slow).subspan(i * vocab, vocab)) ==
              first_choice(std::span(quick).subspan(i * vocab, vocab));
      ++scored;
    }
  }
  const double expected = rule["value"].get<double>(), n = static_cast<double>(scored);
  const double slow_perplexity = std::exp(slow_loss / n), fast_perplexity = std::exp(fast_loss / n);
  std::cout << "perplexity: published " << expected << ", reference " << slow_perplexity << ", " << fast->kernels_name()
            << " " << fast_perplexity << "; mean KL " << divergence / n << ", same first choice "
            << static_cast<double>(same) / n << "\n";
  EXPECT_EQ(scored, rule["tokens"].get<int64_t>());
  EXPECT_NEAR(slow_perplexity / expected, 1.0, 1e-3);
  EXPECT_NEAR(fast_perplexity / slow_perplexity, 1.0, 5e-3);
  EXPECT_LE(divergence / n, 2e-3);
  EXPECT_GE(static_cast<double>(same) / n, 0.98);
}

}  // namespace
}  // namespace redoubt
