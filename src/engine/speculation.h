// How far to draft: tokens proposed for a sequence beyond its last one, to be verified together in one step.
//
// Speculation changes no answer. The token of each position is drawn from the model's own row with that position's own
// random number (answer.h), exactly as without drafts; a drafted token only decides if the row behind it was computed
// for the right text, and is accepted if it equals the token drawn. So the depth may follow load and time freely.
//
// With B sequences decoding, a step gives B tokens and costs T(B) = fixed + B * per_token, both measured. A draft of
// depth k adds p_1 + p_1 p_2 + ... tokens (p_i: measured share of i-th drafts that hold when all before held) and costs
// k * per_token. One more token of draft pays if it raises tokens per second:
//     p_1 ... p_k / (per_token + drafting_k) > tokens so far / time so far.
// In a large batch per_token * B is nearly all of T, so nothing below certainty pays, and drafting ends by itself.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace redoubt {

// Kinds of evidence a drafted token may rest on; acceptance is measured for each apart.
enum class DraftKind : uint8_t { match_2, match_3, match_4_7, match_8_15, match_16, mtp_1, mtp_2, mtp_3 };
constexpr size_t kDraftKinds = 8;
DraftKind kind_of_match(int64_t match_length);
DraftKind kind_of_mtp(int64_t depth);  // 1 ..

struct DraftedToken {
  int32_t token = 0;
  DraftKind kind = DraftKind::match_2;
};

// Of one sequence: how often drafted tokens held, the recent ones weighing more.
class Acceptance {
 public:
  Acceptance();
  double chance(DraftKind kind) const;
  void observe(DraftKind kind, bool held);

 private:
  struct Kind {
    double held = 0, tried = 0;
  };
  std::array<Kind, kDraftKinds> kinds_;
};

// Time of a decode step by its number of tokens: a line fitted to the recent ones.
class StepCost {
 public:
  void observe(int64_t tokens, double seconds);
  double seconds(double tokens) const;  // 0 before the first observation
  double seconds_per_token() const;     // of one more

 private:
  double weight_ = 0, n_ = 0, nn_ = 0, t_ = 0, nt_ = 0;  // weighted sums
};

class Speculator {
 public:
  explicit Speculator(const SpeculationOptions& options) : options_(options) {}

  // Before the drafts of a step are chosen: so many sequences get a token in any case.
  void begin_step(int64_t decoding);
  // How many of the drafted tokens to verify, at most `room`.
  int64_t depth(const Acceptance& acceptance, std::span<const DraftedToken> drafts, int64_t room);
  void observe_step(int64_t tokens, double seconds) { cost_.observe(tokens, seconds); }

  // Whether the module's next draft pays, its own time included, where drafts that hold with `chance` stand before it
  // and `sequences` share the module's pass.
  bool module_pays(double chance, int64_t sequences) const;
  void observe_module(int64_t sequences, double seconds) { module_cost_.observe(sequences, seconds); }

  const SpeculationOptions& options() const { return options_; }
  bool uses_ngrams() const;
  bool uses_module() const;

 private:
  SpeculationOptions options_;
  StepCost cost_, module_cost_;
  double tokens_ = 0, seconds_ = 0;  // expected of the step under way
};

}  // namespace redoubt
