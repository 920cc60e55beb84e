// --serial script:FILE: a conversation with the guest that is written down. What is typed depends
// on nothing but what the guest prints, so that a run with --clock=instructions is repeatable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/cli/serial_backends.h"
#include "vcpu/result.h"

namespace trapline {

struct ScriptStep {
  enum class Kind : uint8_t { kWait, kSend };
  Kind kind = Kind::kWait;
  std::string text;
};

/// Lines "wait TEXT" and "send TEXT", with \n, \r, \t, \e and \\ in the text; empty lines, and
/// those that begin with #, say nothing. `name` is for error sentences.
Result<std::vector<ScriptStep>> parse_script(std::string_view content, const std::string& name);

Result<std::unique_ptr<SerialEnd>> make_script_end(const std::string& path, const SerialHost& host);

}  // namespace trapline
