; x87: loads and stores of every format, arithmetic, comparison, the stack, control and status
; words, exact results.
;
; expect: exit 33
; deviates: qemu "stack underflow", "stack overflow", "indefinite": both set IE and SF and, masked,
;   give the indefinite value (SDM volume 1, 8.5.1.1); QEMU checks no register for emptiness.
%include "include/guest.inc"

; store_check "name", high, low: pops a double and compares its bits
%macro store_check 3
    fstp qword [SCRATCH]
    expect_eq %1, [SCRATCH + 4], %2
    expect_eq %1, [SCRATCH], %3
%endmacro

main:
    fninit
    fnstcw [SCRATCH]
    movzx eax, word [SCRATCH]
    expect_eq "fninit control word", eax, 0x37f
    mov eax, -1
    fnstsw ax
    expect_eq "fninit status word", eax, 0xffff0000

    fld1
    fld1
    faddp
    store_check "1 + 1", 0x40000000, 0
    fldpi
    store_check "pi", 0x400921fb, 0x54442d18
    fild dword [.minus7]
    fild word [.three]
    fdivp
    store_check "-7 / 3", 0xc002aaaa, 0xaaaaaaab
    fild qword [.big]
    store_check "big integer", 0x43dfffff, 0xffffffff
    fld dword [.tenth]
    fmul qword [.ten]
    store_check "0.1f * 10", 0x3ff00000, 0x04000000
    fld tword [.extended]
    fsqrt
    store_check "sqrt 2", 0x3ff6a09e, 0x667f3bcd
    fld1
    fchs
    fabs
    fld1
    fsubrp
    store_check "1 - 1", 0, 0

    ; integers out, with rounding modes
    fld qword [.two_and_half]
    fist dword [SCRATCH]
    expect_eq "fist to even", [SCRATCH], 2
    fnstcw [SCRATCH + 16]
    mov word [SCRATCH + 18], 0x0b7f     ; up
    fldcw [SCRATCH + 18]
    fist dword [SCRATCH]
    expect_eq "fist up", [SCRATCH], 3
    mov word [SCRATCH + 18], 0x077f     ; down
    fldcw [SCRATCH + 18]
    fchs
    fistp dword [SCRATCH]
    expect_eq "fistp down", [SCRATCH], -3
    fldcw [SCRATCH + 16]
    fld qword [.two_and_half]
    fbstp [SCRATCH]
    expect_eq "fbstp", [SCRATCH], 2
    fld qword [.huge]
    fistp dword [SCRATCH]
    expect_eq "integer indefinite", [SCRATCH], 0x80000000
    fnstsw ax
    and eax, 0x3f
    expect_eq "invalid", eax, 0x21
    fnclex

    ; the 80-bit format goes through unchanged
    fld tword [.extended]
    fstp tword [SCRATCH]
    expect_bytes "80 bits", SCRATCH, .extended, 10

    ; comparisons
    fld1
    fldz
    fcom
    fnstsw ax
    and eax, 0x4500
    expect_eq "0 < 1", eax, 0x0100
    fucompp
    fnstsw ax
    and eax, 0x4500
    expect_eq "fucompp", eax, 0x0100
    fld1
    fld1
    fcomip st1
    expect_flags "fcomip equal", ZF | PF | CF, ZF
    fldz
    fcomip st1
    expect_flags "fcomip below", ZF | PF | CF, CF
    fld dword [.nan]
    fucomip st1
    expect_flags "fucomip unordered", ZF | PF | CF, ZF | PF | CF
    stc
    fldz
    fcmovb st1
    store_check "fcmovb", 0x3ff00000, 0
    ftst
    fxam
    fnstsw ax
    and eax, 0x4700
    expect_eq "fxam normal", eax, 0x0400
    fstp st0
    fxam
    fnstsw ax
    and eax, 0x4500
    expect_eq "fxam empty", eax, 0x4100

    ; the stack: exchange, top, tags, masked overflow and underflow
    fninit
    fld1
    fldz
    fxch
    fnstsw ax
    and eax, 0x3800
    expect_eq "top is 6", eax, 6 << 11
    store_check "fxch", 0x3ff00000, 0
    fstp st0
    fadd st0, st1
    fnstsw ax
    and eax, 0x0241
    expect_eq "stack underflow", eax, 0x41
    fnclex
    fninit
    times 8 fld1
    fld1
    fnstsw ax
    and eax, 0x0241
    expect_eq "stack overflow", eax, 0x241
    fst dword [SCRATCH]
    expect_eq "indefinite", [SCRATCH], 0xffc00000
    fninit
    fincstp
    fincstp
    fnstsw ax
    expect_eq "fincstp", eax, 0x1000
    fdecstp
    fnstsw ax
    expect_eq "fdecstp", eax, 0x0800

    ; FNSTENV, FNSAVE and back
    fninit
    fldpi
    fld1
    fnstenv [SCRATCH]
    movzx eax, word [SCRATCH]
    expect_eq "fnstenv control", eax, 0x37f
    movzx eax, word [SCRATCH + 4]
    expect_eq "fnstenv status", eax, 0x3000
    movzx eax, word [SCRATCH + 8]
    expect_eq "fnstenv tags", eax, 0x0fff
    fnsave [SCRATCH + 64]
    xor eax, eax
    fnstsw ax
    expect_eq "fnsave initialises", eax, 0
    fldz
    frstor [SCRATCH + 64]
    fnstsw ax
    expect_eq "frstor", eax, 0x3000
    faddp
    store_check "after frstor", 0x40109 << 12 | 0x0fd, 0xaa22168c
    ; transcendental ones, exact in double
    fldz
    fcos
    store_check "cos 0", 0x3ff00000, 0
    fld1
    fld1
    fyl2x
    store_check "log2 1", 0, 0
    fild word [.three]
    fld1
    fscale
    store_check "scale", 0x40200000, 0
    fxtract
    fninit
    fild dword [.minus7]
    fild word [.three]
    fxch
    fprem
    store_check "prem", 0xbff00000, 0
    fninit
    finish

align 8
.minus7: dd -7
.three: dw 3
.big: dq 0x7ffffffffffffc00
.tenth: dd 0.1
.ten: dq 10.0
.two_and_half: dq 2.5
.huge: dq 1.0e20
.nan: dd 0x7fc00000
.extended: dt 2.0
