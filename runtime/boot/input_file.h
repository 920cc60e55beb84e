// A file that a loader reads piece by piece. No size that stands in the file is trusted: a read
// beyond its end is an error, and nothing is allocated for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vcpu/result.h"

namespace trapline {

class InputFile {
 public:
  /// Regular files only. `what` names its role in error sentences: "kernel", "module".
  static Result<InputFile> open(std::string path, std::string_view what);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  /// All of the bytes or an error, also when the file has shrunk since it was opened.
  Result<std::vector<std::byte>> read(uint64_t offset, uint64_t size) const;
  /// "kernel 'path': " before what is wrong.
  Error bad(std::string_view what_is_wrong) const;

 private:
  InputFile() = default;
  std::string path_;
  std::string what_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace trapline
