// Serial lines that other programs connect to: a socket, a pseudo-terminal. A thread moves the
// bytes. The guest waits for no one: what is written while nobody listens is kept up to a limit, of
// which the end counts, and shown to who comes; a listener who does not read is waited for only
// briefly.
#pragma once

#include <memory>
#include <string>

#include "runtime/cli/serial_backends.h"
#include "vcpu/result.h"

namespace trapline {

/// A socket at `path`, for one client at a time; when he goes, the next one may come. The path must
/// be free, or a socket on which nobody listens any more. It is removed at the end.
Result<std::unique_ptr<SerialEnd>> make_socket_end(const std::string& path, const SerialHost& host);
/// Tells the path of its pseudo-terminal on standard error.
Result<std::unique_ptr<SerialEnd>> make_pty_end(const SerialHost& host);

}  // namespace trapline
