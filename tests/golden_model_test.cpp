// Every golden model against the published implementation's numbers: logits, greedy continuations, hidden states, MTP.
// The models are those found in REDOUBT_TEST_DATA/golden/models; their number and shapes are not known here.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>

#include "core/float_bits.h"
#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "kernels/kernel_table.h"
#include "model/model.h"
#include "npz.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

std::vector<std::filesystem::path> golden_models(const std::string& with = {}) {
  std::vector<std::filesystem::path> found;
  for (const auto& root :
       {test::test_data() / "golden/models", std::filesystem::path(REDOUBT_SOURCE_DIR) / "tests/golden/models"}) {
    if (!std::filesystem::exists(root)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(root)) {
      if (!std::filesystem::exists(entry.path() / "golden.npz")) continue;
      if (with.empty() || test::read_npz(entry.path() / "golden.npz").contains(with)) found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Routing of a run, recorded and imposed on another: a layer's choice for each position.
class RoutingTape : public StepObserver {
 public:
  void on_hidden(int64_t layer, const float* x, int64_t rows, int64_t cols) override {
    if (keep_hidden) hidden.resize(std::max(hidden.size(), static_cast<size_t>(layer + 1)));
    if (keep_hidden)
      hidden[static_cast<size_t>(layer)].insert(hidden[static_cast<size_t>(layer)].end(), x, x + rows * cols);
  }
  bool on_routing(int64_t layer, int32_t* experts, int64_t rows, int64_t k) override {
    auto& tape = choices[layer];
    if (!impose) {
      tape.insert(tape.end(), experts, experts + rows * k);
      width = k;
      return false;
    }
    size_t& at = read[layer];
    std::copy_n(tape.begin() + static_cast<std::ptrdiff_t>(at), rows * k, experts);
    at += static_cast<size_t>(rows * k);
    return true;
  }
  std::map<int64_t, std::vector<int32_t>> choices;
  std::map<int64_t, size_t> read;
  std::vector<std::vector<float>> hidden;
  int64_t width = 0;
  bool impose = false, keep_hidden = false;
};

struct Subject {
  Checkpoint checkpoint;
  std::unique_ptr<Model> model;
  std::vector<int32_t> blocks;

  static Subject open(const std::filesystem::path& path, const std::string& kernels, int threads = 2) {
    auto checkpoint = Checkpoint::open(path);
    if (!checkpoint) throw std::runtime_error(checkpoint.error().message);
    ModelOptions options{.kernels = kernels, .threads = threads};
    auto model = Model::load(*checkpoint, options);
    if (!model) throw std::runtime_error(model.error().message);
    Subject subject{std::move(*checkpoint), std::move(*model), {}};
    if (auto reserved = subject.model->reserve_cache(32); !reserved) throw std::runtime_error(reserved.error().message);
    for (int32_t b = 0; b < 32; ++b) subject.blocks.push_back(31 - b);  // not in order: the table must be followed
    return subject;
  }
  // Logits of all tokens, computed as prompt in chunks of `chunk` tokens.
  std::vector<float> prefill(const std::vector<int32_t>& tokens, size_t chunk = 64) {
    const auto vocab = static_cast<size_t>(model->config().vocab_size);
    std::vector<float> logits(tokens.size() * vocab);
    for (size_t at = 0; at < tokens.size(); at += chunk) {
      const size_t n = std::min(chunk, tokens.size() - at);
      const SequenceChunk one{std::span(tokens).subspan(at, n), static_cast<int64_t>(at), AttentionForm::prefill,
                              blocks, static_cast<int64_t>(n)};
      model->step({&one, 1}, std::span(logits).subspan(at * vocab, n * vocab));
    }
    return logits;
  }
  std::vector<float> decode(int32_t token, int64_t position) {
    std::vector<float> logits(static_cast<size_t>(model->config().vocab_size));
    const SequenceChunk one{{&token, 1}, position, AttentionForm::decode, blocks, 1};
    model->step({&one, 1}, logits);
    return logits;
  }
};

// Largest deviation as a share of the largest expected value, and where it is.
struct Deviation {
  float share = 0;
  size_t at = 0;
};
Deviation deviation(std::span<const float> found, std::span<const float> expected) {
  float largest = 0;
  Deviation worst;
  for (const float v : expected) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < expected.size(); ++i) {
    const float share = std::isfinite(found[i]) ? std::fabs(found[i] - expected[i]) / largest : INFINITY;
    if (share > worst.share) worst = {share, i};
  }
  return worst;
}

std::vector<std::string> fast_tables() {
  std::vector<std::string> names;
  for (const KernelTable* table : kernel_tables()) {
    if (table != &reference_kernels() && table->supported()) names.emplace_back(table->name);
  }
  return names;
}

class GoldenModel : public testing::TestWithParam<std::filesystem::path> {
 protected:
  void SetUp() override { golden_ = test::read_npz(GetParam() / "golden.npz"); }
  int cases() const {
    int n = 0;
    while (golden_.contains("tokens_" + std::to_string(n))) ++n;
    return n;
  }
  const test::NpyArray& at(const std::string& name) const { return golden_.at(name); }
  test::Npz golden_;
};

TEST_P(GoldenModel, ReferenceLogitsEqualThePublishedOnes) {
  Subject subject = Subject::open(GetParam(), "reference");
  ASSERT_GT(cases(), 0);
  for (int i = 0; i < cases(); ++i) {
    const auto tokens = at("tokens_" + std::to_string(i)).as_ids();
    const auto expected = at("logits_" + std::to_string(i)).as<float>();
    for (const size_t chunk : {size_t{512}, size_t{7}}) {
      const Deviation worst = deviation(subject.prefill(tokens, chunk), expected);
      EXPECT_LT(worst.share, 1e-4f) << "case " << i << ", token "
                                    << worst.at / static_cast<size_t>(subject.model->config().vocab_size);
    }
  }
}

TEST_P(GoldenModel, ReferenceHiddenStatesEqualThePublishedOnes) {
  Subject subject = Subject::open(GetParam(), "reference");
  RoutingTape tape;
  tape.keep_hidden = true;
  subject.model->set_observer(&tape);
  subject.prefill(at("tokens_0").as_ids(), 512);
  const auto& stored = at("hidden_0");
  const auto expected = stored.as<float>();
  const size_t layer_size = static_cast<size_t>(stored.shape[1] * stored.shape[2]);
  ASSERT_EQ(tape.hidden.size() * layer_size, expected.size());
  for (size_t layer = 0; layer < tape.hidden.size(); ++layer) {
    EXPECT_LT(deviation(tape.hidden[layer], std::span(expected).subspan(layer * layer_size, layer_size)).share, 1e-4f)
        << "entry " << layer;
  }
}

TEST_P(GoldenModel, GreedyContinuationsEqualThePublishedOnes) {
  Subject subject = Subject::open(GetParam(), "reference");
  for (int i = 0; i < cases(); ++i) {
    const auto tokens = at("tokens_" + std::to_string(i)).as_ids();
    const auto expected = at("greedy_" + std::to_string(i)).as_ids();
    const auto all = subject.prefill(tokens);
    std::vector<float> logits(all.end() - subject.model->config().vocab_size, all.end());
    std::vector<int32_t> found;
    for (size_t step = 0; step < expected.size(); ++step) {
      const auto next = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      found.push_back(next);
      logits = subject.decode(next, static_cast<int64_t>(tokens.size() + step));
    }
    EXPECT_EQ(found, expected) << "case " << i;
  }
}

using GoldenMtpModel = GoldenModel;

TEST_P(GoldenMtpModel, MtpLogitsEqualThePublishedOnes) {
  Subject subject = Subject::open(GetParam(), "reference");
  ASSERT_TRUE(subject.model->has_mtp());
  const auto tokens = at("mtp_tokens").as_ids();
  const auto expected = at("mtp_logits").as<float>();
  std::vector<float> found(expected.size());
  ASSERT_TRUE(subject.model->mtp_logits(tokens, found));
  EXPECT_LT(deviation(found, expected).share, 1e-4f);
}

// As the engine drafts: piece by piece behind the steps, beside another sequence whose rows come first.
TEST_P(GoldenMtpModel, DraftsBehindEachStepHaveTheBitsOfTheWhole) {
  std::vector<std::string> tables = fast_tables();
  tables.emplace_back("reference");
  for (const std::string& name : tables) {
    SCOPED_TRACE(name);
    Subject whole = Subject::open(GetParam(), name, 1), pieces = Subject::open(GetParam(), name, 3);
    const auto tokens = at("mtp_tokens").as_ids();
    const size_t rows = tokens.size() - 1;
    const auto vocab = static_cast<size_t>(whole.model->config().vocab_size);
    std::vector<float> expected(rows * vocab), found(expected.size()), other_logits(vocab);
    ASSERT_TRUE(whole.model->mtp_logits(tokens, expected));
    const std::vector<int32_t> other_blocks{0, 1, 2};
    for (size_t at = 0, n = 1; at < rows; at += n, n = std::min(rows - at, n % 5 + 1)) {
      const auto piece = std::span(tokens).subspan(at, n), next = std::span(tokens).subspan(at + 1, n);
      const auto position = static_cast<int64_t>(at);
      const std::vector<SequenceChunk> step{{std::span(tokens).first(3), 0, AttentionForm::prefill, other_blocks, 0},
                                            {piece, position, AttentionForm::prefill, pieces.blocks, 0}};
      pieces.model->step(step, {});
      const std::vector<DraftChunk> draft{
          {next, position, 3, AttentionForm::prefill, pieces.blocks, static_cast<int64_t>(n)},
          {std::span(tokens).subspan(1, 3), 0, 0, AttentionForm::prefill, other_blocks, 0}};
      pieces.model->draft(draft, HiddenStates::of_step, std::span(found).subspan(at * vocab, n * vocab));
    }
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0);
    // Further ahead: from the module's own state, and rows that were drafted are written over.
    const int32_t guessed = 5;
    const DraftChunk ahead{{&guessed, 1}, static_cast<int64_t>(rows), 0, AttentionForm::decode, pieces.blocks, 1};
    pieces.model->draft({&ahead, 1}, HiddenStates::of_draft, other_logits);
    for (const float logit : other_logits) ASSERT_TRUE(std::isfinite(logit));
  }
}

TEST_P(GoldenModel, FastTablesStayWithinTheirTolerance) {
  for (const std::string& name : fast_tables()) {
    Subject reference = Subject::open(GetParam(), "reference"), fast = Subject::open(GetParam(), name);
    for (int i = 0; i < cases(); ++i) {
      SCOPED_TRACE(name + " case " + std::to_string(i));
      const auto tokens = at("tokens_" + std::to_string(i)).as_ids();
      const auto expected = at("logits_" + std::to_string(i)).as<float>();
      const auto vocab = static_cast<size_t>(fast.model->config().vocab_size);
      RoutingTape tape, own;
      reference.model->set_observer(&tape);
      reference.prefill(tokens);
      if (tape.choices.empty()) {
        EXPECT_LT(deviation(fast.prefill(tokens), expected).share, 2e-2f);  // the cache is BF16: 8 bits of mantissa
        continue;
      }
      fast.model->set_observer(&own);
      const auto free_logits = fast.prefill(tokens);
      tape.impose = true;
      fast.model->set_observer(&tape);
      EXPECT_LT(deviation(fast.prefill(tokens), expected).share, 6e-2f);
      // With its own routing: larger only at or after the first token whose experts differ.
      size_t first_difference = tokens.size();
      for (const auto& [layer, choice] : tape.choices) {
        for (size_t at = 0; at < choice.size(); ++at) {
          const size_t token = at / static_cast<size_t>(tape.width);
          const auto row = [&](const std::vector<int32_t>& v) {
            std::vector<int32_t> set(v.begin() + static_cast<std::ptrdiff_t>(token) * tape.width,
                                     v.begin() + static_cast<std::ptrdiff_t>(token + 1) * tape.width);
            std::sort(set.begin(), set.end());
            return set;
          };
          if (row(choice) != row(own.choices[layer])) first_difference = std::min(first_difference, token);
        }
      }
      if (first_difference < tokens.size()) {
        std::cout << GetParam().filename() << " " << name << " case " << i << ": experts differ from token "
                  << first_difference << "\n";
      }
      const size_t before = first_difference * vocab;
      if (before > 0) {
        EXPECT_LT(deviation(std::span(free_logits).first(before), std::span(expected).first(before)).share, 6e-2f);
      }
    }
  }
}

// docs/decisions/0002: chunk sizes, neighbours and the number of threads do not change a bit.
TEST_P(GoldenModel, SameBitsInAnyChunksBatchAndThreads) {
  std::vector<std::string> tables = fast_tables();
  tables.emplace_back("reference");
  std::vector<int32_t> tokens;  // the longest case
  for (int i = 0; i < cases(); ++i) {
    const auto candidate = at("tokens_" + std::to_string(i)).as_ids();
    if (candidate.size() > tokens.size()) tokens = candidate;
  }
  ASSERT_GE(tokens.size(), 50u);
  for (const std::string& name : tables) {
    SCOPED_TRACE(name);
    Subject one = Subject::open(GetParam(), name, 1), three = Subject::open(GetParam(), name, 3);
    const std::vector<float> expected = one.prefill(tokens, 512);
    const auto same = [&](std::span<const float> found, std::span<const float> wanted) {
      return std::memcmp(found.data(), wanted.data(), wanted.size_bytes()) == 0;
    };
    for (const size_t chunk : {size_t{1}, size_t{3}, size_t{64}})
      EXPECT_TRUE(same(three.prefill(tokens, chunk), expected));
    // Beside another sequence, and decoding beside a prefill.
    const auto vocab = static_cast<size_t>(one.model->config().vocab_size);
    const std::vector<float> next = one.decode(tokens[0], static_cast<int64_t>(tokens.size()));
    std::vector<int32_t> other_blocks;
    for (int32_t b = 0; b < 16; ++b) other_blocks.push_back(b);
    std::vector<int32_t> own_blocks;
    for (int32_t b = 16; b < 32; ++b) own_blocks.push_back(b);
    std::vector<int32_t> reversed(tokens.rbegin(), tokens.rend());
    std::vector<float> logits((tokens.size() + 1) * vocab);
    const SequenceChunk mine{tokens, 0, AttentionForm::prefill, own_blocks, static_cast<int64_t>(tokens.size())};
    const SequenceChunk other{std::span(reversed).first(20), 0, AttentionForm::prefill, other_blocks, 0};
    const std::vector<SequenceChunk> batch{other, mine};
    three.model->step(batch, logits);
    EXPECT_TRUE(same(std::span(logits).first(tokens.size() * vocab), expected));
    const SequenceChunk step{
        {tokens.data(), 1}, static_cast<int64_t>(tokens.size()), AttentionForm::decode, own_blocks, 1};
    const SequenceChunk more{std::span(reversed).subspan(20, 30), 20, AttentionForm::prefill, other_blocks, 0};
    const std::vector<SequenceChunk> mixed{step, more};
    three.model->step(mixed, logits);
    EXPECT_TRUE(same(std::span(logits).first(vocab), next));
    // Where the forms agree, tokens of a prompt as if they had been generated, and what comes after them.
    const bool agree = three.model->forms_agree();
    for (size_t i = agree ? 8 : tokens.size(); i < tokens.size(); ++i) {
      const std::vector<float> found = three.decode(tokens[i], static_cast<int64_t>(i));
      EXPECT_TRUE(same(found, std::span(expected).subspan(i * vocab, vocab))) << "token " << i;
    }
    const bool is_dense = three.model->config().architecture == Architecture::dense;
    if (is_dense || name == "reference") {
      EXPECT_EQ(agree, is_dense);
    }
  }
}

// A packed file stands for its model, whether the kernels read its matrices as they lie there or want them as stored.
TEST_P(GoldenModel, APackedFileOfItGivesTheSameBits) {
  const test::TemporaryFolder folder;
  const std::filesystem::path packed = folder / (GetParam().filename().string() + ".redoubt-packed");
  const auto made = convert(GetParam(), packed);
  ASSERT_TRUE(made) << made.error().message;
  std::vector<std::string> tables = fast_tables();
  tables.emplace_back("reference");
  const auto tokens = at("tokens_0").as_ids();
  for (const std::string& kernels : tables) {
    SCOPED_TRACE(kernels);
    Subject source = Subject::open(GetParam(), kernels), alone = Subject::open(packed, kernels);
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    EXPECT_TRUE(same(source.prefill(tokens), alone.prefill(tokens)));
    const auto position = static_cast<int64_t>(tokens.size());
    EXPECT_TRUE(same(source.decode(tokens[0], position), alone.decode(tokens[0], position)));
    EXPECT_TRUE(alone.model->damage());
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenModel);
std::string name_of(const testing::TestParamInfo<std::filesystem::path>& info) {
  const bool own = info.param.string().starts_with(REDOUBT_SOURCE_DIR "/tests");
  std::string name = (own ? "own_" : "shared_") + info.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, GoldenModel, testing::ValuesIn(golden_models()), name_of);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenMtpModel);
INSTANTIATE_TEST_SUITE_P(Models, GoldenMtpModel, testing::ValuesIn(golden_models("mtp_logits")), name_of);

TEST(GoldenData, IsThere) {
  if (test::test_data().empty())
    GTEST_SKIP() << "SKIPPED LOUDLY: no golden data at REDOUBT_TEST_DATA; only the repository's own set ran";
  EXPECT_FALSE(golden_models().empty());
}

}  // namespace
}  // namespace redoubt
