// One who waits for a model to be loaded: told once how it ended, unless he leaves before.
// Thread safety: all of it. What the callback holds is released as soon as it was called or nobody waits any more.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "core/result.h"

namespace redoubt {

struct LoadedModel;

class ModelWait {
 public:
  using Loaded = Result<std::shared_ptr<LoadedModel>>;
  explicit ModelWait(std::function<void(Loaded)> told) : told_(std::move(told)) {}

  void end(Loaded loaded) {
    if (const auto told = take()) told(std::move(loaded));
  }
  void leave() { take(); }
  bool is_over() const {
    const std::lock_guard lock(mutex_);
    return told_ == nullptr;
  }

 private:
  std::function<void(Loaded)> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(told_, nullptr);
  }

  mutable std::mutex mutex_;
  std::function<void(Loaded)> told_;
};

}  // namespace redoubt
