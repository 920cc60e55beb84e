// The program that a container runs (container/), as it lies in this one.
#pragma once

#include <cstddef>
#include <span>

namespace trapline {

std::span<const std::byte> container_image();

}  // namespace trapline
