#include "tests/differential/switch_options.h"

#include <cstdio>

namespace trapline::differential {

bool apply_switches(const std::vector<std::string>& settings, Switches& switches) {
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    const SwitchName* const name = find_switch(setting.substr(0, equals));
    if (!name || equals == std::string::npos) {
      std::fprintf(stderr, "There is no switch setting '%s'; use NAME=on or NAME=off.\n",
                   setting.c_str());
      return false;
    }
    switches.*name->member = setting.substr(equals + 1) == "on";
  }
  return true;
}

}  // namespace trapline::differential
