// Transfers between code segments of real mode and, where nothing else decides, of V86 mode,
// without C++. Each gives false when C++ has to do it, and has then emitted nothing.
#pragma once

namespace trapline {

class BlockEmitter;
struct Instruction;

bool lower_real_jump(BlockEmitter& e, const Instruction& in);
bool lower_real_call(BlockEmitter& e, const Instruction& in);
bool lower_real_return(BlockEmitter& e, const Instruction& in);
bool lower_real_interrupt(BlockEmitter& e, const Instruction& in);
bool lower_real_iret(BlockEmitter& e, const Instruction& in);

}  // namespace trapline
