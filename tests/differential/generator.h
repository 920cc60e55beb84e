// Makes cases: single instructions of a given form, and blocks of several with control flow.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/differential/case.h"
#include "tests/differential/forms.h"
#include "tests/differential/instruction.h"
#include "tests/differential/random.h"

namespace trapline::differential {

/// A case depends on the seed, its number and the attempt alone (and on the list of forms, and
/// whether the host is AMD's: blocks there are without what amd_blocks_lack()).
class Generator {
 public:
  Generator(uint64_t seed, const std::vector<Form>& forms, CodeSize size);

  /// One instruction of the form, then the exits.
  Case single(uint64_t number, uint32_t form, uint32_t attempt = 0) const;
  /// 2 to 24 instructions with branches, calls and loops between them.
  Case block(uint64_t number, uint32_t attempt = 0) const;

 private:
  Random random(uint64_t stream, uint32_t attempt) const {
    return {seed_, stream ^ uint64_t{attempt} << 48};
  }

  uint64_t seed_;
  const std::vector<Form>& forms_;
  CodeSize size_;
  std::vector<uint32_t> block_forms_;
  ZydisDecoder decoder_;
};

}  // namespace trapline::differential
