; MMX, SSE and SSE2 with CR4.OSFXSR: moves, arithmetic, comparison, shuffles, conversions, MXCSR,
; alignment checks, FXSAVE and FXRSTOR.
;
; expect: exit 33
; deviates: qemu "mxcsr reserved bit", "fxrstor bad mxcsr": reserved bits of MXCSR are #GP (SDM
;   volume 1, 10.2.3); QEMU takes them.
; deviates: qemu "unmasked divide by zero", "the destination stays", "unmasked without OSXMMEXCPT":
;   an unmasked exception is #XM before the destination changes, or #UD without CR4.OSXMMEXCPT (SDM
;   volume 1, 11.5.2 and 11.6.2); QEMU raises none.
; deviates: qemu "movq2dq without OSFXSR", "movdq2q without OSFXSR": both use an XMM register, so they are #UD
;   (SDM volume 2, MOVDQ2Q and MOVQ2DQ)
%include "include/guest.inc"

; check_xmm "name", register, four dwords from the highest
%macro check_xmm 6
    movups [SCRATCH], %2
    expect_eq %1, [SCRATCH + 12], %3
    expect_eq %1, [SCRATCH + 8], %4
    expect_eq %1, [SCRATCH + 4], %5
    expect_eq %1, [SCRATCH], %6
%endmacro

main:
    ; without OSFXSR: #UD for SSE, none for MMX
    expect_fault "addps without OSFXSR", UD, 0, addps xmm0, xmm1
    expect_fault "movdqa without OSFXSR", UD, 0, movdqa xmm0, xmm1
    expect_fault "ldmxcsr without OSFXSR", UD, 0, ldmxcsr [.mxcsr]
    expect_fault "pxor without OSFXSR", UD, 0, pxor xmm0, xmm1
    expect_fault "paddq load without OSFXSR", UD, 0, paddq xmm0, [.singles]
    expect_fault "psrlq without OSFXSR", UD, 0, psrlq xmm0, 1
    expect_fault "movd without OSFXSR", UD, 0, movd xmm0, eax
    expect_fault "movd store without OSFXSR", UD, 0, movd [SCRATCH], xmm0
    expect_fault "movq without OSFXSR", UD, 0, movq xmm0, [.words]
    expect_fault "pmovmskb without OSFXSR", UD, 0, pmovmskb eax, xmm0
    expect_fault "movq2dq without OSFXSR", UD, 0, movq2dq xmm0, mm0
    expect_fault "movdq2q without OSFXSR", UD, 0, movdq2q mm0, xmm0
    expect_no_fault "mmx without OSFXSR", paddb mm0, mm1
    expect_no_fault "paddq mm without OSFXSR", paddq mm0, mm1
    expect_no_fault "pmovmskb mm without OSFXSR", pmovmskb eax, mm0
    expect_no_fault "movnti without OSFXSR", movnti [SCRATCH], eax
    change_cr4 0, CR4_OSFXSR | CR4_OSXMMEXCPT

    ; MMX
    movq mm0, [.words]
    movq mm1, mm0
    paddw mm0, mm1
    movq [SCRATCH], mm0
    expect_eq "paddw", [SCRATCH], 0xfffe0002
    paddusw mm1, mm1
    movq [SCRATCH], mm1
    expect_eq "paddusw", [SCRATCH], 0xffff0002
    movd mm2, dword [.words]
    punpcklwd mm2, mm2
    movq [SCRATCH], mm2
    expect_eq "punpcklwd low", [SCRATCH], 0x00010001
    expect_eq "punpcklwd high", [SCRATCH + 4], 0xffffffff
    fnstenv [SCRATCH]
    mov eax, [SCRATCH + 8]
    and eax, 0x3f
    expect_eq "mmx tags its registers special", eax, 0x2a
    pmaddwd mm2, [.words]
    movd eax, mm2
    expect_eq "pmaddwd", eax, 0
    emms
    fnstenv [SCRATCH]
    movzx eax, word [SCRATCH + 8]
    expect_eq "emms empties", eax, 0xffff

    ; SSE
    movaps xmm0, [.singles]
    addps xmm0, xmm0
    check_xmm "addps", xmm0, 0x41000000, 0x40c00000, 0x40800000, 0x40000000
    movss xmm1, [.singles]
    check_xmm "movss clears", xmm1, 0, 0, 0, 0x3f800000
    movaps xmm2, xmm0
    shufps xmm2, xmm0, 0x1b
    check_xmm "shufps", xmm2, 0x40000000, 0x40800000, 0x40c00000, 0x41000000
    cmpltps xmm2, xmm0
    check_xmm "cmpltps", xmm2, 0xffffffff, 0xffffffff, 0, 0
    movmskps eax, xmm2
    expect_eq "movmskps", eax, 12
    sqrtss xmm1, [.singles + 12]
    check_xmm "sqrtss", xmm1, 0, 0, 0, 0x40000000
    ucomiss xmm1, xmm0
    expect_flags "ucomiss equal", ZF | PF | CF, ZF
    cvtsi2ss xmm3, [.seven]
    cvttss2si ecx, xmm3
    expect_eq "cvt", ecx, 7
    movhlps xmm3, xmm0
    movlhps xmm3, xmm1
    check_xmm "movhlps, movlhps", xmm3, 0, 0x40000000, 0x41000000, 0x40c00000
    movq mm0, [.words]
    pavgw mm0, mm0
    pmovmskb eax, mm0
    expect_eq "pmovmskb mm", eax, 0x0c
    pshufw mm0, mm0, 0x55
    movd eax, mm0
    expect_eq "pshufw", eax, 0xffffffff
    emms

    ; SSE2
    movapd xmm0, [.doubles]
    mulpd xmm0, xmm0
    check_xmm "mulpd", xmm0, 0x40100000, 0, 0x40020000, 0
    movdqu xmm1, [.bytes + 1]
    paddb xmm1, xmm1
    check_xmm "paddb", xmm1, 0x201e1c1a, 0x18161412, 0x100e0c0a, 0x08060402
    pshufd xmm2, xmm1, 0x4e
    check_xmm "pshufd", xmm2, 0x100e0c0a, 0x08060402, 0x201e1c1a, 0x18161412
    psrldq xmm2, 4
    psubq xmm2, xmm1
    pmuludq xmm2, xmm1
    pxor xmm4, xmm4
    pcmpeqb xmm4, xmm4
    pmovmskb eax, xmm4
    expect_eq "pmovmskb xmm", eax, 0xffff
    cvtpd2dq xmm5, [.doubles]
    check_xmm "cvtpd2dq to even", xmm5, 0, 0, 2, 2
    cvtdq2pd xmm5, xmm5
    cvttsd2si eax, xmm5
    expect_eq "cvttsd2si", eax, 2
    movdq2q mm3, xmm1
    movq2dq xmm6, mm3
    check_xmm "movdq2q, movq2dq", xmm6, 0, 0, 0x100e0c0a, 0x08060402
    emms
    movnti [SCRATCH + 32], eax
    movntdq [SCRATCH + 48], xmm6
    expect_eq "movnti", [SCRATCH + 32], 2
    expect_eq "movntdq", [SCRATCH + 48], 0x08060402
    sfence
    lfence
    mfence
    mov edi, SCRATCH + 64
    maskmovdqu xmm6, xmm4
    expect_eq "maskmovdqu", [SCRATCH + 68], 0x100e0c0a

    ; alignment: #GP, not #AC
    expect_fault "movaps unaligned", GP, 0, movaps xmm0, [.bytes + 1]
    expect_fault "addps unaligned", GP, 0, addps xmm0, [.bytes + 4]
    expect_fault "movdqa store unaligned", GP, 0, movdqa [SCRATCH + 8], xmm0
    expect_no_fault "movups unaligned", movups xmm0, [.bytes + 1]
    expect_no_fault "addsd unaligned", addsd xmm0, [.bytes + 1]

    ; MXCSR: rounding, flags, reserved bits, #XM
    stmxcsr [SCRATCH]
    ldmxcsr [.mxcsr]
    ldmxcsr [.round_up]
    cvtsd2si eax, [.doubles]
    expect_eq "round up", eax, 2
    cvtsd2si eax, [.doubles + 8]
    expect_eq "round up of 2", eax, 2
    stmxcsr [SCRATCH]
    expect_eq "inexact flag", [SCRATCH], 0x5fa0
    expect_fault "mxcsr reserved bit", GP, 0, ldmxcsr [.bad_mxcsr]
    ldmxcsr [.unmasked]
    xorps xmm0, xmm0
    expect_fault "unmasked divide by zero", XM, 0, divss xmm1, xmm0
    check_xmm "the destination stays", xmm1, 0x201e1c1a, 0x18161412, 0x100e0c0a, 0x08060402
    change_cr4 CR4_OSXMMEXCPT, 0
    expect_fault "unmasked without OSXMMEXCPT", UD, 0, divss xmm1, xmm0
    ldmxcsr [.mxcsr]

    ; FXSAVE and FXRSTOR
    fninit
    fldpi
    movaps xmm7, [.singles]
    fxsave [SCRATCH + 0x400]
    movzx eax, word [SCRATCH + 0x400]
    expect_eq "fxsave control word", eax, 0x37f
    movzx eax, byte [SCRATCH + 0x404]
    expect_eq "fxsave abridged tags", eax, 0x80
    expect_eq "fxsave mxcsr", [SCRATCH + 0x418], 0x1f80
    expect_eq "fxsave st0", [SCRATCH + 0x424], 0xc90fdaa2
    expect_bytes "fxsave xmm7", SCRATCH + 0x400 + 160 + 7 * 16, .singles, 16
    fninit
    xorps xmm7, xmm7
    fxrstor [SCRATCH + 0x400]
    check_xmm "fxrstor xmm7", xmm7, 0x40800000, 0x40400000, 0x40000000, 0x3f800000
    fnstsw ax
    and eax, 0xffff
    expect_eq "fxrstor status", eax, 0x3800
    expect_fault "fxsave unaligned", GP, 0, fxsave [SCRATCH + 0x408]
    expect_fault "fxrstor unaligned", GP, 0, fxrstor [SCRATCH + 0x408]
    mov dword [SCRATCH + 0x418], 0x80000000
    expect_fault "fxrstor bad mxcsr", GP, 0, fxrstor [SCRATCH + 0x400]
    fninit
    finish

align 16
.singles: dd 1.0, 2.0, 3.0, 4.0
.doubles: dq 1.5, 2.0
.bytes: db 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
align 16
.words: dw 1, 0xffff, 0, 0
.seven: dd 7
.mxcsr: dd 0x1f80
.round_up: dd 0x5f80
.unmasked: dd 0x1f80 & ~0x200
.bad_mxcsr: dd 0x00011f80
