// The policies that hold, kept in the database with every version there was: who wrote it, when, and why.
//
// A change is a new version and never a rewrite. It is parsed before it is stored, holds on this node when change()
// returns, and on the others within half a second (storage/refresher.h). A file given at start becomes a version
// whenever it is another one than when it was last read, so that what was changed by the API since stays until somebody
// edits the file. Thread safety: any.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/json.h"
#include "core/result.h"
#include "governance/policy.h"
#include "storage/database.h"
#include "storage/refresher.h"

namespace redoubt {

struct PolicyVersion {
  int64_t version = 0;
  std::string text;
  Json entities = Json::array();  // described models, datasets, adapters, as Cedar's tools have them
  std::string author;             // a principal's id, or "file policies.cedar", or "first start"
  std::string note;
  int64_t created_ms = 0;
};

struct PolicyFile {
  std::string name;  // to be shown
  std::string text;
};

// What a node's configuration says of its models to policies. Kept in the database under the node's name while it is
// the last one that this node started with, for whoever explains or compares policies beside the node; 30 days after
// the node was there last it is removed by any that is.
struct NodeModels {
  std::string node;               // "": nobody's; what the nodes have kept is taken instead
  Json entities = Json::array();  // the models with their labels
  ModelStages stages = {};
};
// {"model": "stage"} as kept and as told; what is no text is left out.
ModelStages stages_from_json(const Json& json);
// What the nodes have kept, of a model that several name the node's that started last. Makes the tables.
Result<NodeModels> kept_models(Database& database, const WallClock& wall);

// The version that holds, of a database that a store has made its tables in; for commands beside a server.
Result<PolicyVersion> newest_policies(Database& database);

class PolicyStore {
 public:
  // Makes the tables, the first version if there is none (of the file, else the default text), and the engine.
  // Errors: of the file, with line and column; unavailable; corrupt_data if what is stored cannot be read.
  // `database` and the clocks outlive the store. period_ms: of looking for others' changes; 0: only when told to.
  // `configured`: whose entities hold where the database describes none of that name.
  static Result<std::unique_ptr<PolicyStore>> open(Database& database, const std::optional<PolicyFile>& file,
                                                   const Clock& clock, const WallClock& wall,
                                                   NodeModels configured = {}, int period_ms = 250);

  const std::shared_ptr<PolicyEngine>& engine() const { return engine_; }
  const NodeModels& configured() const { return configured_; }
  const WallClock& wall() const { return wall_; }
  int64_t age_ns() const { return refresher_->age_ns(); }  // since what the engine holds was known to be what is stored
  Status refresh() { return refresher_->refresh(); }
  Status note_running() const;  // that this node is still there; to be called every few hours

  struct Change {
    std::string text;
    std::optional<Json> entities;  // absent: as they are
    std::string author, note;
    std::optional<int64_t> expected;  // the version that is to be replaced; absent: whichever
  };
  // The new version's number. Errors: invalid_argument (line and column), conflict (`expected` is not the newest),
  // unavailable.
  Result<int64_t> change(const Change& change);

  Result<PolicyVersion> newest() const { return newest_policies(database_); }
  Result<PolicyVersion> version(int64_t version) const;         // errors: not_found
  Result<std::vector<PolicyVersion>> history(int limit) const;  // the newest first, without texts and entities

 private:
  PolicyStore(Database& database, const WallClock& wall, NodeModels configured)
      : database_(database), wall_(wall), started_ms_(wall.now_ms()), configured_(std::move(configured)) {}
  Status adopt(const std::optional<PolicyFile>& file);
  Status load(Transaction& tx);

  Database& database_;
  const WallClock& wall_;
  const int64_t started_ms_;
  const NodeModels configured_;
  std::shared_ptr<PolicyEngine> engine_;
  std::unique_ptr<Refresher> refresher_;  // last: its thread uses the rest
};

}  // namespace redoubt
