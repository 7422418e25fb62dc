// What both model shapes share: the cache, the step around the layers, the head, and MTP.
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "core/log.h"
#include "model/deepseek.h"
#include "model/dense.h"

namespace redoubt {
namespace {

static_assert(kCacheBlockTokens == kCacheRows);

// The cache of all layers, in pages that become memory when first written.
class CacheMemory {
 public:
  CacheMemory() = default;
  CacheMemory(const CacheMemory&) = delete;
  CacheMemory& operator=(const CacheMemory&) = delete;
  ~CacheMemory() { release(); }

  Status reserve(int64_t bytes) {
    release();
    void* address = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) return io_error(fmt::format("cannot reserve {} bytes of cache", bytes));
    data_ = static_cast<std::byte*>(address);
    bytes_ = bytes;
    return ok();
  }
  std::byte* data() const { return data_; }

 private:
  void release() {
    if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
    data_ = nullptr;
  }
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

CacheFormat format_of(CacheType type) {
  switch (type) {
    case CacheType::f32:
      return CacheFormat::f32;
    case CacheType::bf16:
      return CacheFormat::bf16;
    case CacheType::q8:
      return CacheFormat::q8;
  }
  return CacheFormat::f32;
}

class Transformer final : public Model {
 public:
  Transformer(const ModelConfig& config, const KernelTable& kernels, const ModelOptions& options)
      : config_(config),
        kernels_(kernels),
        limits_(options.limits),
        format_(&kernels == &reference_kernels() ? CacheFormat::f32 : format_of(options.cache_type)),
        expands_prompts_(config.architecture == Architecture::deepseek && !attends_in_bf16(kernels, format_)),
        pool_(options.threads > 0 ? options.threads : ThreadPool::usable_cores()),
        packed_options_(options.packed),
        progress_(options.progress),
        packed_(pool_) {}

  Status load(const Checkpoint& checkpoint);

  const ModelConfig& config() const override { return config_; }
  const StepLimits& limits() const override { return limits_; }
  std::string kernels_name() const override { return std::string(kernels_.name); }
  int threads() const override { return pool_.num_threads(); }
  int64_t cache_block_bytes() const override {
    return layers_->num_cache_layers() * kCacheRows * cache_row_bytes(format_, layers_->cache_width());
  }
  bool forms_agree() const override { return !expands_prompts_; }
  int64_t private_weights_bytes() const override { return packed_.private_bytes(); }
  void wait_for_background() override { packed_.wait_for_background(); }
  void wait_until_kept() override { packed_.wait_until_kept(); }
  Status damage() const override { return packed_.damage(); }
  Status reserve_cache(int64_t num_blocks) override;
  int64_t num_cache_blocks() const override { return num_blocks_; }
  void read_block(int32_t block, std::span<std::byte> bytes) const override;
  void write_block(int32_t block, std::span<const std::byte> bytes) override;
  bool try_step(std::span<const SequenceChunk> chunks, std::span<float> logits,
                const std::function<bool(double share_done)>& gives_up) override;
  bool has_mtp() const override { return has_mtp_; }
  void draft(std::span<const DraftChunk> chunks, HiddenStates from, std::span<float> logits) override;
  Status mtp_logits(std::span<const int32_t> tokens, std::span<float> logits) override;
  void set_observer(StepObserver* observer) override { step_->observer = observer; }
  uint64_t layers_done() const override { return layers_done_.load(std::memory_order_relaxed); }

 private:
  void begin_step();  // then the chunks, then place_rows
  void add_chunk(std::span<const int32_t> tokens, int64_t position, AttentionForm form,
                 std::span<const int32_t> blocks);
  void place_rows() { step_->angles = rope_angles(step_->ctx, layers_->rope(), step_->positions); }
  void run_layer(int64_t layer, Tensor x);
  void head(Tensor x, const float* norm, std::span<float> logits);  // logits of every row of x

  ModelConfig config_;
  const KernelTable& kernels_;
  StepLimits limits_;
  CacheFormat format_;
  bool expands_prompts_;
  ThreadPool pool_;
  std::deque<std::vector<float>> storage_;  // norms, biases, scales
  PackedOptions packed_options_;
  std::function<void(int64_t done, int64_t total)> progress_;
  PackedStore packed_;
  std::unique_ptr<Layers> layers_;
  Weight embedding_, head_;
  const float* final_norm_ = nullptr;
  bool has_mtp_ = false;
  MtpWeights mtp_;
  std::vector<float> step_hidden_, draft_hidden_;  // [max_tokens, hidden]: before the norm in front of the head

  CacheMemory cache_memory_;
  std::vector<CacheLayer> cache_;
  int64_t num_blocks_ = 0;

  std::unique_ptr<Arena> arena_;
  std::vector<std::vector<float>> scratch_memory_;
  std::vector<float*> scratch_;
  std::unique_ptr<Step> step_;
  std::atomic<uint64_t> layers_done_{0};
};

Status Transformer::load(const Checkpoint& checkpoint) {
  const bool packs = !kernels_.packed().empty() && packed_options_.mode != PackedMode::off;
  WeightLoader loader(checkpoint, kernels_, pool_, storage_, packs ? &packed_ : nullptr);
  if (packs) REDOUBT_CHECK(packed_.open(checkpoint, choose_packed(kernels_.packed()), packed_options_, progress_));
  if (kernels_.packed().empty() && packed_options_.mode == PackedMode::automatic)
    log::warn("the packed weights are not kept: kernels {} compute with weights as stored", kernels_.name);
  const ModelConfig& c = config_;
  REDOUBT_TRY(embedding_, loader.matrix("model.embed_tokens", c.vocab_size, c.hidden_size));
  REDOUBT_TRY(final_norm_, loader.vector("model.norm.weight", c.hidden_size));
  if (c.tie_word_embeddings && !loader.has("lm_head.weight")) {
    head_ = embedding_;
    loader.pack("model.embed_tokens", head_, Inputs::fine);
  } else {
    REDOUBT_TRY(head_, loader.packed("lm_head", c.vocab_size, c.hidden_size, Inputs::fine));
  }
  if (c.architecture == Architecture::dense) {
    REDOUBT_TRY(layers_, Dense::load(c, loader));
  } else {
    const std::string at = fmt::format("model.layers.{}", c.num_hidden_layers);
    has_mtp_ = c.num_nextn_predict_layers > 0 && loader.has(at + ".eh_proj.weight");
    REDOUBT_TRY(layers_, DeepSeek::load(c, loader, has_mtp_));
    if (has_mtp_) {
      REDOUBT_TRY(mtp_.enorm, loader.vector(at + ".enorm.weight", c.hidden_size));
      REDOUBT_TRY(mtp_.hnorm, loader.vector(at + ".hnorm.weight", c.hidden_size));
      REDOUBT_TRY(mtp_.head_norm, loader.vector(at + ".shared_head.norm.weight", c.hidden_size));
      REDOUBT_TRY(mtp_.eh_proj, loader.packed(at + ".eh_proj", c.hidden_size, 2 * c.hidden_size));
      step_hidden_.resize(static_cast<size_t>(limits_.max_tokens * c.hidden_size));
      draft_hidden_.resize(step_hidden_.size());
    }
  }
  packed_.finish();
  const int threads = pool_.num_threads();
  const int64_t floats = layers_->arena_floats(limits_, threads) +
                         linear_input_floats(limits_.max_tokens, 2 * c.hidden_size) +
                         limits_.max_tokens * (4 * c.hidden_size + layers_->rope_dim() + 16) +
                         limits_.max_logits * c.hidden_size + (1 << 16);
  arena_ = std::make_unique<Arena>(floats);
  for (int i = 0; i < threads; ++i) {
    scratch_memory_.emplace_back(static_cast<size_t>(OpContext::kThreadScratch));
    scratch_.push_back(scratch_memory_.back().data());
  }
  step_.reset(new Step{OpContext{kernels_, pool_, *arena_, scratch_}, {}, {}, {}, {}, {}, nullptr});
  step_->expanded.reserve(static_cast<size_t>(limits_.max_chunks));
  step_->direct.reserve(static_cast<size_t>(limits_.max_chunks));
  step_->tokens.reserve(static_cast<size_t>(limits_.max_tokens));
  step_->positions.reserve(static_cast<size_t>(limits_.max_tokens));
  return ok();
}

Status Transformer::reserve_cache(int64_t num_blocks) {
  if (num_blocks < 1) return invalid("cache: expected at least one block");
  const int64_t row = cache_row_bytes(format_, layers_->cache_width());
  const int64_t layer_bytes = num_blocks * kCacheRows * row;
  REDOUBT_CHECK(cache_memory_.reserve(layers_->num_cache_layers() * layer_bytes));
  cache_.clear();
  for (int64_t l = 0; l < layers_->num_cache_layers(); ++l) {
    cache_.push_back({cache_memory_.data() + l * layer_bytes, format_, layers_->cache_width(), row});
  }
  num_blocks_ = num_blocks;
  return ok();
}

// Layer after layer, each with the block's rows as they lie in the cache.
void Transformer::read_block(int32_t block, std::span<std::byte> bytes) const {
  REDOUBT_ASSERT(static_cast<int64_t>(bytes.size()) == cache_block_bytes());
  size_t at = 0;
  for (const CacheLayer& layer : cache_) {
    const auto size = static_cast<size_t>(kCacheRows * layer.row_bytes);
    std::memcpy(bytes.data() + at, layer.data + static_cast<size_t>(block) * size, size);
    at += size;
  }
}

void Transformer::write_block(int32_t block, std::span<const std::byte> bytes) {
  REDOUBT_ASSERT(static_cast<int64_t>(bytes.size()) == cache_block_bytes());
  size_t at = 0;
  for (const CacheLayer& layer : cache_) {
    const auto size = static_cast<size_t>(kCacheRows * layer.row_bytes);
    std::memcpy(layer.data + static_cast<size_t>(block) * size, bytes.data() + at, size);
    at += size;
  }
}

void Transformer::begin_step() {
  Step& step = *step_;
  arena_->rewind(0);
  step.expanded.clear();
  step.direct.clear();
  step.tokens.clear();
  step.positions.clear();
}

void Transformer::add_chunk(std::span<const int32_t> tokens, int64_t position, AttentionForm form,
                            std::span<const int32_t> blocks) {
  Step& step = *step_;
  const auto count = static_cast<int64_t>(tokens.size());
  const ChunkView view{static_cast<int64_t>(step.tokens.size()), count, position, blocks};
  (form == AttentionForm::prefill && expands_prompts_ ? step.expanded : step.direct).push_back(view);
  for (int64_t t = 0; t < count; ++t) {
    step.tokens.push_back(tokens[static_cast<size_t>(t)]);
    step.positions.push_back(static_cast<int32_t>(position + t));
  }
  REDOUBT_ASSERT(static_cast<int64_t>(step.tokens.size()) <= limits_.max_tokens);
}

void Transformer::run_layer(int64_t layer, Tensor x) {
  if (step_->observer != nullptr) step_->observer->on_hidden(layer, x.data, x.rows, x.cols);
  const ArenaScope scope(*arena_);
  layers_->forward(*step_, layer, cache_[static_cast<size_t>(layer)], x);
  layers_done_.fetch_add(1, std::memory_order_relaxed);
}

void Transformer::head(Tensor x, const float* norm, std::span<float> logits) {
  const ArenaScope scope(*arena_);
  const Tensor h = rms_norm(step_->ctx, x, norm, static_cast<float>(config_.rms_norm_eps));
  if (step_->observer != nullptr) step_->observer->on_hidden(config_.num_hidden_layers, h.data, h.rows, h.cols);
  linear_into(step_->ctx, h, head_, {logits.data(), h.rows, config_.vocab_size});
}

bool Transformer::try_step(std::span<const SequenceChunk> chunks, std::span<float> logits,
                           const std::function<bool(double share_done)>& gives_up) {
  begin_step();
  for (const SequenceChunk& chunk : chunks) add_chunk(chunk.tokens, chunk.position, chunk.form, chunk.blocks);
  place_rows();
  const auto rows = static_cast<int64_t>(step_->tokens.size());
  const Tensor x = arena_->tensor(rows, config_.hidden_size);
  embed(step_->ctx, embedding_, step_->tokens, x.data);
  const int64_t layers = config_.num_hidden_layers;
  for (int64_t layer = 0; layer < layers; ++layer) {
    run_layer(layer, x);
    if (gives_up && gives_up(static_cast<double>(layer + 1) / static_cast<double>(layers))) return false;
  }
  if (has_mtp_) std::copy_n(x.data, x.rows * x.cols, step_hidden_.data());

  int64_t wanted = 0;
  for (const SequenceChunk& chunk : chunks) wanted += chunk.num_logits;
  if (wanted == 0) return true;
  REDOUBT_ASSERT(static_cast<int64_t>(logits.size()) >= wanted * config_.vocab_size);
  const Tensor last = arena_->tensor(wanted, config_.hidden_size);
  int64_t first_row = 0, to = 0;
  for (const SequenceChunk& chunk : chunks) {
    const auto tokens = static_cast<int64_t>(chunk.tokens.size());
    std::memcpy(last.row(to), x.row(first_row + tokens - chunk.num_logits),
                static_cast<size_t>(chunk.num_logits * x.cols) * sizeof(float));
    first_row += tokens;
    to += chunk.num_logits;
  }
  head(last, final_norm_, logits);
  return true;
}

Status Transformer::mtp_logits(std::span<const int32_t> tokens, std::span<float> logits) {
  const auto n = static_cast<int64_t>(tokens.size());
  if (!has_mtp_) return unsupported("this model has no MTP module");
  if (n < 2 || n > limits_.max_tokens || n > num_blocks_ * kCacheRows) {
    return invalid(fmt::format("MTP: expected 2 to {} tokens, found {}",
                               std::min(limits_.max_tokens, num_blocks_ * kCacheRows), n));
  }
  std::vector<int32_t> blocks;
  for (int32_t b = 0; b * kCacheRows < n; ++b) blocks.push_back(b);
  const SequenceChunk main{tokens, 0, AttentionForm::prefill, blocks, 0};
  step({&main, 1}, {});
  const DraftChunk all{tokens.subspan(1), 0, 0, AttentionForm::prefill, blocks, n - 1};
  draft({&all, 1}, HiddenStates::of_step, logits);
  return ok();
}

// x_i = eh_proj [enorm(emb(t_{i+1})); hnorm(h_i)], then one decoder layer with a cache of its own, then the shared
// head. h_i is the state after the norm in front of the head. The report gives no norm there; what the published module
// was trained with is not said, and both are in use. Further ahead (its §2.2, k > 1) h is the module's own state, after
// the norm of its head for the same reason.
void Transformer::draft(std::span<const DraftChunk> chunks, HiddenStates from, std::span<float> logits) {
  begin_step();
  for (const DraftChunk& chunk : chunks) add_chunk(chunk.next_tokens, chunk.position, chunk.form, chunk.blocks);
  place_rows();
  const auto rows = static_cast<int64_t>(step_->tokens.size());
  const int64_t width = config_.hidden_size;
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  const float* hidden = from == HiddenStates::of_step ? step_hidden_.data() : draft_hidden_.data();
  const float* norm = from == HiddenStates::of_step ? final_norm_ : mtp_.head_norm;

  const Tensor both = arena_->tensor(rows, 2 * width), x = arena_->tensor(rows, width);
  int64_t row = 0;
  for (const DraftChunk& chunk : chunks) {
    const auto count = static_cast<int64_t>(chunk.next_tokens.size());
    kernels_.rms_norm({hidden + chunk.hidden_row * width, width, norm, x.row(row), width, count, width, eps});
    row += count;
  }
  kernels_.rms_norm({x.data, width, mtp_.hnorm, both.data + width, 2 * width, rows, width, eps});
  embed(step_->ctx, embedding_, step_->tokens, x.data);
  kernels_.rms_norm({x.data, width, mtp_.enorm, both.data, 2 * width, rows, width, eps});
  linear_into(step_->ctx, both, mtp_.eh_proj, x);
  run_layer(config_.num_hidden_layers, x);

  int64_t wanted = 0;
  row = 0;
  for (const DraftChunk& chunk : chunks) {
    row += static_cast<int64_t>(chunk.next_tokens.size());
    std::copy_n(x.row(row - chunk.num_logits), chunk.num_logits * width, draft_hidden_.data() + wanted * width);
    wanted += chunk.num_logits;
  }
  if (wanted > 0) head({draft_hidden_.data(), wanted, width}, mtp_.head_norm, logits);
}

}  // namespace

Result<std::unique_ptr<Model>> Model::load(const Checkpoint& checkpoint, const ModelOptions& options) {
  REDOUBT_TRY(const KernelTable* kernels, choose_kernels(options.kernels));
  if (const int cores = ThreadPool::usable_cores(); options.threads > cores)
    log::warn("{} threads were asked for, and this process may use {} cores: they will wait for each other",
              options.threads, cores);
  auto model = std::make_unique<Transformer>(checkpoint.config(), *kernels, options);
  REDOUBT_CHECK(model->load(checkpoint));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace redoubt
