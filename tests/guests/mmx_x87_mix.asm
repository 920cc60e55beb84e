; MMX on the x87 registers: values through both views, TOP and tags, EMMS, FXSAVE; MMX in ring 3
; between x87 in ring 0; integer results of a spread of MMX instructions.
;
; expect: exit 33
; deviates: qemu "exponent of ones": writing an MMX register sets the exponent to ones (SDM
;   volume 1, 9.6.2); QEMU leaves it.
%include "include/guest.inc"

%macro mm_is 4                          ; "name", register, high, low
    movq [SCRATCH], %2
    expect_eq %1, [SCRATCH + 4], %3
    expect_eq %1, [SCRATCH], %4
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    ; an x87 value seen by MMX: TOP does not turn the names
    fninit
    fldpi                               ; R7
    mm_is "pi's significand in mm7", mm7, 0xc90fdaa2, 0x2168c235
    fnstsw ax
    and eax, 0x3800
    expect_eq "MMX sets TOP to 0", eax, 0
    fnstenv [SCRATCH]
    movzx eax, word [SCRATCH + 8]
    and eax, 0xc000
    expect_eq "its tag is valid", eax, 0
    ; an MMX value seen by x87: exponent all ones
    movq mm0, [pattern]
    fnsave [SCRATCH]
    expect_eq "mm0 in st0", [SCRATCH + 28], 0x55667788
    movzx eax, word [SCRATCH + 36]
    expect_eq "exponent of ones", eax, 0xffff
    fninit
    movq mm3, [pattern]
    emms
    fnstenv [SCRATCH]
    movzx eax, word [SCRATCH + 8]
    expect_eq "emms", eax, 0xffff
    fxsave [SCRATCH + 0x100]
    expect_eq "fxsave has mm3", [SCRATCH + 0x100 + 32 + 3 * 16], 0x55667788

    ; x87 in ring 0, MMX in ring 3, with the state swapped
    fninit
    fld1
    fldpi
    fnsave [SCRATCH + 0x400]
    try .back
    enter_ring 3, .user
.user:
    movq mm0, [pattern]
    paddb mm0, mm0
    movq [SCRATCH + 0x500], mm0
    emms
    int SYS
.back:
    frstor [SCRATCH + 0x400]
    faddp
    fistp dword [SCRATCH]
    expect_eq "x87 after ring 3's MMX", [SCRATCH], 4
    expect_eq "ring 3's MMX", [SCRATCH + 0x500], 0xaaccee10

    ; a spread
    movq mm1, [pattern]
    movq mm2, mm1
    psubb mm2, [ones]
    mm_is "psubb", mm2, 0x10213243, 0x54657687
    paddsw mm2, mm1
    mm_is "paddsw", mm2, 0x21436587, 0x7fff7fff
    movq mm2, mm1
    psubusb mm2, [sixties]
    mm_is "psubusb", mm2, 0, 0x00061728
    movq mm2, mm1
    pmullw mm2, mm1
    mm_is "pmullw", mm2, PMULLW_HIGH, PMULLW_LOW
    movq mm2, mm1
    pmulhw mm2, mm1
    mm_is "pmulhw", mm2, PMULHW_HIGH, PMULHW_LOW
    movq mm2, mm1
    packsswb mm2, mm1
    mm_is "packsswb", mm2, 0x7f7f7f7f, 0x7f7f7f7f
    movq mm2, mm1
    punpckhbw mm2, [ones]
    mm_is "punpckhbw", mm2, 0x01110122, 0x01330144
    movq mm2, mm1
    punpckldq mm2, [ones]
    mm_is "punpckldq", mm2, 0x01010101, 0x55667788
    movq mm2, mm1
    psrlq mm2, 12
    mm_is "psrlq", mm2, 0x00011223, 0x34455667
    movq mm2, mm1
    psrad mm2, 64
    mm_is "psrad beyond", mm2, 0, 0
    movq mm2, mm1
    pcmpgtb mm2, [sixties]
    mm_is "pcmpgtb", mm2, 0, 0x00ffff00
    pandn mm2, mm1
    mm_is "pandn", mm2, 0x11223344, 0x55000088
    pmaddwd mm1, [ones]
    mm_is "pmaddwd", mm1, (0x1122 + 0x3344) * 0x101, (0x5566 + 0x7788) * 0x101
    movd eax, mm1
    expect_eq "movd", eax, ((0x5566 + 0x7788) * 0x101) & 0xffffffff
    emms
    finish

PMULLW_HIGH equ ((0x1122 * 0x1122) & 0xffff) << 16 | ((0x3344 * 0x3344) & 0xffff)
PMULHW_HIGH equ ((0x1122 * 0x1122) >> 16) << 16 | ((0x3344 * 0x3344) >> 16)
PMULHW_LOW equ ((0x5566 * 0x5566) >> 16) << 16 | ((0x7788 * 0x7788) >> 16)
PMULLW_LOW equ ((0x5566 * 0x5566) & 0xffff) << 16 | ((0x7788 * 0x7788) & 0xffff)

section .data
align 8
pattern: dd 0x55667788, 0x11223344
ones: dd 0x01010101, 0x01010101
sixties: dd 0x60606060, 0x60606060
