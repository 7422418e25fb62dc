// Choices of many rules as one: a union of two hundred objects begins in two hundred ways, of which a matcher follows
// no more than so many (Arrival::kMaxStacks), so that some alternatives could never be written. Where a state calls
// many rules, they take the place of their calls, and what they begin with becomes one way.
#pragma once

#include <vector>

#include "text/grammar_automaton.h"

namespace redoubt::grammar {

// Rules that nothing calls any more match nothing then. A choice that would grow beyond the limits stays as it is.
void unfold_wide_choices(std::vector<Automaton>& rules, uint32_t root, AutomatonBudget& budget);

}  // namespace redoubt::grammar
