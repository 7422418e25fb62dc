// What happens when: requests become sequences, sequences share steps, steps become tokens.
//
// One engine thread runs the steps; submit and cancel may be called from any thread. Events are delivered on the engine
// thread through the request's listener, which must not block (the server posts them to its own loop).
// Guarantee: the same request (tokens, seed, parameters) gives the same bits alone, in any batch, after preemption and
// after a restart, with the same kernel table.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "engine/allowance.h"
#include "model/model.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace redoubt {

struct SamplingParams {
  double temperature = 1.0;  // 0 (below 1e-5): greedy
  int top_k = 0;             // 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;  // over prompt and answer
  double presence_penalty = 0.0;    // over the answer
  double frequency_penalty = 0.0;   // over the answer
  int64_t penalty_window = -1;      // they see the last so many ids of prompt and answer; -1: all of them
  std::vector<std::pair<int32_t, float>> logit_bias;
  uint64_t seed = 0;  // position p of choice c draws with counter-based number (seed, c, p)
};

struct StopConditions {
  int64_t max_tokens = 0;  // of the answer; 0: to the end of the context
  int64_t min_tokens = 0;  // no stop and no end-of-sequence before
  std::vector<std::string> strings;
  std::vector<int32_t> token_ids;  // beside end-of-sequence
  bool ignore_eos = false;
  bool include_stop_string = false;
};

// Thinking: the engine closes the think block when the budget is spent, and no answer with a budget opens another.
struct ThinkingParams {
  bool starts_in_reasoning = false;      // the prompt ended inside <think>
  std::optional<int64_t> budget_tokens;  // nullopt: no limit; 0: closed at once
};

struct GenerationRequest {
  std::string id;
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  StopConditions stop;
  ThinkingParams thinking;
  GrammarPtr grammar;  // null: free text. Begins after </think> where there is thinking, else at once
  std::string grammar_param = "grammar";  // the request's field it came from, for errors
  int n = 1;                              // choices
  bool logprobs = false;
  int top_logprobs = 0;          // 0..20
  bool prompt_logprobs = false;  // for completions' echo
  bool skip_special_tokens = true;
  std::string tenant;  // prefix cache is kept apart by tenant, adapter and salt
  std::string adapter;
  std::string cache_salt;
  int priority = 0;                      // larger first, among those of the tenant (docs/decisions/0007)
  double share_weight = 1;               // of the tenant: how much of a full machine is its own, beside the others'
  std::shared_ptr<Allowance> allowance;  // null: as many tokens as the request asks for
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;
};

enum class FinishReason : uint8_t { none, stop, length, abort, error };

struct TokenEvent {
  int choice = 0;
  int32_t token = -1;  // -1: an event that only finishes: a stop token is no part of the answer
  std::string text;    // what this token adds to the answer; whole characters; stop strings cut
  std::optional<TokenLogprob> logprob;
  FinishReason finish = FinishReason::none;
  std::string stop_string;            // the matched one
  std::optional<int32_t> stop_token;  // the matched one of stop.token_ids; nullopt at an end of sequence
  std::optional<Error> error;         // with FinishReason::error
  bool in_reasoning = false;          // counted as a reasoning token
  bool by_allowance = false;          // with FinishReason::length: the allowance ended it, see Allowance::limit()
};

struct GenerationUsage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
  int64_t prefilled_tokens = 0;  // of the prompt, in the cache when it ended: fewer if it ended before it was all there
  int64_t queue_ns = 0, prefill_ns = 0, decode_ns = 0;
  int64_t preemptions = 0;
  int64_t draft_tokens = 0, accepted_draft_tokens = 0;       // of speculation: verified, and found right
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;  // [prompt_tokens], the first is nullopt
};

class GenerationListener {
 public:
  virtual ~GenerationListener() = default;
  virtual void on_token(const TokenEvent& event) = 0;
  virtual void on_done(const GenerationUsage& usage) = 0;  // once, after every choice finished (or aborted)
};

// Where drafted tokens come from (speculation.h). No answer depends on it, only the time it takes.
enum class Speculation : uint8_t {
  automatic,  // the module for multi-token prediction where the model has one, and look-up
  off,
  ngram,  // look-up: what followed the same tokens earlier in prompt or answer
  mtp,    // the module alone
};

struct SpeculationOptions {
  Speculation mode = Speculation::automatic;
  int64_t max_depth = 8;  // drafted tokens of a sequence in one step
  bool adaptive = true;   // false: always as deep as can be, for tests
};

class DiskCache;

struct EngineOptions {
  int64_t max_context = 0;                // 0: the model's, if the cache has room
  int64_t cache_bytes = 0;                // 0: half of the memory left
  int64_t mapped_weights_bytes = 0;       // weights mapped from files: memory that looks free and is not
  int64_t max_queue = 4096;               // waiting requests; more: overloaded
  int64_t max_batch_tokens = 512;         // of one step
  int64_t max_sequences = 256;            // running
  double contended_step_seconds = 0.06;   // a step lasts no longer while another tenant waits
  bool prefix_cache = true;               // between requests; the choices of one request share their prompt in any case
  std::shared_ptr<DiskCache> disk_cache;  // null: none. Only with prefix_cache
  std::string disk_identity;              // of model and program: blocks of another are not found
  SpeculationOptions speculation;
  std::vector<int32_t> eos_ids;                         // end of sequence: stops an answer unless ignore_eos
  std::shared_ptr<const GrammarVocabulary> vocabulary;  // null: built when the first grammar comes
};

// A handle on a running request. cancel() is safe at any time and from any thread; blocks are free within one step.
// pause() holds the sequence back (a slow reader) without losing it; resume() goes on.
class Generation {
 public:
  virtual ~Generation() = default;  // does not cancel
  virtual void cancel() = 0;
  virtual void pause() = 0;
  virtual void resume() = 0;
};

// Steps are counted by how many tokens they computed: up to each bound, and more.
inline constexpr std::array<int64_t, 13> kStepSizeBounds{1,   8,    16,   32,   64,   128,  256,
                                                         512, 1024, 2048, 4096, 8192, 16384};
inline constexpr size_t kDraftPositions = 16;  // that are counted one by one; deeper ones are in the totals only

struct EngineStats {
  int64_t running = 0, waiting = 0;                       // sequences; running: also those held back by pause()
  int64_t cache_blocks_total = 0, cache_blocks_used = 0;  // used: held by sequences or the prefix cache
  int64_t cache_blocks_held = 0;                          // held by live sequences alone
  uint64_t prompt_tokens = 0, generation_tokens = 0, prefix_queries = 0, prefix_hits = 0, preemptions = 0;
  uint64_t prompt_cached_tokens = 0,
           prompt_disk_tokens = 0;  // of prompt_tokens: not computed; of those, read from disk
  uint64_t evicted_tokens = 0;      // that the prefix cache gave up
  uint64_t finished_stop = 0, finished_length = 0, finished_abort = 0, finished_error = 0;
  uint64_t disk_queries = 0, disk_hits = 0;                          // tokens looked up in the cache on disk, and read
  uint64_t drafts = 0, draft_tokens = 0, accepted_draft_tokens = 0;  // speculation: a draft is verified in one step
  std::array<uint64_t, kDraftPositions> accepted_at{};               // drafts whose token at that place was found right
  uint64_t steps = 0, layers_done = 0;
  uint64_t given_up_tokens = 0;                                      // of steps that another tenant's coming ended
  uint64_t step_tokens = 0, step_sequences = 0;                      // summed over the steps
  std::array<uint64_t, kStepSizeBounds.size() + 1> steps_of_size{};  // [bound, or more than the last]
  uint64_t damaged_requests = 0;                                     // ended because weights were found damaged
  int64_t last_progress_ns = 0;  // clock time when the last layer ended or the engine was last idle
  bool has_work = false;
  bool is_damaged = false;  // weights were: every request ends with an error until the model is loaded anew
};

// The counters of two engines, one after the other, under one name. What is no count is 0.
EngineStats counted_together(const EngineStats& a, const EngineStats& b);

class Engine {
 public:
  // The engine keeps references to model and tokenizer: they outlive it.
  static Result<std::unique_ptr<Engine>> create(Model& model, const Tokenizer& tokenizer, const EngineOptions& options,
                                                const Clock& clock);
  virtual ~Engine() = default;  // aborts what runs

  // Errors: invalid_argument (a bad id, an empty prompt, a parameter out of range), context_length, overloaded.
  virtual Result<std::shared_ptr<Generation>> submit(GenerationRequest request,
                                                     std::shared_ptr<GenerationListener> listener) = 0;
  virtual EngineStats stats() const = 0;
  virtual int64_t max_context() const = 0;
  virtual void drain() = 0;  // refuses new requests from now on; those running go on
  // Ends for good: aborts what runs, tells its listeners, and returns when its thread has ended. By whoever still has
  // need of what listeners use: one of them may hold the engine, and its thread cannot end itself.
  virtual void stop() {}
};

}  // namespace redoubt
