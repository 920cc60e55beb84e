// Guest code in, host code out.
#pragma once

#include <memory>
#include <vector>

#include "translator/analysis.h"
#include "translator/decode_memo.h"
#include "translator/instruction.h"
#include "translator/switches.h"
#include "translator/translation.h"
#include "vcpu/cpu_model.h"

namespace trapline {

class HostAssembler;

class Translator {
 public:
  Translator(const CpuModel& model, const Switches& switches, const Thunks& thunks);
  ~Translator();

  /// Translates the block at request.eip. The result is valid until the next call.
  const Translation& translate(const TranslationRequest& request);

 private:
  Translation::Status decode_block(const TranslationRequest& request);
  void emit(const TranslationRequest& request);

  DecodeMemo memo_;
  Switches switches_;
  Thunks thunks_;
  std::unique_ptr<HostAssembler> assembler_;
  std::vector<Instruction> instructions_;
  BlockAnalysis analysis_;
  Translation translation_;
};

}  // namespace trapline
