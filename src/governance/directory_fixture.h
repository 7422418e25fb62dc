// A directory over an empty database, without background work, for tests.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

#include "governance/directory.h"
#include "test_database.h"

namespace redoubt::test {

inline KeyedHash test_hash(uint8_t seed = 1) {
  std::array<uint8_t, KeyedHash::kKeyBytes> key{};
  key.fill(seed);
  return KeyedHash(key);
}

inline Actor actor_of(std::string id, std::vector<std::string> roles, PrincipalKind kind = PrincipalKind::user) {
  auto made = std::make_shared<Principal>();
  made->id = std::move(id);
  made->kind = kind;
  made->tenant = "default";
  made->roles = std::move(roles);
  return made;
}

class DirectoryFixture : public testing::Test {
 protected:
  explicit DirectoryFixture(DatabaseKind kind = DatabaseKind::sqlite) : files_(kind) {}
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
    directory_ = open_directory(*database_);
    ASSERT_NE(directory_, nullptr);
    first_ = directory_->first_start("").value();
  }
  std::unique_ptr<Directory> open_directory(Database& database, DirectoryOptions options = {.period_ms = 0}) {
    auto directory = Directory::open(database, test_hash(), clock_, wall_, options);
    if (!directory) ADD_FAILURE() << directory.error().message;
    return directory ? std::move(directory).value() : nullptr;
  }
  KeyPtr key(const std::string& id) const {
    const auto snapshot = directory_->snapshot();
    const auto found = snapshot->keys.find(id);
    return found == snapshot->keys.end() ? nullptr : found->second;
  }
  PrincipalRecord record(const std::string& id) const { return directory_->snapshot()->principals.at(id); }
  static ErrorCode code(const Status& status) { return status ? ErrorCode::internal : status.error().code; }
  template <class T>
  static ErrorCode code(const Result<T>& result) {
    return result ? ErrorCode::internal : result.error().code;
  }

  ManualClock clock_;
  ManualWallClock wall_;
  TestDatabase files_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Directory> directory_;
  Directory::FirstKeys first_;
  const Actor owner_ = nullptr;
  const Actor system_ = actor_of("sys", {"system_admin"});
  const Actor security_ = actor_of("sec", {"security_admin"});
  const Actor audit_ = actor_of("aud", {"audit_admin"});
};

}  // namespace redoubt::test
