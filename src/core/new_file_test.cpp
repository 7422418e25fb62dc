#include "core/new_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

class NewFiles : public testing::TestWithParam<Bytes> {
 protected:
  Result<NewFile> create(std::string_view text) {
    Result<NewFile> file = NewFile::create(path_, Links::followed, GetParam());
    if (file) {
      EXPECT_EQ(::write(file->fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    return file;
  }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.insert(entry.path().filename().string());
    return names;
  }
  std::string text() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  test::TemporaryFolder folder_;
  const fs::path path_ = folder_ / "made";
};

TEST_P(NewFiles, TakesItsNameWhenItIsCompleteAndReplacesWhatWasThere) {
  for (const std::string_view written : {"first", "second"}) {
    const std::string before = text();
    NewFile file = create(written).value();
    EXPECT_EQ(text(), before);
    ASSERT_TRUE(file.take_name());
    EXPECT_EQ(text(), written);
    EXPECT_EQ(names(), std::set<std::string>{"made"});
  }
}

TEST_P(NewFiles, OneThatTookNoNameLeavesNothing) {
  { const NewFile file = create("half").value(); }
  EXPECT_EQ(names(), std::set<std::string>{});
  NewFile file = create("whole").value();
  fs::create_directory(path_);  // a name that cannot be taken any more
  EXPECT_FALSE(file.take_name());
  EXPECT_EQ(names(), std::set<std::string>{"made"});
}

TEST_P(NewFiles, ReplaceWhatASymbolicLinkLeadsTo) {
  const fs::path link = folder_ / "link", chained = folder_ / "chained";
  fs::create_symlink("made", link);  // leads to nothing yet
  fs::create_symlink(link, chained);
  for (const std::string_view written : {"first", "second"}) {
    NewFile file = NewFile::create(chained, Links::followed, GetParam()).value();
    ASSERT_EQ(::write(file.fd(), written.data(), written.size()), static_cast<ssize_t>(written.size()));
    EXPECT_FALSE(NewFile::create(path_, Links::followed, GetParam()));  // is the same file
    ASSERT_TRUE(file.take_name());
    EXPECT_EQ(text(), written);
    EXPECT_EQ(names(), (std::set<std::string>{"chained", "link", "made"}));
    EXPECT_TRUE(fs::is_symlink(link) && fs::is_symlink(chained));
  }
  fs::create_symlink("round", folder_ / "round");
  EXPECT_FALSE(NewFile::create(folder_ / "round", Links::followed, GetParam()));
}

// Whoever may write in the folder may have put the link there.
TEST_P(NewFiles, ReplaceALinkThatNobodyNamed) {
  const fs::path victim = folder_ / "victim";
  { std::ofstream(victim) << "precious"; }
  fs::create_symlink(victim, path_);
  NewFile::remove_left_over(path_);
  NewFile file = NewFile::create(path_, Links::replaced, GetParam()).value();
  ASSERT_EQ(::write(file.fd(), "new", 3), 3);
  ASSERT_TRUE(file.take_name());
  EXPECT_FALSE(fs::is_symlink(path_));
  EXPECT_EQ(text(), "new");
  std::string kept;
  std::getline(std::ifstream(victim), kept);
  EXPECT_EQ(kept, "precious");
}

TEST_P(NewFiles, NeverReplaceWhatIsNoFile) {
  const auto refusal = [&](const fs::path& path) {
    const Result<NewFile> file = NewFile::create(path, Links::followed, GetParam());
    return file ? std::string() : file.error().message;
  };
  fs::create_directory(path_);
  EXPECT_EQ(refusal(path_), path_.string() + ": expected a file or a new name, found a directory");
  fs::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(refusal(path_), path_.string() + ": expected a file or a new name, found a pipe");
  EXPECT_EQ(names(), std::set<std::string>{"made"});
  fs::create_symlink("/dev/null", folder_ / "link");
  EXPECT_EQ(refusal(folder_ / "link"), (folder_ / "link").string() + ": expected a file or a new name, found a device");
}

TEST_P(NewFiles, HasOneWriterAtATime) {
  NewFile file = create("first").value();
  for (const Bytes bytes : {Bytes::nameless_if_possible, Bytes::named}) {
    const Result<NewFile> other = NewFile::create(path_, Links::followed, bytes);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, ErrorCode::overloaded);
    EXPECT_EQ(other.error().message, path_.string() + ": another process is writing it");
  }
  NewFile::remove_left_over(path_);  // is being written, so nothing is left over
  NewFile moved = std::move(file);
  ASSERT_TRUE(moved.take_name());
  EXPECT_EQ(text(), "first");
  NewFile next = create("second").value();
  ASSERT_TRUE(next.take_name());
  EXPECT_EQ(text(), "second");
}

TEST_P(NewFiles, WhatAKilledProcessLeftIsTakenOverOrRemoved) {
  for (const bool removes : {false, true}) {
    fs::remove(path_);
    const pid_t child = ::fork();
    if (child == 0) {
      const Result<NewFile> file = create(std::string(100'000, 'x'));
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const fs::path partial = path_.string() + ".partial";
    EXPECT_EQ(names(), std::set<std::string>{partial.filename().string()});
    if (GetParam() == Bytes::named) {
      EXPECT_EQ(fs::file_size(partial), 100'000U);
    } else if (fs::file_size(partial) != 0) {
      GTEST_SKIP() << "this file system gives every file a name";
    }
    if (removes) {
      std::ofstream(path_.string() + ".complete") << "of the moment before the name";
      NewFile::remove_left_over(path_);
      EXPECT_EQ(names(), std::set<std::string>{});
    } else {
      NewFile file = create("y").value();
      ASSERT_TRUE(file.take_name());
      EXPECT_EQ(text(), "y");
      EXPECT_EQ(names(), std::set<std::string>{"made"});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutName, NewFiles, testing::Values(Bytes::nameless_if_possible, Bytes::named));

}  // namespace
}  // namespace redoubt
