#include "apps/isolation.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "apps/data_folder.h"
#include "core/mapped_file.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

std::string where(const std::vector<IsolationEntry>& entries, const std::string& name) {
  for (const IsolationEntry& entry : entries) {
    if (entry.name == name) return entry.where;
  }
  return "";
}

TEST(Isolation, PeersAreShownWithWhereTheyLeadAndWithoutTheirSecrets) {
  const auto shown = [](std::string url) {
    ServeConfig config;
    config.database = std::move(url);
    return where(isolation_of(config), "database");
  };
  EXPECT_EQ(shown(""), "");
  EXPECT_EQ(shown("postgresql://ann:secret@db.bank/redoubt"), "postgresql://db.bank/redoubt");
  EXPECT_EQ(shown("postgresql:///redoubt?host=/run/postgresql&password=secret"),
            "postgresql:///redoubt?host=/run/postgresql");
  EXPECT_EQ(shown("postgresql://a:b@h/r?password=secret&host=db.bank&port=5433&user=ann"),
            "postgresql://h/r?host=db.bank&port=5433");
  EXPECT_EQ(shown("postgresql://h/r?sslmode=require"), "postgresql://h/r");
}

TEST(Isolation, AListenersAddressIsWrittenAsInItsUrl) {
  ServeConfig config;
  config.host = config.admin_host = "::1";
  EXPECT_EQ(where(isolation_of(config), "clients"), "[::1]:8000");
  EXPECT_EQ(where(isolation_of(config), "administration"), "[::1]:8001 or, if taken, any free one");
  config.admin_port = 9;
  EXPECT_EQ(where(isolation_of(config), "administration"), "[::1]:9");
}

TEST(Isolation, TheLastPortHasNoneAfterIt) {
  ServeConfig config;
  config.port = 65535;
  EXPECT_EQ(where(isolation_of(config), "administration"), "127.0.0.1:0");
}

TEST(Isolation, ARunningServersPortsAreTheTrueOnes) {
  const test::TemporaryFolder folder;
  const std::filesystem::path& data = folder.path();
  EXPECT_EQ(where(isolation_of({}, read_listeners(data)), "administration"),
            "127.0.0.1:8001 or, if taken, any free one");
  {
    const auto held = DataFolder::open(data);
    ASSERT_TRUE(held);
    EXPECT_FALSE(read_listeners(data));
    Listeners listeners{
        .clients = "http://127.0.0.1:8000", .administration = "https://[::1]:39121", .auth = "keys", .isolation = {}};
    ServeConfig config;
    config.database = "postgresql://ann:secret@db.bank/redoubt";
    listeners.isolation = isolation_of(config, listeners);
    const auto file = ListenersFile::write(data, listeners);
    ASSERT_TRUE(file);
    const auto found = read_listeners(data);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->auth, "keys");
    EXPECT_EQ(where(found->isolation, "clients"), "127.0.0.1:8000");
    EXPECT_EQ(where(found->isolation, "administration"), "[::1]:39121");
    EXPECT_EQ(where(found->isolation, "database"), "postgresql://db.bank/redoubt");
    EXPECT_EQ(read_text_file(data / "listeners", 1 << 20)->find("secret"), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(data / "listeners"));
  {
    const auto held = DataFolder::open(data);
    auto file = ListenersFile::write(
        data, {.clients = "http://127.0.0.1:8000", .administration = "", .auth = "off", .isolation = {}});
    ASSERT_TRUE(file);
    std::filesystem::copy_file(data / "listeners", data / "kept");
  }
  std::filesystem::rename(data / "kept", data / "listeners");
  EXPECT_FALSE(read_listeners(data)) << "of a server that was killed";
}

TEST(Isolation, AFileThatSaysNoListenersIsNone) {
  const test::TemporaryFolder folder;
  const std::filesystem::path& data = folder.path();
  const auto held = DataFolder::open(data);
  ASSERT_TRUE(held);
  const auto read = [&](const std::string& text) {
    std::ofstream(data / "listeners") << text;
    return read_listeners(data);
  };
  EXPECT_TRUE(read(R"({"clients":"http://h:1","administration":"","auth":"off","isolation":[]})"));
  EXPECT_TRUE(read(R"({"clients":"http://h:1","auth":"keys","isolation":[{"what":"listener"}]})"));
  for (const char* text :
       {R"({})", R"({"clients":"","auth":"off","isolation":[]})", R"({"clients":7,"auth":"off","isolation":[]})",
        R"({"clients":"h:1","auth":"off","isolation":[]})",
        R"({"clients":"http://h:1","administration":"h:2","auth":"off","isolation":[]})", R"(["clients"])",
        R"({"clients":)", R"({"clients":"http://h:1","isolation":[]})", R"({"clients":"http://h:1","auth":"off"})",
        R"({"clients":"http://h:1","auth":"perhaps","isolation":[]})",
        R"({"clients":"http://h:1","auth":"off","isolation":[7]})"}) {
    const auto found = read(text);
    EXPECT_FALSE(found) << text;
    EXPECT_EQ(where(isolation_of({}, found), "clients"), "127.0.0.1:8000") << text;
  }
}

// Whoever asks if a server runs holds its lock for a moment.
TEST(DataFolder, IsOpenedThoughSomebodyLooksIfItIsHeld) {
  const test::TemporaryFolder folder;
  const std::filesystem::path& data = folder.path();
  const int looking = ::open((data / "lock").c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(looking, 0);
  ASSERT_EQ(flock(looking, LOCK_SH | LOCK_NB), 0);
  std::thread looks([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    close(looking);
  });
  {
    const auto held = DataFolder::open(data);
    EXPECT_TRUE(held) << (held ? "" : held.error().message);
    EXPECT_TRUE(DataFolder::is_held(data));
    const auto second = DataFolder::open(data);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("another redoubt holds"), std::string::npos);
  }
  looks.join();
}

}  // namespace
}  // namespace redoubt
