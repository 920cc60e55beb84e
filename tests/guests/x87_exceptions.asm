; x87 exceptions one by one: flags and masked results, what an unmasked one leaves alone, precision
; and rounding control, C1, comparisons with NaNs.
;
; expect: exit 33
; deviates: qemu "denormal load", "1 / 3 in 64 bits rounds up", "unmasked ZE", "unmasked: the
;   divisor is still there", "unmasked: the dividend is still there", "unmasked: no store",
;   "unmasked: no pop": the denormal operand flag, C1 and the rule that an unmasked exception
;   keeps operands, destination and stack (SDM volume 1, 8.5); QEMU follows none.
%include "include/guest.inc"
%include "include/float_exceptions.inc"

; flags_are "name", the six flags and SF
%macro flags_are 2
    fnstsw ax
    and eax, 0x7f
    expect_eq %1, eax, %2
    fnclex
%endmacro
%macro result_is 3                      ; "name", high, low: pops a double
    fstp qword [SCRATCH]
    expect_eq %1, [SCRATCH + 4], %2
    expect_eq %1, [SCRATCH], %3
%endmacro

main:
    change_cr0 CR0_EM | CR0_TS, CR0_NE | CR0_MP
    fninit
    fldz
    fdiv st0, st0
    flags_are "0 / 0", IE
    result_is "0 / 0", 0xfff80000, 0
    fld1
    fldz
    fdivp
    flags_are "1 / 0", ZE
    result_is "1 / 0", 0x7ff00000, 0
    fld dword [infinity]
    fld dword [infinity]
    fsubp
    flags_are "infinity - infinity", IE
    fstp st0
    fld1
    fchs
    fsqrt
    flags_are "sqrt -1", IE
    fstp st0
    fld dword [signalling]
    flags_are "signalling NaN", IE
    result_is "signalling NaN", 0x7ff80000, 0x20000000
    fld dword [quiet]
    flags_are "quiet NaN", 0
    fcom st0
    flags_are "fcom of a quiet NaN", IE
    fucom st0
    flags_are "fucom of a quiet NaN", 0
    fstp st0
    fld dword [tiny]
    flags_are "denormal load", DE_
    fstp st0
    fld1
    fld qword [three]
    fdivp
    flags_are "1 / 3", PE
    result_is "1 / 3", 0x3fd55555, 0x55555555
    fnclex
    fld qword [big]
    fst dword [SCRATCH]
    flags_are "overflow on a store", OE | PE
    expect_eq "overflow on a store", [SCRATCH], 0x7f800000
    fstp st0
    fld qword [small]
    fst dword [SCRATCH]
    flags_are "underflow on a store", UE | PE
    expect_eq "underflow on a store", [SCRATCH], 0
    fistp dword [SCRATCH]
    flags_are "to an integer", PE
    fld qword [big]
    fistp dword [SCRATCH]
    flags_are "integer overflow", IE
    expect_eq "integer overflow", [SCRATCH], 0x80000000

    ; C1: rounded up or not
    fld1
    fld qword [three]
    fdivp
    fnstsw ax
    and eax, 0x200
    expect_eq "1 / 3 in 64 bits rounds up", eax, 0x200
    fstp st0
    ; precision control
    fnclex
    fldcw [precision_24]
    fld1
    fld qword [three]
    fdivp
    result_is "1 / 3 in 24 bits", 0x3fd55555, 0x60000000
    fldcw [precision_53]
    fld1
    fld qword [three]
    fdivp
    fstp tword [SCRATCH]
    expect_eq "1 / 3 in 53 bits", [SCRATCH], 0xaaaaa800
    fldcw [round_to_zero]
    fld qword [two_thirds_up]
    fchs
    frndint
    result_is "round to zero", 0xbff00000, 0
    fldcw [round_down]
    fld qword [two_thirds_up]
    fchs
    frndint
    result_is "round down", 0xc0000000, 0
    fninit

    ; unmasked: operands and stack stay
    fldcw [all_unmasked]
    fld1
    fldz
    fdivp
    fnstsw ax
    and eax, 0xb884
    expect_eq "unmasked ZE", eax, 0xb084
    fnclex
    result_is "unmasked: the divisor is still there", 0, 0
    result_is "unmasked: the dividend is still there", 0x3ff00000, 0
    mov dword [SCRATCH], 0x1234
    fld qword [big]
    fistp dword [SCRATCH]
    expect_eq "unmasked: no store", [SCRATCH], 0x1234
    fnclex
    fnstsw ax
    and eax, 0x3800
    expect_eq "unmasked: no pop", eax, 7 << 11
    ; the precision exception does store and pop
    fstp st0
    fld qword [two_thirds_up]
    fistp dword [SCRATCH]
    expect_eq "unmasked precision: stored", [SCRATCH], 2
    expect_fault "unmasked precision: pending", MF, 0, wait
    fnclex
    fninit
    ; in a loop: masked ones are cheap and sticky
    mov ecx, 1000
    fldz
.sum:
    fld1
    fld qword [three]
    fdivp
    faddp
    loop .sum
    fnstsw ax
    and eax, 0x7f
    expect_eq "sticky", eax, PE
    fistp dword [SCRATCH]
    expect_eq "sum", [SCRATCH], 333
    finish

section .data
align 8
three: dq 3.0
big: dq 1.0e300
small: dq 1.0e-300
two_thirds_up: dq 1.6666
infinity: dd 0x7f800000
signalling: dd 0x7f800001
quiet: dd 0x7fc00001
tiny: dd 0x00000001
precision_24: dw 0x007f
precision_53: dw 0x027f
round_to_zero: dw 0x0f7f
round_down: dw 0x077f
all_unmasked: dw 0x340
