// Guest code in, host code out.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "translator/analysis.h"
#include "translator/instruction.h"
#include "translator/switches.h"
#include "translator/translation.h"
#include "vcpu/cpu_model.h"

namespace trapline {

class DecodeMemo;

class Translator {
 public:
  Translator(const CpuModel& model, const Switches& switches, const Thunks& thunks);
  ~Translator();

  /// Translates the block at request.eip. The result is valid until the next call.
  const Translation& translate(const TranslationRequest& request);

 private:
  Translation::Status decode_block(const TranslationRequest& request);
  std::optional<uint32_t> followed_jump(const TranslationRequest& request,
                                        const Instruction& in) const;
  bool movable(const TranslationRequest& request) const;
  void emit(const TranslationRequest& request);
  std::span<const Instruction> instructions() const { return std::span(decoded_).first(count_); }

  std::unique_ptr<DecodeMemo> memo_;
  Switches switches_;
  Thunks thunks_;
  struct Workspace;
  std::unique_ptr<Workspace> workspace_;
  std::vector<Instruction> decoded_;  ///< As large as a block can be; the first count_ are used.
  size_t count_ = 0;
  BlockAnalysis analysis_;
  Translation translation_;
};

}  // namespace trapline
