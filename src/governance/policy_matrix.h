// The access matrix: who may do what to what, computed from the policies and nothing else.
//
// Its rows are those whom the policies speak of: each named user and service, and for each named role, team and tenant
// somebody who belongs to just that; and somebody of whom nothing is known. Its resources are those that are named or
// described, and one of each kind that nobody has named. Each cell is decided as a request would be.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "governance/policy.h"

namespace redoubt {

enum class Access : uint8_t {
  allowed,    // in every context
  denied,     // nothing permits it, in any context
  forbidden,  // something forbids it, in every context
  depends,    // on the context (time, network, purpose, ...), or on who exactly asks
};
std::string_view access_name(Access access);

struct MatrixAxis {
  struct Principal {
    std::string label;  // "in Redoubt::Role::\"user\"", for people
    std::string type, id;
    std::vector<std::pair<std::string, std::string>> parents;  // type, id
    bool operator==(const Principal&) const = default;
    auto operator<=>(const Principal&) const = default;
  };
  struct Resource {
    std::string label, type, id;
    bool operator==(const Resource&) const = default;
    auto operator<=>(const Resource&) const = default;
  };
  std::vector<Principal> principals;
  std::vector<std::string> actions;
  std::vector<Resource> resources;

  size_t cells() const { return principals.size() * actions.size() * resources.size(); }
};

// What both the policies and the described entities speak of. Sorted.
MatrixAxis axis_of(const PolicySnapshot& snapshot);
MatrixAxis joined(const MatrixAxis& a, const MatrixAxis& b);

struct Matrix {
  MatrixAxis axis;
  std::vector<Access> cells;  // [principals, actions, resources]

  Access at(size_t principal, size_t action, size_t resource) const {
    return cells[(principal * axis.actions.size() + action) * axis.resources.size() + resource];
  }
};

// Without a context: what holds in all of them, and for everybody whom a row stands for, whatever attributes they have.
// With one: what holds in it for somebody of whom no more is known; `depends` does not occur. Errors: invalid_argument
// (more than kMaxMatrixCells).
inline constexpr size_t kMaxMatrixCells = 1'000'000;
Result<Matrix> compute_matrix(const std::shared_ptr<const PolicySnapshot>& by, const MatrixAxis& axis,
                              const cedar::RecordValue* context = nullptr);
Json to_json(const Matrix& matrix);

struct MatrixChange {
  std::string principal, action, resource;
  Access before, after;
};
// Cells that differ between two sets of policies, on the axis of both.
Result<std::vector<MatrixChange>> changes(const std::shared_ptr<const PolicySnapshot>& before,
                                          const std::shared_ptr<const PolicySnapshot>& after);
Json to_json(const std::vector<MatrixChange>& changes);

}  // namespace redoubt
