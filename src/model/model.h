// The model as the engine sees it: a step over some tokens of some sequences, and the cache they attend to.
//
// A step neither allocates, locks, logs nor fails: whatever can fail was checked before (token ids < vocab_size, blocks
// reserved, sizes within StepLimits). The result for one sequence depends on that sequence alone, to the bit: not on
// its neighbours in the batch, the chunk sizes it arrives in, or the number of threads (docs/decisions/0002).
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/thread_pool.h"
#include "formats/checkpoint.h"

namespace redoubt {

constexpr int64_t kCacheBlockTokens = 16;  // tokens in a cache block

enum class CacheType : uint8_t { f32, bf16, q8 };

// MLA may have two forms whose bits differ (Model::forms_agree), so the form is a property of the token: prompt tokens
// are computed in the prefill form, generated tokens in the decode form, also when recomputed after preemption or
// verified several at once.
enum class AttentionForm : uint8_t { prefill, decode };

// Consecutive tokens of one sequence in a step.
struct SequenceChunk {
  std::span<const int32_t> tokens;
  int64_t position = 0;  // of tokens[0]; all earlier positions are in the cache already
  AttentionForm form = AttentionForm::prefill;
  std::span<const int32_t> blocks;  // block table: token p is in blocks[p / kCacheBlockTokens]
  int64_t num_logits = 0;           // logits are wanted for this many last tokens of the chunk (0: none)
};

// Consecutive positions of one sequence for the MTP module (DeepSeek-V3 report §2.2): from the hidden state at i and
// the token at i + 1 it predicts the token at i + 2. Its layer has rows of its own in the cache blocks, so it is given
// every position once, in order, after the step that computed it; rows that were drafted ahead are written over then.
struct DraftChunk {
  std::span<const int32_t> next_tokens;  // those at position + 1, ...
  int64_t position = 0;                  // of the first
  int64_t hidden_row = 0;                // where its hidden state is (HiddenStates); the others follow
  AttentionForm form = AttentionForm::prefill;
  std::span<const int32_t> blocks;  // as of the step
  int64_t num_logits = 0;           // logits are wanted for this many last positions
};

// The hidden states a draft goes on from.
enum class HiddenStates : uint8_t {
  of_step,   // row r: the last step's token r, all chunks together
  of_draft,  // row r: row r of the last draft's logits; for drafting further ahead
};

struct StepLimits {
  int64_t max_tokens = 512;  // in one step, all chunks together
  int64_t max_logits = 64;   // rows of logits in one step
  int64_t max_chunks = 256;
};

// Where the packed forms of matrices live.
enum class PackedMode : uint8_t {
  off,          // nowhere: weights are computed with as stored
  only_memory,  // in memory, made at every load
  automatic,    // and kept in a file for the next start, which maps it
};

struct PackedOptions {
  PackedMode mode = PackedMode::only_memory;
  std::filesystem::path folder;              // for files that cannot lie beside their model; empty: none
  int64_t least_bytes = int64_t{256} << 20;  // smaller models are packed faster than anybody notices
};

struct ModelOptions {
  std::string kernels = "auto";            // reference, avx2, avx512, avx512_bf16, amx, neon, auto
  int threads = 0;                         // 0: the usable cores
  CacheType cache_type = CacheType::bf16;  // with kernels == reference: always f32
  StepLimits limits;
  PackedOptions packed;
  std::function<void(int64_t done, int64_t total)> progress;  // bytes packed while loading; null: not told
};

// Looks into a step, for tests: hidden states to find a first difference, and routing imposed from another run.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  // x [T, hidden]: the input of `layer`; layer == num_hidden_layers: after the final norm (rows that have logits).
  virtual void on_hidden(int64_t layer, const float* x, int64_t rows, int64_t cols) {
    static_cast<void>(layer), static_cast<void>(x), static_cast<void>(rows), static_cast<void>(cols);
  }
  // experts [T, k] as routed; may be overwritten: the gates are then computed for the new choice. True if it was.
  virtual bool on_routing(int64_t layer, int32_t* experts, int64_t rows, int64_t k) {
    static_cast<void>(layer), static_cast<void>(experts), static_cast<void>(rows), static_cast<void>(k);
    return false;
  }
};

class Model {
 public:
  static Result<std::unique_ptr<Model>> load(const Checkpoint& checkpoint, const ModelOptions& options);
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const StepLimits& limits() const = 0;
  virtual std::string kernels_name() const = 0;
  virtual int threads() const = 0;
  virtual int64_t cache_block_bytes() const = 0;  // all layers, one block
  // Whether a token has the same bits in either form: then what was generated may serve as the beginning of a prompt.
  virtual bool forms_agree() const = 0;

  // Bytes of weights in memory of the model's own; the others are in files and the system may drop their pages.
  virtual int64_t private_weights_bytes() const { return 0; }
  // Loading goes on behind the first steps: kept weights are verified, packed ones are written. Until that is over.
  virtual void wait_for_background() {}
  // What is written for the next start is written to its end: a model that goes gives it up. For a program that loads a
  // model, uses it and ends; between steps.
  virtual void wait_until_kept() {}
  // corrupt_data once weights were found damaged that can be had nowhere else: what steps computed since, the last one
  // included, is worth nothing. A background pass finds it, or the step itself. By any thread; costs one load.
  virtual Status damage() const { return ok(); }

  // Allocates the cache; once, before the first step. Blocks have ids 0 .. num_blocks-1.
  virtual Status reserve_cache(int64_t num_blocks) = 0;
  virtual int64_t num_cache_blocks() const = 0;
  // One block as cache_block_bytes() bytes, to be kept elsewhere and put back: only for a model with the same weights,
  // kernels and cache type. Between steps.
  virtual void read_block(int32_t block, std::span<std::byte> bytes) const = 0;
  virtual void write_block(int32_t block, std::span<const std::byte> bytes) = 0;

  // logits: [rows, vocab_size] float32, a row for each wanted token in chunk order; caller's memory.
  void step(std::span<const SequenceChunk> chunks, std::span<float> logits) { try_step(chunks, logits, {}); }
  // The same, but it can be given up: `gives_up`, where there is one, is asked after every layer, with the share of
  // them that is done. False: it was given up; nothing it computed counts, and its tokens can be computed again.
  virtual bool try_step(std::span<const SequenceChunk> chunks, std::span<float> logits,
                        const std::function<bool(double share_done)>& gives_up) = 0;

  // logits: [rows, vocab_size], a row for each wanted position in chunk order. The limits of a step hold. Only with
  // has_mtp(). Like a step it neither allocates nor fails; a row depends on its sequence alone.
  virtual void draft(std::span<const DraftChunk> chunks, HiddenStates from, std::span<float> logits) = 0;

  // All of the module's logits at once: row i of logits [T-1, vocab] predicts token i + 2 from the final-normed
  // hidden state at i and token i + 1. Uses the first blocks of the cache: only while no sequence is running.
  // Errors: unsupported without an MTP module, invalid_argument for fewer than 2 tokens or more than fit.
  virtual bool has_mtp() const = 0;
  virtual Status mtp_logits(std::span<const int32_t> tokens, std::span<float> logits) = 0;

  virtual void set_observer(StepObserver* observer) = 0;  // null: none

  // Layers ended since load: progress for the health checks; read by any thread.
  virtual uint64_t layers_done() const = 0;
};

}  // namespace redoubt
