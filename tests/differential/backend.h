// What can run cases: the host CPU, the engine, Unicorn.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "tests/differential/case.h"
#include "vcpu/result.h"

namespace trapline::differential {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  /// Whether the host's processor runs the code, with its ways.
  virtual bool on_processor() const { return false; }
  /// Runs each case from the common window content and says what came of it.
  virtual void run(std::span<const Case> cases, std::span<Outcome> outcomes) = 0;
};

}  // namespace trapline::differential
