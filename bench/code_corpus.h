// A large body of real code that runs straight through once: what the translator's cost per block
// is measured over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace trapline {

/// The bytes of a file. Ends the program with a sentence when it cannot be read.
std::vector<std::byte> read_file(const std::string& path);

/// Cuts 32-bit code into its basic blocks, from each branch target and each instruction after a
/// branch up to the next branch, and lays the blocks out one after the other, `copies` times. Each
/// block keeps its kind of ending, but every way out of it leads to the block after it; the last
/// one halts. So all of it is executed once whatever the data, and every block is translated once.
/// Left out is what the data could stop or slow down: divisions, REP prefixes, and moves to ESP.
/// The code is position-independent but for its branches' distances: put it anywhere below 4 GiB,
/// at `address`.
std::vector<std::byte> make_code_corpus(std::span<const std::byte> text, uint32_t copies,
                                        uint32_t address);

}  // namespace trapline
