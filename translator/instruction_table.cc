#include "translator/instruction_table.h"

#include <Zydis/Zydis.h>
#include <asmjit/x86.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "translator/instruction.h"
#include "translator/lower.h"

namespace trapline {
namespace {

struct Group {
  LoweringFunction lower;
  BlockEffect effect;
  FpuUse fpu;
  OracleUse oracle;
  std::span<const ZydisMnemonic> mnemonics;
};

constexpr ZydisMnemonic kGenericInteger[] = {
    ZYDIS_MNEMONIC_ADC,       ZYDIS_MNEMONIC_ADD,     ZYDIS_MNEMONIC_AND,    ZYDIS_MNEMONIC_OR,
    ZYDIS_MNEMONIC_SUB,       ZYDIS_MNEMONIC_SBB,     ZYDIS_MNEMONIC_XOR,    ZYDIS_MNEMONIC_CMP,
    ZYDIS_MNEMONIC_TEST,      ZYDIS_MNEMONIC_NOT,     ZYDIS_MNEMONIC_NEG,    ZYDIS_MNEMONIC_INC,
    ZYDIS_MNEMONIC_DEC,       ZYDIS_MNEMONIC_XCHG,    ZYDIS_MNEMONIC_XADD,   ZYDIS_MNEMONIC_CMPXCHG,
    ZYDIS_MNEMONIC_CMPXCHG8B, ZYDIS_MNEMONIC_MUL,     ZYDIS_MNEMONIC_IMUL,   ZYDIS_MNEMONIC_MOVSX,
    ZYDIS_MNEMONIC_MOVZX,     ZYDIS_MNEMONIC_RCL,     ZYDIS_MNEMONIC_RCR,    ZYDIS_MNEMONIC_ROL,
    ZYDIS_MNEMONIC_ROR,       ZYDIS_MNEMONIC_SAR,     ZYDIS_MNEMONIC_SHL,    ZYDIS_MNEMONIC_SHR,
    ZYDIS_MNEMONIC_SHLD,      ZYDIS_MNEMONIC_SHRD,    ZYDIS_MNEMONIC_BSF,    ZYDIS_MNEMONIC_BSR,
    ZYDIS_MNEMONIC_SETB,      ZYDIS_MNEMONIC_SETBE,   ZYDIS_MNEMONIC_SETL,   ZYDIS_MNEMONIC_SETLE,
    ZYDIS_MNEMONIC_SETNB,     ZYDIS_MNEMONIC_SETNBE,  ZYDIS_MNEMONIC_SETNL,  ZYDIS_MNEMONIC_SETNLE,
    ZYDIS_MNEMONIC_SETNO,     ZYDIS_MNEMONIC_SETNP,   ZYDIS_MNEMONIC_SETNS,  ZYDIS_MNEMONIC_SETNZ,
    ZYDIS_MNEMONIC_SETO,      ZYDIS_MNEMONIC_SETP,    ZYDIS_MNEMONIC_SETS,   ZYDIS_MNEMONIC_SETZ,
    ZYDIS_MNEMONIC_CMOVB,     ZYDIS_MNEMONIC_CMOVBE,  ZYDIS_MNEMONIC_CMOVL,  ZYDIS_MNEMONIC_CMOVLE,
    ZYDIS_MNEMONIC_CMOVNB,    ZYDIS_MNEMONIC_CMOVNBE, ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVNLE,
    ZYDIS_MNEMONIC_CMOVNO,    ZYDIS_MNEMONIC_CMOVNP,  ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVNZ,
    ZYDIS_MNEMONIC_CMOVO,     ZYDIS_MNEMONIC_CMOVP,   ZYDIS_MNEMONIC_CMOVS,  ZYDIS_MNEMONIC_CMOVZ,
    ZYDIS_MNEMONIC_MOVNTI};
constexpr ZydisMnemonic kNoOperand[] = {
    ZYDIS_MNEMONIC_CBW,  ZYDIS_MNEMONIC_CWDE,   ZYDIS_MNEMONIC_CWD,    ZYDIS_MNEMONIC_CDQ,
    ZYDIS_MNEMONIC_CLC,  ZYDIS_MNEMONIC_STC,    ZYDIS_MNEMONIC_CMC,    ZYDIS_MNEMONIC_LAHF,
    ZYDIS_MNEMONIC_SAHF, ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_MFENCE, ZYDIS_MNEMONIC_SFENCE,
    ZYDIS_MNEMONIC_PAUSE};
constexpr ZydisMnemonic kNothing[] = {ZYDIS_MNEMONIC_NOP,        ZYDIS_MNEMONIC_PREFETCH,
                                      ZYDIS_MNEMONIC_PREFETCHW,  ZYDIS_MNEMONIC_PREFETCHNTA,
                                      ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1,
                                      ZYDIS_MNEMONIC_PREFETCHT2};
constexpr ZydisMnemonic kTouch[] = {ZYDIS_MNEMONIC_CLFLUSH};
constexpr ZydisMnemonic kMov[] = {ZYDIS_MNEMONIC_MOV};
constexpr ZydisMnemonic kLea[] = {ZYDIS_MNEMONIC_LEA};
constexpr ZydisMnemonic kBitTest[] = {ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR,
                                      ZYDIS_MNEMONIC_BTC};
constexpr ZydisMnemonic kDivide[] = {ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV};
constexpr ZydisMnemonic kBswap[] = {ZYDIS_MNEMONIC_BSWAP};
constexpr ZydisMnemonic kPush[] = {ZYDIS_MNEMONIC_PUSH};
constexpr ZydisMnemonic kPop[] = {ZYDIS_MNEMONIC_POP};
constexpr ZydisMnemonic kLeave[] = {ZYDIS_MNEMONIC_LEAVE};
constexpr ZydisMnemonic kString[] = {
    ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW,
    ZYDIS_MNEMONIC_STOSD, ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD,
    ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW,
    ZYDIS_MNEMONIC_SCASD};
constexpr ZydisMnemonic kJcc[] = {
    ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JBE,  ZYDIS_MNEMONIC_JL,  ZYDIS_MNEMONIC_JLE,
    ZYDIS_MNEMONIC_JNB, ZYDIS_MNEMONIC_JNBE, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JNLE,
    ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JNP,  ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JNZ,
    ZYDIS_MNEMONIC_JO,  ZYDIS_MNEMONIC_JP,   ZYDIS_MNEMONIC_JS,  ZYDIS_MNEMONIC_JZ};
constexpr ZydisMnemonic kLoop[] = {ZYDIS_MNEMONIC_LOOP, ZYDIS_MNEMONIC_LOOPE,
                                   ZYDIS_MNEMONIC_LOOPNE};
constexpr ZydisMnemonic kJecxz[] = {ZYDIS_MNEMONIC_JCXZ, ZYDIS_MNEMONIC_JECXZ};
constexpr ZydisMnemonic kJump[] = {ZYDIS_MNEMONIC_JMP};
constexpr ZydisMnemonic kCall[] = {ZYDIS_MNEMONIC_CALL};
constexpr ZydisMnemonic kRet[] = {ZYDIS_MNEMONIC_RET};
constexpr ZydisMnemonic kX87[] = {
    ZYDIS_MNEMONIC_F2XM1,         ZYDIS_MNEMONIC_FABS,     ZYDIS_MNEMONIC_FADD,
    ZYDIS_MNEMONIC_FADDP,         ZYDIS_MNEMONIC_FBLD,     ZYDIS_MNEMONIC_FBSTP,
    ZYDIS_MNEMONIC_FCHS,          ZYDIS_MNEMONIC_FCOM,     ZYDIS_MNEMONIC_FCOMP,
    ZYDIS_MNEMONIC_FCOMPP,        ZYDIS_MNEMONIC_FCOS,     ZYDIS_MNEMONIC_FDECSTP,
    ZYDIS_MNEMONIC_FDISI8087_NOP, ZYDIS_MNEMONIC_FDIV,     ZYDIS_MNEMONIC_FDIVP,
    ZYDIS_MNEMONIC_FDIVR,         ZYDIS_MNEMONIC_FDIVRP,   ZYDIS_MNEMONIC_FENI8087_NOP,
    ZYDIS_MNEMONIC_FFREE,         ZYDIS_MNEMONIC_FFREEP,   ZYDIS_MNEMONIC_FIADD,
    ZYDIS_MNEMONIC_FICOM,         ZYDIS_MNEMONIC_FICOMP,   ZYDIS_MNEMONIC_FIDIV,
    ZYDIS_MNEMONIC_FIDIVR,        ZYDIS_MNEMONIC_FILD,     ZYDIS_MNEMONIC_FIMUL,
    ZYDIS_MNEMONIC_FINCSTP,       ZYDIS_MNEMONIC_FIST,     ZYDIS_MNEMONIC_FISTP,
    ZYDIS_MNEMONIC_FISUB,         ZYDIS_MNEMONIC_FISUBR,   ZYDIS_MNEMONIC_FLD,
    ZYDIS_MNEMONIC_FLD1,          ZYDIS_MNEMONIC_FLDCW,    ZYDIS_MNEMONIC_FLDL2E,
    ZYDIS_MNEMONIC_FLDL2T,        ZYDIS_MNEMONIC_FLDLG2,   ZYDIS_MNEMONIC_FLDLN2,
    ZYDIS_MNEMONIC_FLDPI,         ZYDIS_MNEMONIC_FLDZ,     ZYDIS_MNEMONIC_FMUL,
    ZYDIS_MNEMONIC_FMULP,         ZYDIS_MNEMONIC_FNCLEX,   ZYDIS_MNEMONIC_FNINIT,
    ZYDIS_MNEMONIC_FNOP,          ZYDIS_MNEMONIC_FNSTCW,   ZYDIS_MNEMONIC_FNSTSW,
    ZYDIS_MNEMONIC_FPATAN,        ZYDIS_MNEMONIC_FPREM,    ZYDIS_MNEMONIC_FPREM1,
    ZYDIS_MNEMONIC_FPTAN,         ZYDIS_MNEMONIC_FRNDINT,  ZYDIS_MNEMONIC_FSCALE,
    ZYDIS_MNEMONIC_FSETPM287_NOP, ZYDIS_MNEMONIC_FSIN,     ZYDIS_MNEMONIC_FSINCOS,
    ZYDIS_MNEMONIC_FSQRT,         ZYDIS_MNEMONIC_FST,      ZYDIS_MNEMONIC_FSTP,
    ZYDIS_MNEMONIC_FSTPNCE,       ZYDIS_MNEMONIC_FSUB,     ZYDIS_MNEMONIC_FSUBP,
    ZYDIS_MNEMONIC_FSUBR,         ZYDIS_MNEMONIC_FSUBRP,   ZYDIS_MNEMONIC_FTST,
    ZYDIS_MNEMONIC_FUCOM,         ZYDIS_MNEMONIC_FUCOMP,   ZYDIS_MNEMONIC_FUCOMPP,
    ZYDIS_MNEMONIC_FXAM,          ZYDIS_MNEMONIC_FXCH,     ZYDIS_MNEMONIC_FXTRACT,
    ZYDIS_MNEMONIC_FYL2X,         ZYDIS_MNEMONIC_FYL2XP1,  ZYDIS_MNEMONIC_FCOMI,
    ZYDIS_MNEMONIC_FCOMIP,        ZYDIS_MNEMONIC_FUCOMI,   ZYDIS_MNEMONIC_FUCOMIP,
    ZYDIS_MNEMONIC_FCMOVB,        ZYDIS_MNEMONIC_FCMOVBE,  ZYDIS_MNEMONIC_FCMOVE,
    ZYDIS_MNEMONIC_FCMOVNB,       ZYDIS_MNEMONIC_FCMOVNBE, ZYDIS_MNEMONIC_FCMOVNE,
    ZYDIS_MNEMONIC_FCMOVNU,       ZYDIS_MNEMONIC_FCMOVU};
constexpr ZydisMnemonic kWait[] = {ZYDIS_MNEMONIC_FWAIT};
constexpr ZydisMnemonic kMmx[] = {
    ZYDIS_MNEMONIC_PACKSSDW,  ZYDIS_MNEMONIC_PACKSSWB,  ZYDIS_MNEMONIC_PACKUSWB,
    ZYDIS_MNEMONIC_PADDB,     ZYDIS_MNEMONIC_PADDD,     ZYDIS_MNEMONIC_PADDSB,
    ZYDIS_MNEMONIC_PADDSW,    ZYDIS_MNEMONIC_PADDUSB,   ZYDIS_MNEMONIC_PADDUSW,
    ZYDIS_MNEMONIC_PADDW,     ZYDIS_MNEMONIC_PAND,      ZYDIS_MNEMONIC_PANDN,
    ZYDIS_MNEMONIC_PAVGB,     ZYDIS_MNEMONIC_PAVGW,     ZYDIS_MNEMONIC_PCMPEQB,
    ZYDIS_MNEMONIC_PCMPEQD,   ZYDIS_MNEMONIC_PCMPEQW,   ZYDIS_MNEMONIC_PCMPGTB,
    ZYDIS_MNEMONIC_PCMPGTD,   ZYDIS_MNEMONIC_PCMPGTW,   ZYDIS_MNEMONIC_PEXTRW,
    ZYDIS_MNEMONIC_PINSRW,    ZYDIS_MNEMONIC_PMADDWD,   ZYDIS_MNEMONIC_PMAXSW,
    ZYDIS_MNEMONIC_PMAXUB,    ZYDIS_MNEMONIC_PMINSW,    ZYDIS_MNEMONIC_PMINUB,
    ZYDIS_MNEMONIC_PMULHUW,   ZYDIS_MNEMONIC_PMULHW,    ZYDIS_MNEMONIC_PMULLW,
    ZYDIS_MNEMONIC_POR,       ZYDIS_MNEMONIC_PSADBW,    ZYDIS_MNEMONIC_PSHUFW,
    ZYDIS_MNEMONIC_PSLLD,     ZYDIS_MNEMONIC_PSLLQ,     ZYDIS_MNEMONIC_PSLLW,
    ZYDIS_MNEMONIC_PSRAD,     ZYDIS_MNEMONIC_PSRAW,     ZYDIS_MNEMONIC_PSRLD,
    ZYDIS_MNEMONIC_PSRLQ,     ZYDIS_MNEMONIC_PSRLW,     ZYDIS_MNEMONIC_PSUBB,
    ZYDIS_MNEMONIC_PSUBD,     ZYDIS_MNEMONIC_PSUBSB,    ZYDIS_MNEMONIC_PSUBSW,
    ZYDIS_MNEMONIC_PSUBUSB,   ZYDIS_MNEMONIC_PSUBUSW,   ZYDIS_MNEMONIC_PSUBW,
    ZYDIS_MNEMONIC_PUNPCKHBW, ZYDIS_MNEMONIC_PUNPCKHDQ, ZYDIS_MNEMONIC_PUNPCKHWD,
    ZYDIS_MNEMONIC_PUNPCKLBW, ZYDIS_MNEMONIC_PUNPCKLDQ, ZYDIS_MNEMONIC_PUNPCKLWD,
    ZYDIS_MNEMONIC_PXOR,      ZYDIS_MNEMONIC_MOVD,      ZYDIS_MNEMONIC_MOVQ,
    ZYDIS_MNEMONIC_MOVNTQ,    ZYDIS_MNEMONIC_PADDQ,     ZYDIS_MNEMONIC_PSUBQ,
    ZYDIS_MNEMONIC_PMULUDQ,   ZYDIS_MNEMONIC_PMOVMSKB};
constexpr ZydisMnemonic kEmms[] = {ZYDIS_MNEMONIC_EMMS};
constexpr ZydisMnemonic kMasked[] = {ZYDIS_MNEMONIC_MASKMOVQ};
constexpr ZydisMnemonic kMaskedXmm[] = {ZYDIS_MNEMONIC_MASKMOVDQU};
constexpr ZydisMnemonic kSse[] = {
    ZYDIS_MNEMONIC_ADDPS,      ZYDIS_MNEMONIC_ADDSS,      ZYDIS_MNEMONIC_ANDNPS,
    ZYDIS_MNEMONIC_ANDPS,      ZYDIS_MNEMONIC_CMPPS,      ZYDIS_MNEMONIC_CMPSS,
    ZYDIS_MNEMONIC_COMISS,     ZYDIS_MNEMONIC_CVTPI2PS,   ZYDIS_MNEMONIC_CVTPS2PI,
    ZYDIS_MNEMONIC_CVTSI2SS,   ZYDIS_MNEMONIC_CVTSS2SI,   ZYDIS_MNEMONIC_CVTTPS2PI,
    ZYDIS_MNEMONIC_CVTTSS2SI,  ZYDIS_MNEMONIC_DIVPS,      ZYDIS_MNEMONIC_DIVSS,
    ZYDIS_MNEMONIC_MAXPS,      ZYDIS_MNEMONIC_MAXSS,      ZYDIS_MNEMONIC_MINPS,
    ZYDIS_MNEMONIC_MINSS,      ZYDIS_MNEMONIC_MOVAPS,     ZYDIS_MNEMONIC_MOVHLPS,
    ZYDIS_MNEMONIC_MOVHPS,     ZYDIS_MNEMONIC_MOVLHPS,    ZYDIS_MNEMONIC_MOVLPS,
    ZYDIS_MNEMONIC_MOVMSKPS,   ZYDIS_MNEMONIC_MOVNTPS,    ZYDIS_MNEMONIC_MOVSS,
    ZYDIS_MNEMONIC_MOVUPS,     ZYDIS_MNEMONIC_MULPS,      ZYDIS_MNEMONIC_MULSS,
    ZYDIS_MNEMONIC_ORPS,       ZYDIS_MNEMONIC_RCPPS,      ZYDIS_MNEMONIC_RCPSS,
    ZYDIS_MNEMONIC_RSQRTPS,    ZYDIS_MNEMONIC_RSQRTSS,    ZYDIS_MNEMONIC_SHUFPS,
    ZYDIS_MNEMONIC_SQRTPS,     ZYDIS_MNEMONIC_SQRTSS,     ZYDIS_MNEMONIC_SUBPS,
    ZYDIS_MNEMONIC_SUBSS,      ZYDIS_MNEMONIC_UCOMISS,    ZYDIS_MNEMONIC_UNPCKHPS,
    ZYDIS_MNEMONIC_UNPCKLPS,   ZYDIS_MNEMONIC_XORPS,      ZYDIS_MNEMONIC_XORPD,
    ZYDIS_MNEMONIC_STMXCSR,    ZYDIS_MNEMONIC_ADDPD,      ZYDIS_MNEMONIC_ADDSD,
    ZYDIS_MNEMONIC_ANDNPD,     ZYDIS_MNEMONIC_ANDPD,      ZYDIS_MNEMONIC_CMPPD,
    ZYDIS_MNEMONIC_COMISD,     ZYDIS_MNEMONIC_CVTDQ2PD,   ZYDIS_MNEMONIC_CVTDQ2PS,
    ZYDIS_MNEMONIC_CVTPD2DQ,   ZYDIS_MNEMONIC_CVTPD2PI,   ZYDIS_MNEMONIC_CVTPD2PS,
    ZYDIS_MNEMONIC_CVTPI2PD,   ZYDIS_MNEMONIC_CVTPS2DQ,   ZYDIS_MNEMONIC_CVTPS2PD,
    ZYDIS_MNEMONIC_CVTSD2SI,   ZYDIS_MNEMONIC_CVTSD2SS,   ZYDIS_MNEMONIC_CVTSI2SD,
    ZYDIS_MNEMONIC_CVTSS2SD,   ZYDIS_MNEMONIC_CVTTPD2DQ,  ZYDIS_MNEMONIC_CVTTPD2PI,
    ZYDIS_MNEMONIC_CVTTPS2DQ,  ZYDIS_MNEMONIC_CVTTSD2SI,  ZYDIS_MNEMONIC_DIVPD,
    ZYDIS_MNEMONIC_DIVSD,      ZYDIS_MNEMONIC_MAXPD,      ZYDIS_MNEMONIC_MAXSD,
    ZYDIS_MNEMONIC_MINPD,      ZYDIS_MNEMONIC_MINSD,      ZYDIS_MNEMONIC_MOVAPD,
    ZYDIS_MNEMONIC_MOVDQ2Q,    ZYDIS_MNEMONIC_MOVDQA,     ZYDIS_MNEMONIC_MOVDQU,
    ZYDIS_MNEMONIC_MOVHPD,     ZYDIS_MNEMONIC_MOVLPD,     ZYDIS_MNEMONIC_MOVMSKPD,
    ZYDIS_MNEMONIC_MOVNTDQ,    ZYDIS_MNEMONIC_MOVNTPD,    ZYDIS_MNEMONIC_MOVQ2DQ,
    ZYDIS_MNEMONIC_MOVUPD,     ZYDIS_MNEMONIC_MULPD,      ZYDIS_MNEMONIC_MULSD,
    ZYDIS_MNEMONIC_ORPD,       ZYDIS_MNEMONIC_PSHUFD,     ZYDIS_MNEMONIC_PSHUFHW,
    ZYDIS_MNEMONIC_PSHUFLW,    ZYDIS_MNEMONIC_PSLLDQ,     ZYDIS_MNEMONIC_PSRLDQ,
    ZYDIS_MNEMONIC_PUNPCKHQDQ, ZYDIS_MNEMONIC_PUNPCKLQDQ, ZYDIS_MNEMONIC_SHUFPD,
    ZYDIS_MNEMONIC_SQRTPD,     ZYDIS_MNEMONIC_SQRTSD,     ZYDIS_MNEMONIC_SUBPD,
    ZYDIS_MNEMONIC_SUBSD,      ZYDIS_MNEMONIC_UCOMISD,    ZYDIS_MNEMONIC_UNPCKHPD,
    ZYDIS_MNEMONIC_UNPCKLPD};
constexpr ZydisMnemonic kMxcsrLoad[] = {ZYDIS_MNEMONIC_LDMXCSR};
constexpr ZydisMnemonic kBound[] = {ZYDIS_MNEMONIC_BOUND};
constexpr ZydisMnemonic kDecimal[] = {ZYDIS_MNEMONIC_AAA, ZYDIS_MNEMONIC_AAS, ZYDIS_MNEMONIC_DAA,
                                      ZYDIS_MNEMONIC_DAS, ZYDIS_MNEMONIC_AAM, ZYDIS_MNEMONIC_AAD,
                                      ZYDIS_MNEMONIC_SALC};
constexpr ZydisMnemonic kEnter[] = {ZYDIS_MNEMONIC_ENTER};
constexpr ZydisMnemonic kPushAll[] = {ZYDIS_MNEMONIC_PUSHA, ZYDIS_MNEMONIC_PUSHAD};
constexpr ZydisMnemonic kPopAll[] = {ZYDIS_MNEMONIC_POPA, ZYDIS_MNEMONIC_POPAD};
constexpr ZydisMnemonic kTranslate[] = {ZYDIS_MNEMONIC_XLAT};
constexpr ZydisMnemonic kFarPointer[] = {ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LSS,
                                         ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS};
constexpr ZydisMnemonic kFpuState[] = {ZYDIS_MNEMONIC_FLDENV, ZYDIS_MNEMONIC_FNSTENV,
                                       ZYDIS_MNEMONIC_FNSAVE, ZYDIS_MNEMONIC_FRSTOR,
                                       ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXRSTOR};
constexpr ZydisMnemonic kTableLoad[] = {ZYDIS_MNEMONIC_LGDT, ZYDIS_MNEMONIC_LIDT};
constexpr ZydisMnemonic kTableStore[] = {ZYDIS_MNEMONIC_SGDT, ZYDIS_MNEMONIC_SIDT};
constexpr ZydisMnemonic kSystemSegmentLoad[] = {ZYDIS_MNEMONIC_LLDT, ZYDIS_MNEMONIC_LTR};
constexpr ZydisMnemonic kWordStore[] = {ZYDIS_MNEMONIC_SLDT, ZYDIS_MNEMONIC_STR,
                                        ZYDIS_MNEMONIC_SMSW};
constexpr ZydisMnemonic kStatusWordLoad[] = {ZYDIS_MNEMONIC_LMSW};
constexpr ZydisMnemonic kSelectorQuery[] = {ZYDIS_MNEMONIC_LAR, ZYDIS_MNEMONIC_LSL};
constexpr ZydisMnemonic kWithoutOperands[] = {ZYDIS_MNEMONIC_CLTS, ZYDIS_MNEMONIC_RDMSR,
                                              ZYDIS_MNEMONIC_WRMSR, ZYDIS_MNEMONIC_RDPMC};
constexpr ZydisMnemonic kCacheFlush[] = {ZYDIS_MNEMONIC_INVD, ZYDIS_MNEMONIC_WBINVD};
constexpr ZydisMnemonic kInterpretedSystem[] = {ZYDIS_MNEMONIC_ARPL};
constexpr ZydisMnemonic kStringPort[] = {ZYDIS_MNEMONIC_INSB,  ZYDIS_MNEMONIC_INSW,
                                         ZYDIS_MNEMONIC_INSD,  ZYDIS_MNEMONIC_OUTSB,
                                         ZYDIS_MNEMONIC_OUTSW, ZYDIS_MNEMONIC_OUTSD};
constexpr ZydisMnemonic kVerify[] = {ZYDIS_MNEMONIC_VERR, ZYDIS_MNEMONIC_VERW};
constexpr ZydisMnemonic kVolatile[] = {ZYDIS_MNEMONIC_CPUID};
constexpr ZydisMnemonic kReadTsc[] = {ZYDIS_MNEMONIC_RDTSC};
constexpr ZydisMnemonic kUndefined[] = {ZYDIS_MNEMONIC_RSM, ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1,
                                        ZYDIS_MNEMONIC_UD2};
constexpr ZydisMnemonic kInt[] = {ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_INT1, ZYDIS_MNEMONIC_INT3,
                                  ZYDIS_MNEMONIC_INTO};
constexpr ZydisMnemonic kIret[] = {ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD};
constexpr ZydisMnemonic kHlt[] = {ZYDIS_MNEMONIC_HLT};
constexpr ZydisMnemonic kCli[] = {ZYDIS_MNEMONIC_CLI};
constexpr ZydisMnemonic kSti[] = {ZYDIS_MNEMONIC_STI};
constexpr ZydisMnemonic kPushf[] = {ZYDIS_MNEMONIC_PUSHF, ZYDIS_MNEMONIC_PUSHFD};
constexpr ZydisMnemonic kPopf[] = {ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD};
constexpr ZydisMnemonic kIn[] = {ZYDIS_MNEMONIC_IN};
constexpr ZydisMnemonic kOut[] = {ZYDIS_MNEMONIC_OUT};
constexpr ZydisMnemonic kDirection[] = {ZYDIS_MNEMONIC_CLD, ZYDIS_MNEMONIC_STD};
constexpr ZydisMnemonic kInvlpg[] = {ZYDIS_MNEMONIC_INVLPG};
constexpr ZydisMnemonic kSysenter[] = {ZYDIS_MNEMONIC_SYSENTER};
constexpr ZydisMnemonic kSysexit[] = {ZYDIS_MNEMONIC_SYSEXIT};

// MOVSD and CMPSD name a string and an SSE2 instruction each: find_scalar_double_row.
constexpr ZydisMnemonic kMovsdCmpsd[] = {ZYDIS_MNEMONIC_MOVSD, ZYDIS_MNEMONIC_CMPSD};

constexpr Group kGroups[] = {
    {lower_generic, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kGenericInteger},
    {lower_no_operand, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kNoOperand},
    {lower_nothing, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kNothing},
    {lower_touch, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kTouch},
    {lower_mov, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kMov},
    {lower_lea, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kLea},
    {lower_bit_test, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kBitTest},
    {lower_divide, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kDivide},
    {lower_bswap, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kBswap},
    {lower_push, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kPush},
    {lower_pop, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kPop},
    {lower_push_all, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kPushAll},
    {lower_pop_all, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kPopAll},
    {lower_translate, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kTranslate},
    {lower_far_pointer, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kFarPointer},
    {lower_leave, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kLeave},
    {lower_enter, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kEnter},
    {lower_decimal, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kDecimal},
    {lower_string, BlockEffect::kNone, FpuUse::kNone, OracleUse::kString, kString},
    {lower_jcc, BlockEffect::kBranch, FpuUse::kNone, OracleUse::kBranch, kJcc},
    {lower_loop, BlockEffect::kBranch, FpuUse::kNone, OracleUse::kBranch, kLoop},
    {lower_jecxz, BlockEffect::kBranch, FpuUse::kNone, OracleUse::kBranch, kJecxz},
    {lower_jump, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kBranch, kJump},
    {lower_call, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kBranch, kCall},
    {lower_ret, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kBranch, kRet},
    {lower_x87, BlockEffect::kNone, FpuUse::kX87, OracleUse::kUser, kX87},
    {lower_x87, BlockEffect::kNone, FpuUse::kWait, OracleUse::kUser, kWait},
    {lower_generic, BlockEffect::kNone, FpuUse::kMmx, OracleUse::kUser, kMmx},
    {lower_no_operand, BlockEffect::kNone, FpuUse::kMmx, OracleUse::kUser, kEmms},
    {lower_masked_store, BlockEffect::kNone, FpuUse::kMmx, OracleUse::kUser, kMasked},
    {lower_masked_store, BlockEffect::kNone, FpuUse::kSse, OracleUse::kUser, kMaskedXmm},
    {lower_generic, BlockEffect::kNone, FpuUse::kSse, OracleUse::kUser, kSse},
    {lower_mxcsr_load, BlockEffect::kNone, FpuUse::kSse, OracleUse::kUser, kMxcsrLoad},
    {lower_bound, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kBound},
    {lower_fpu_state, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kUser, kFpuState},
    {lower_interpreted, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kInterpretedSystem},
    {lower_table_load, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kTableLoad},
    {lower_table_store, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kTableStore},
    {lower_system_segment_load, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem,
     kSystemSegmentLoad},
    {lower_word_store, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kWordStore},
    {lower_status_word_load, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kStatusWordLoad},
    {lower_selector_query, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kSelectorQuery},
    {lower_without_operands, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem,
     kWithoutOperands},
    {lower_cache_flush, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kCacheFlush},
    {lower_string_port, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kStringPort},
    {lower_verify, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kVerify},
    {lower_without_operands, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kVolatile, kVolatile},
    {lower_rdtsc, BlockEffect::kNone, FpuUse::kNone, OracleUse::kVolatile, kReadTsc},
    {lower_undefined, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kUser, kUndefined},
    {lower_int, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kInt},
    {lower_iret, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kIret},
    {lower_hlt, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kHlt},
    {lower_cli, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kCli},
    {lower_sti, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kSti},
    {lower_pushf, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kPushf},
    {lower_popf, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kPopf},
    {lower_in, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kIn},
    {lower_out, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kOut},
    {lower_direction, BlockEffect::kNone, FpuUse::kNone, OracleUse::kUser, kDirection},
    {lower_invlpg, BlockEffect::kNone, FpuUse::kNone, OracleUse::kSystem, kInvlpg},
    {lower_sysenter, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kSysenter},
    {lower_sysexit, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kSystem, kSysexit},
    {lower_string, BlockEffect::kNone, FpuUse::kNone, OracleUse::kString, kMovsdCmpsd},
};

uint32_t host_id(ZydisMnemonic mnemonic) {
  const char* name = ZydisMnemonicGetString(mnemonic);
  return asmjit::InstAPI::stringToInstId(asmjit::Arch::kX64, name, std::strlen(name));
}

/// Rows by mnemonic, built once and constant from then on. The second row of MOVSD and CMPSD, for
/// the SSE2 meaning, is kept apart.
struct Table {
  std::vector<InstructionRow> rows;
  std::array<uint16_t, ZYDIS_MNEMONIC_MAX_VALUE + 1> by_mnemonic{};
  std::array<InstructionRow, 2> scalar_double{};

  Table() {
    rows.emplace_back();  // Index 0 stands for none.
    for (const Group& group : kGroups)
      for (ZydisMnemonic mnemonic : group.mnemonics) {
        by_mnemonic[mnemonic] = static_cast<uint16_t>(rows.size());
        rows.push_back({static_cast<uint16_t>(mnemonic), group.lower, group.effect, group.fpu,
                        group.oracle, host_id(mnemonic)});
      }
    scalar_double[0] = {ZYDIS_MNEMONIC_MOVSD, lower_generic,    BlockEffect::kNone,
                        FpuUse::kSse,         OracleUse::kUser, asmjit::x86::Inst::kIdMovsd};
    scalar_double[1] = {ZYDIS_MNEMONIC_CMPSD, lower_generic,    BlockEffect::kNone,
                        FpuUse::kSse,         OracleUse::kUser, asmjit::x86::Inst::kIdCmpsd};
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

std::span<const InstructionRow> instruction_table() {
  return std::span(table().rows).subspan(1);
}

const InstructionRow* find_row(uint16_t mnemonic) {
  const uint16_t index = table().by_mnemonic[mnemonic];
  return index ? &table().rows[index] : nullptr;
}

const InstructionRow* find_scalar_double_row(uint16_t mnemonic) {
  return &table().scalar_double[mnemonic == ZYDIS_MNEMONIC_MOVSD ? 0 : 1];
}

FpuUse fpu_use(const Instruction& in) {
  const auto is_xmm = [](const Operand& operand) {
    return operand.kind == Operand::Kind::kRegister && operand.register_kind == RegisterKind::kXmm;
  };
  const auto operands = std::span(in.operand).first(in.operand_count);
  const bool of_mmx = in.row->fpu == FpuUse::kMmx;
  return of_mmx && std::ranges::any_of(operands, is_xmm) ? FpuUse::kSse : in.row->fpu;
}

}  // namespace trapline
