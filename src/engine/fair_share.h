// Whose turn it is: a full machine divided among tenants by weight, in tokens computed (prompt, answer, drafts), each
// as many as it costs by its depth (token_cost.h).
//
// Each tenant has a mark: the tokens computed for it over its weight, on a scale all share. Who is furthest behind is
// served first (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996, with a bound on what may be saved up). The
// scale's level V is the mark of the one who uses least among those that use more than a newcomer beside them would
// leave each, T / (W + 1) of a step of T tokens under weights of W, each over what its tokens count; while nobody does,
// V goes on at that pace. A mark is held within V - burst / weight and V + burst / weight: a tenant that comes after a
// pause, or computes little, is ahead of all heavy ones for `burst` tokens, and nobody is punished for long for what
// nobody else wanted.
//
// A token counts less for a tenant that has far fewer sequences than the busiest one: in full down to an eighth of its
// sequences, a third from a 32nd on. So who asks one thing after another beside a crowd may take three quarters of the
// machine for it, and its prompts last 1.5 times as long as alone even where it never pauses; among tenants of a few
// sequences each all are equal.
//
// Of a step, an eighth is divided among all that want something, by weight; the rest goes to the one furthest behind,
// what it leaves to the next, and so on. So a tenant within its share has at least seven eighths of each step, however
// many streams another has, and the others' streams never stop. Thread safety: the engine thread's alone.
#pragma once

#include <cstdint>
#include <span>

namespace redoubt {

struct Share {  // of one tenant
  double weight = 1;
  int64_t members = 0;  // sequences, paused ones among them
  double mark = 0;      // tokens over weight
  // Of the step being planned.
  double token_counts = 1;
  int64_t demand = 0;    // tokens it could compute
  int64_t reserved = 0;  // kept for it from those served before
};

class FairShare {
 public:
  explicit FairShare(int64_t burst_tokens) : burst_(static_cast<double>(burst_tokens)) {}

  // A tenant that had nothing to do, or that is new.
  void enter(Share& share) const { bound(share); }
  static void charge(Share& share, double tokens) { share.mark += tokens * share.token_counts / share.weight; }
  // Has nothing to be remembered for: it would come back as if it were new.
  bool is_forgettable(const Share& share) const { return share.mark <= level_ - burst_ / share.weight; }

  // After a step that had room for `step_tokens`; `active`: those that want something.
  void advance(std::span<Share* const> active, int64_t step_tokens);
  // Sorts those that want something into the order they are served in, and reserves each its part of the eighth.
  static void order(std::span<Share*> active, int64_t step_tokens);

 private:
  void bound(Share& share) const;

  double burst_;
  double level_ = 0;
};

}  // namespace redoubt
