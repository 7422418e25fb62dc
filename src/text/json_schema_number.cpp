// Numbers between bounds, as digit automata: magnitudes are compared digit by digit, most significant first.

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

constexpr int kFreeInteger = 18;  // fits 64 bits, which most readers have
constexpr int kFreeDigits = 40;   // where nothing bounds a number: more say nothing to anybody
constexpr int kExactDigits = 15;  // two decimals of so many digits that differ also differ as doubles

// Magnitudes m with low <= m <= high (or strictly), both at least 0; a null high is no bound.
class Magnitudes {
 public:
  Magnitudes(Nfa& nfa, uint32_t end, const Bound& low, const Bound* high, bool integers, int max_digits)
      : nfa_(nfa), end_(end), low_(low), high_(high), integers_(integers), max_digits_(max_digits) {}

  void add(uint32_t start) {
    for (int length = 1; length <= max_digits_; ++length) {
      const bool low_longer = low_.value.integer_digits() > length;
      const bool high_shorter = high_ != nullptr && high_->value.integer_digits() < length;
      if (low_longer || high_shorter) continue;
      const bool low_tight = low_.value.integer_digits() == length;
      const bool high_tight = high_ != nullptr && high_->value.integer_digits() == length;
      integer(start, length, 0, low_tight, high_tight);
    }
  }

 private:
  struct Next {
    bool low_tight, high_tight;
  };

  // The digits that may come where the bounds have `low` and `high`, in groups that go on alike.
  template <class Go>
  void digits(char first_digit, bool low_tight, bool high_tight, char low, char high, Go go) {
    const char from = std::max(first_digit, low_tight ? low : '0');
    const char to = high_tight ? high : '9';
    for (char d = from; d <= to; ++d) go(d, Next{low_tight && d == low, high_tight && d == high});
  }

  void integer(uint32_t state, int length, int place, bool low_tight, bool high_tight) {
    if (place == length) {
      after_integer(state, length, low_tight, high_tight);
      return;
    }
    const char first = place == 0 && length > 1 ? '1' : '0';
    const char low = low_.value.integer_digit(place, length);
    const char high = high_ != nullptr ? high_->value.integer_digit(place, length) : '9';
    uint32_t loose = 0;  // all loose ways go on as one
    digits(first, low_tight, high_tight, low, high, [&](char d, Next next) {
      const bool is_loose = !next.low_tight && !next.high_tight;
      if (is_loose && loose != 0) {
        nfa_.add_bytes(state, static_cast<uint8_t>(d), static_cast<uint8_t>(d), loose);
        return;
      }
      const uint32_t to = nfa_.add_state();
      nfa_.add_bytes(state, static_cast<uint8_t>(d), static_cast<uint8_t>(d), to);
      if (is_loose) loose = to;
      integer(to, length, place + 1, next.low_tight, next.high_tight);
    });
  }

  void after_integer(uint32_t state, int length, bool low_tight, bool high_tight) {
    if (may_end(0, low_tight, high_tight)) nfa_.add_empty(state, end_);
    const int places = max_digits_ - length;
    if (integers_ || places < 1) return;
    const uint32_t point = nfa_.add_state();
    nfa_.add_bytes(state, '.', '.', point);
    fraction(point, 0, places, low_tight, high_tight);
  }

  void fraction(uint32_t state, int place, int places, bool low_tight, bool high_tight) {
    if (place == places) return;
    const char low = low_.value.fraction_digit(place);
    const char high = high_ != nullptr ? high_->value.fraction_digit(place) : '9';
    uint32_t loose = 0;
    digits('0', low_tight, high_tight, low, high, [&](char d, Next next) {
      const bool is_loose = !next.low_tight && !next.high_tight;
      if (is_loose && loose != 0) {
        nfa_.add_bytes(state, static_cast<uint8_t>(d), static_cast<uint8_t>(d), loose);
        return;
      }
      const uint32_t to = nfa_.add_state();
      nfa_.add_bytes(state, static_cast<uint8_t>(d), static_cast<uint8_t>(d), to);
      if (is_loose) loose = to;
      if (may_end(place + 1, next.low_tight, next.high_tight)) nfa_.add_empty(to, end_);
      fraction(to, place + 1, places, next.low_tight, next.high_tight);
    });
  }

  // Whether the number may end after `places` digits of its fraction: what follows is zero.
  bool may_end(int places, bool low_tight, bool high_tight) const {
    if (low_tight) {
      if (rest_is_zero(low_.value, places) ? low_.exclusive : true) return false;
    }
    if (high_tight && rest_is_zero(high_->value, places) && high_->exclusive) return false;
    return true;
  }

  static bool rest_is_zero(const Decimal& value, int places) {
    return static_cast<int>(value.digits.size()) <= value.exponent + places;
  }

  Nfa& nfa_;
  uint32_t end_;
  const Bound& low_;
  const Bound* high_;
  bool integers_;
  int max_digits_;
};

// Multiples of r x 10^e, digit by digit: what is kept of a number is what it leaves over when it is divided by r.
class Multiples {
 public:
  Multiples(int64_t r, int e) : r_(r), zeros_(std::max(e, 0)), places_(std::max(-e, 0)), scale_(1 % r) {
    for (int i = 0; i < places_; ++i) scale_ = scale_ * 10 % r;
  }

  Nfa make() {
    const uint32_t start = nfa_.add_state(), minus = nfa_.add_state(), zero = nfa_.add_state();
    nfa_.add_bytes(start, '-', '-', minus);
    const uint32_t whole = add_row(), end = zeros_ > 0 ? add_zeros(whole) : whole;
    for (const uint32_t from : {start, minus}) {
      nfa_.add_bytes(from, '0', '0', zero);
      for (int d = 1; d <= 9; ++d) add_digit(from, d, whole + static_cast<uint32_t>(d % r_));
    }
    add_digits(whole, whole);
    nfa_.accept(zero);
    if (zeros_ > 0)
      nfa_.accept(end);
    else
      accept_row(whole, scale_);
    if (places_ > 0) add_fraction(zero, whole);
    return std::move(nfa_);
  }

 private:
  uint32_t add_row() {  // a state for each remainder
    const uint32_t first = nfa_.add_state();
    for (int64_t q = 1; q < r_; ++q) nfa_.add_state();
    return first;
  }
  void add_digit(uint32_t from, int digit, uint32_t to) {
    nfa_.add_bytes(from, static_cast<uint8_t>('0' + digit), static_cast<uint8_t>('0' + digit), to);
  }
  void add_digits(uint32_t row, uint32_t to_row) {
    for (int64_t q = 0; q < r_; ++q)
      for (int d = 0; d <= 9; ++d)
        add_digit(row + static_cast<uint32_t>(q), d, to_row + static_cast<uint32_t>((q * 10 + d) % r_));
  }
  void accept_row(uint32_t row, int64_t scale) {
    for (int64_t q = 0; q < r_; ++q)
      if (q * scale % r_ == 0) nfa_.accept(row + static_cast<uint32_t>(q));
  }
  uint32_t add_zeros(uint32_t state) {
    for (int i = 0; i < zeros_; ++i) {
      const uint32_t next = nfa_.add_state();
      nfa_.add_bytes(state, '0', '0', next);
      state = next;
    }
    return state;
  }
  void add_fraction(uint32_t zero, uint32_t whole) {
    uint32_t row = add_row();
    nfa_.add_bytes(zero, '.', '.', row);
    for (int64_t q = 0; q < r_; ++q)
      nfa_.add_bytes(whole + static_cast<uint32_t>(q), '.', '.', row + static_cast<uint32_t>(q));
    for (int place = 1; place <= places_; ++place) {
      const uint32_t next = add_row();
      add_digits(row, next);
      int64_t scale = 1 % r_;  // of the places that are left: they are zeros
      for (int i = place; i < places_; ++i) scale = scale * 10 % r_;
      accept_row(next, scale);
      row = next;
    }
  }

  int64_t r_;
  int zeros_, places_;
  int64_t scale_;
  Nfa nfa_;
};

// Steps whose digits and places keep the automaton small: 5, 0.25, 1000, 0.000001.
Result<Automaton> multiples_of(const Decimal& step, AutomatonBudget& budget) {
  constexpr size_t kMostDigits = 3;
  constexpr int kMostPlaces = 15, kMostStates = 1000;
  const int e = step.exponent - static_cast<int>(step.digits.size());
  const int64_t r = step.digits.size() <= kMostDigits ? std::stoll(step.digits) : kMostStates;
  if (e > kFreeInteger || -e > kMostPlaces || r * (std::max(-e, 0) + 1) >= kMostStates)
    return unsupported("schema: multipleOf: a step of so many digits is not enforced", "multipleOf");
  const Nfa nfa = Multiples(r, e).make();
  REDOUBT_CHECK(budget.spend_states(nfa.size()));
  return nfa.determinise(budget);
}

Bound magnitude(const Bound& bound) {
  Bound out = bound;
  out.value.negative = false;
  return out;
}

}  // namespace

char Decimal::integer_digit(int place, int length) const {
  const int i = place - (length - exponent);
  return i >= 0 && i < exponent && i < static_cast<int>(digits.size()) ? digits[static_cast<size_t>(i)] : '0';
}

char Decimal::fraction_digit(int place) const {
  const int i = exponent + place;
  return i >= 0 && i < static_cast<int>(digits.size()) ? digits[static_cast<size_t>(i)] : '0';
}

Decimal to_decimal(const Json& number) {
  Decimal out;
  char text[64];
  if (number.is_number_float()) {
    const double value = number.get<double>();
    out.negative = std::signbit(value);
    const auto end = std::to_chars(text, text + sizeof text, std::fabs(value), std::chars_format::scientific).ptr;
    const std::string_view all(text, static_cast<size_t>(end - text));
    const size_t e = all.find('e');
    for (const char c : all.substr(0, e))
      if (c != '.') out.digits += c;
    const bool minus = all[e + 1] == '-';
    std::from_chars(all.data() + e + 2, end, out.exponent);
    out.exponent = (minus ? -out.exponent : out.exponent) + 1;
  } else {
    out.digits = number.dump();
    if (out.digits[0] == '-') {
      out.negative = true;
      out.digits.erase(0, 1);
    }
    out.exponent = static_cast<int>(out.digits.size());
  }
  while (!out.digits.empty() && out.digits.front() == '0') {
    out.digits.erase(0, 1);
    --out.exponent;
  }
  while (!out.digits.empty() && out.digits.back() == '0') out.digits.pop_back();
  if (out.digits.empty()) {
    out.exponent = 0;
    out.negative = false;
  }
  return out;
}

Result<ExprId> number_in_range(ExprPool& pool, const NumberRange& range, AutomatonBudget& budget) {
  const bool is_bounded = range.low != nullptr || range.high != nullptr;
  if (!is_bounded && range.step == nullptr) {
    const ExprId digit = pool.byte_range('0', '9');
    const ExprId whole = pool.sequence(
        {pool.optional(pool.literal("-")),
         pool.choice(
             {pool.literal("0"),
              pool.sequence({pool.byte_range('1', '9'),
                             pool.repeat(digit, 0, (range.integers_only ? kFreeInteger : kFreeDigits) - 1)})})});
    if (range.integers_only) return whole;
    const ExprId fraction = pool.sequence({pool.literal("."), pool.repeat(digit, 1, kFreeDigits)});
    // Two digits of exponent keep every number within a double's range.
    const ExprId exponent =
        pool.sequence({pool.choice({pool.literal("e"), pool.literal("E")}),
                       pool.optional(pool.choice({pool.literal("+"), pool.literal("-")})), pool.repeat(digit, 1, 2)});
    return pool.sequence({whole, pool.optional(fraction), pool.optional(exponent)});
  }
  const int digits = !range.integers_only ? kExactDigits : is_bounded ? kFreeDigits : kFreeInteger;
  for (const Bound* bound : {range.low, range.high}) {
    if (bound == nullptr) continue;
    const bool long_fraction =
        static_cast<int>(bound->value.digits.size()) > kExactDigits + 2 ||
        (bound->exclusive && !range.integers_only && static_cast<int>(bound->value.digits.size()) > kExactDigits);
    if ((bound->value.digits.size() > 0 && bound->value.exponent > digits) || (!range.integers_only && long_fraction))
      return unsupported(
          "schema: a number's bound has more digits than can be enforced",
          std::string(bound->exclusive ? "exclusiveM" : "m") + (bound == range.low ? "inimum" : "aximum"));
  }
  Nfa nfa;
  const uint32_t start = nfa.add_state(), end = nfa.add_state();
  nfa.accept(end);
  const Bound zero{}, above_zero{{}, true};
  // Not negative: from max(low, 0) to high.
  if (range.high == nullptr || !range.high->value.negative) {
    const bool from_low = range.low != nullptr && !range.low->value.negative;
    Magnitudes(nfa, end, from_low ? *range.low : zero, range.high, range.integers_only, digits).add(start);
  }
  // Negative: magnitudes over zero, from |high| to |low|.
  if (range.low == nullptr || range.low->value.negative) {
    const uint32_t minus = nfa.add_state();
    nfa.add_bytes(start, '-', '-', minus);
    const bool from_high = range.high != nullptr && range.high->value.negative;
    const Bound smallest = from_high ? magnitude(*range.high) : above_zero;
    const Bound largest = range.low != nullptr ? magnitude(*range.low) : Bound{};
    Magnitudes(nfa, end, smallest, range.low != nullptr ? &largest : nullptr, range.integers_only, digits).add(minus);
  }
  REDOUBT_CHECK(budget.spend_states(nfa.size()));
  REDOUBT_TRY(Automaton automaton, nfa.determinise(budget));
  if (range.step != nullptr) {
    REDOUBT_TRY(const Automaton multiples, multiples_of(*range.step, budget));
    REDOUBT_TRY(automaton, intersect(automaton, multiples, budget));
  }
  return automaton.states.empty() ? pool.nothing() : pool.automaton(std::move(automaton));
}

}  // namespace redoubt::grammar
