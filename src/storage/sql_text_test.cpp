#include "storage/sql_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace redoubt {
namespace {

TEST(SqlText, ParametersAreNumberedForPostgres) {
  EXPECT_EQ(postgres_sql("SELECT a FROM t WHERE b = ? AND c < ?"), "SELECT a FROM t WHERE b = $1 AND c < $2");
  EXPECT_EQ(postgres_sql("SELECT '?', \"?\" -- ?\n, ?"), "SELECT '?', \"?\" -- ?\n, $1");
  EXPECT_EQ(postgres_sql("SELECT 'it''s ?', ?"), "SELECT 'it''s ?', $1");
  EXPECT_EQ(postgres_sql("SELECT 'never closed ?"), "SELECT 'never closed ?");
}

TEST(SqlText, RowLocksAreForPostgresAlone) {
  EXPECT_EQ(sqlite_sql("SELECT a FROM t WHERE b = ? FOR UPDATE"), "SELECT a FROM t WHERE b = ?");
  EXPECT_EQ(sqlite_sql("SELECT a FROM t "), "SELECT a FROM t");
}

TEST(SqlText, AScriptIsPartedIntoItsStatements) {
  EXPECT_THAT(split_statements("CREATE TABLE a (b TEXT); -- one; two\nINSERT INTO a VALUES (';');;\n"),
              testing::ElementsAre("CREATE TABLE a (b TEXT)", "INSERT INTO a VALUES (';')"));
  EXPECT_TRUE(split_statements(" \n;").empty());
}

}  // namespace
}  // namespace redoubt
