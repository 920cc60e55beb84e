// Whose the host's processor is, where that cannot be found out by trying.
#pragma once

namespace trapline {

/// AMD's, or Hygon's, which are the same.
bool host_is_amd();

}  // namespace trapline
