#include "runtime/boot/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace trapline {

Result<InputFile> InputFile::open(std::string path, std::string_view what) {
  InputFile file;
  file.path_ = std::move(path);
  file.what_ = what;
  // Not blocking, so that a named pipe without a writer is refused below instead of waited for.
  file.descriptor_ = ::open(file.path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.descriptor_ < 0)
    return file.bad(std::string("cannot be opened: ") + std::strerror(errno) +
                    "; give the path of a file that you may read");
  struct stat status {};
  if (fstat(file.descriptor_, &status) != 0)
    return file.bad(std::string("cannot be looked at: ") + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return file.bad("is a directory; give the path of a file in it");
  if (!S_ISREG(status.st_mode))
    return file.bad("is not a regular file; copy its content to one and give that");
  file.size_ = static_cast<uint64_t>(status.st_size);
  return file;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      what_(std::move(other.what_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

Result<std::vector<std::byte>> InputFile::read(uint64_t offset, uint64_t size) const {
  if (offset > size_ || size > size_ - offset)
    return bad("is truncated: " + std::to_string(size) + " bytes at offset " +
               std::to_string(offset) + " are needed, and the file has " + std::to_string(size_) +
               "; copy or build it again");
  std::vector<std::byte> content(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t got =
        pread(descriptor_, content.data() + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return bad(std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) return bad("became shorter while it was read; start again when it is complete");
    done += static_cast<uint64_t>(got);
  }
  return content;
}

Error InputFile::bad(std::string_view what_is_wrong) const {
  return {ExitStatus::kBadInput, what_ + " '" + path_ + "' " + std::string(what_is_wrong)};
}

}  // namespace trapline
