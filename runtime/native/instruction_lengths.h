// How long 32-bit instructions are, of any processor: what their form tells, and for the others
// what Zydis says, and has said about the same form before.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/native/instruction_form.h"

namespace trapline {

class InstructionLengths {
 public:
  static constexpr uint8_t kNone = 0xff;

  /// Of the instruction that the bytes begin with; kNone if there is none, or if it goes on behind
  /// them.
  uint8_t of(std::span<const uint8_t> bytes) {
    InstructionForm form;
    if (bytes.size() < InstructionForm::kLongest || !form_of(bytes.data(), form)) return ask(bytes);
    return form.length ? form.length : remembered(bytes, form);
  }
  /// By Zydis alone.
  static uint8_t ask(std::span<const uint8_t> bytes);

 private:
  uint8_t remembered(std::span<const uint8_t> bytes, const InstructionForm& form);

  /// The length, with kSib if there is a SIB byte, without what that adds; 0 is not known.
  FormMemo<uint8_t> memo_;
};

}  // namespace trapline
