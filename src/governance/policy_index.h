// Finds the policies that a request may satisfy, or fail to evaluate, without looking at the others.
//
// A policy is filed under what its head names: one key each for principal, action and resource (an entity itself, an
// entity and what belongs to it, a type, or nothing). Names are interned, so a key is exact: a request looks under the
// keys of its own entities and of all that they belong to, and what it finds needs no second look at its head, except
// for `is T in X` (`needs_head`). `when { principal in X }` in front of all other conditions counts as part of the
// head.
//
// Policies whose head says little are told apart by their first condition, if that is a question about an attribute
// with a constant in it. The attribute is read once, and what is looked up depends on the question:
//   principal.labels.department == "loans"                  the value
//   context.source_ip.isInRange(ip("10.0.0.0/8"))           the range of each length that there is
//   context.now < datetime("2027-01-01"), <=, >, >=         where the value stands among the constants
//   context.purpose like "*loan*"                           each 8, 4, 2 and 1 bytes of the value: a pattern is filed
//                                                           under such a piece that a value must hold to match
// What is found is a superset of what is satisfied or fails; all of it is tested afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "governance/cedar_evaluator.h"
#include "governance/cedar_program.h"

namespace redoubt {

// The entities of a request, looked up once.
struct ResolvedRequest {
  explicit ResolvedRequest(const cedar::Request& request)
      : request(request),
        principal(request.find(request.principal)),
        action(request.find(request.action)),
        resource(request.find(request.resource)) {}

  const cedar::Request& request;
  const cedar::Entity *principal, *action, *resource;  // null: nobody has described it
};

// The operands of a policy's conditions joined by &&, in the order of evaluation.
std::vector<uint32_t> conjuncts_of(const cedar::Program& program, const cedar::Policy& policy);

class PolicyIndex {
 public:
  void add(uint32_t policy, const cedar::Program& program);
  // What of a request is not said, so that a condition on it tells nothing.
  struct Unknown {
    bool context = false;
    bool principal = false;  // its attributes and tags; what it belongs to is known
  };
  // Ascending, each once.
  void find(const ResolvedRequest& request, Unknown unknown, std::vector<uint32_t>& out) const;
  // The head says more than its keys do.
  static bool needs_head(const cedar::Policy& policy);

 private:
  struct Identity {
    size_t operator()(uint64_t key) const { return key ^ key >> 31; }
  };
  template <class T>
  using ByKey = std::unordered_map<uint64_t, T, Identity>;
  struct ByHash {
    size_t operator()(const cedar::EntityName& name) const { return name.hash; }
  };
  // What heads say of one of the three, each under a number; 0 is nothing.
  struct Names {
    std::unordered_map<cedar::EntityName, uint32_t, ByHash> exact, groups;
    std::unordered_map<std::string_view, uint32_t> types;
    uint32_t last = 0;

    std::vector<uint32_t> of(const cedar::Scope& scope);
    // Those that fit an entity.
    void find(const cedar::EntityName& name, const cedar::Entity* entity, std::vector<uint32_t>& out) const;
    template <class Map, class Key>
    uint32_t number(Map& map, const Key& key) {
      const auto [at, made] = map.try_emplace(key, last + 1);
      if (made) ++last;
      return at->second;
    }
  };

  // What is asked of the value at principal.labels.department.
  struct Question {
    cedar::Op root = cedar::Op::principal;
    std::vector<std::string_view> keys;
    cedar::Op test = cedar::Op::equal;         // or is_in_range, like, less, less_equal, greater, greater_equal
    cedar::Kind kind = cedar::Kind::datetime;  // less and its like: of the constants
    bool guarded = false;                      // the conditions before ask with `has` for each step
    bool operator==(const Question&) const = default;
  };
  struct RangeLength {
    uint8_t prefix = 0;
    bool is_v6 = false;
    bool operator==(const RangeLength&) const = default;
  };
  struct Told {  // policies told apart by the constant in one question
    Question question;
    ByKey<std::vector<uint32_t>> by_value;              // equal, is_in_range, like
    std::map<int64_t, std::vector<uint32_t>> by_order;  // less and its like
    std::vector<RangeLength> range_lengths;             // is_in_range: those that occur
    size_t piece_lengths = 0;                           // like: the sum of those that occur
    std::vector<uint32_t> all;

    void file(uint32_t policy, const cedar::Value& constant);
    // Adds the policies of which the value may be what they ask for.
    void look_up(const cedar::Value& value, std::vector<uint32_t>& out) const;
    void look_into(const ResolvedRequest& request, Unknown unknown, std::vector<uint32_t>& out) const;
  };
  struct Drawer {
    std::vector<uint32_t> plain;
    std::vector<Told> told;
  };
  struct FirstQuestion {
    Question question;
    cedar::Value constant;  // of like: the pattern, then the piece of it that is looked up
  };

  static std::optional<Question> path_of(const cedar::Program& program, uint32_t node);
  static std::optional<FirstQuestion> asked_by(const cedar::Program& program, const cedar::Node& node);
  static std::optional<FirstQuestion> first_question(const cedar::Program& program,
                                                     const std::vector<uint32_t>& conjuncts);
  std::string_view rarest_piece(std::string_view pattern);

  ByKey<Drawer> filed_;  // by the three numbers together
  Names principals_, actions_, resources_;
  std::vector<uint32_t> piece_counts_;  // by a piece's hash: how many patterns have it
};

}  // namespace redoubt
