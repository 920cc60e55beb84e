; x87 operands at the ends of the 80-bit format: encodings that no longer are numbers, pseudo-denormals, FXAM's
; classes, packed decimals, FPREM's quotient and its partial steps, FSCALE, FXTRACT and the transcendental
; instructions at the ends of their ranges.
;
; expect: exit 33
; deviates: qemu "pseudo-denormal + 0", "pseudo-denormal - smallest", "pseudo-denormal compared",
;   "fscale by a denormal", "fscale of a denormal": a denormal operand sets DE, and a pseudo-denormal is one (SDM
;   volume 1, 8.2.2 and 8.5.2)
; deviates: qemu "fprem1: quotient": C0, C3 and C1 are the quotient's low bits (SDM volume 2, FPREM1)
; deviates: qemu "fsin of infinity": an invalid operation (SDM volume 2, FSIN)
%include "include/guest.inc"
%include "include/float_exceptions.inc"

C0 equ 0x100
C1 equ 0x200
C2 equ 0x400
C3 equ 0x4000

; number label, sign and exponent, upper half, lower half
%macro number 4
%1: dd %4, %3
    dw %2
%endmacro
; status_is "name", mask, expected
%macro status_is 3
    fnstsw ax
    and eax, %2
    expect_eq %1, eax, %3
%endmacro
; leaves "name", label: stores and pops ST0, and compares all ten bytes
%macro leaves 2
    fstp tword [SCRATCH]
    expect_bytes %1, SCRATCH, %2, 10
%endmacro
; class "name", label, C3, C2, C0 and C1: by FXAM; loading it says nothing
%macro class 3
    fninit
    fld tword [%2]
    %strcat %%load %1, ": load"
    status_is %%load, 0xff, 0
    fxam
    status_is %1, C0 | C1 | C2 | C3, %3
    %strcat %%copy %1, ": copied as it is"
    leaves %%copy, %2
    status_is %%load, 0xff, 0
%endmacro
; invalid "name", label, instructions: the only exception, and the indefinite value in ST0
%macro invalid 3+
    fninit
    fld1
    fld tword [%2]
    %3
    status_is %1, 0x7f, IE
    leaves %1, indefinite
%endmacro
; gives "name", flags, label: the only exceptions since FNINIT, and what is in ST0
%macro gives 3
    status_is %1, 0x7f, %2
    leaves %1, %3
%endmacro

main:
    change_cr0 CR0_EM | CR0_TS, CR0_NE | CR0_MP

    class "1", one, C2
    class "-1", minus_one, C2 | C1
    class "0", zero, C3
    class "-0", minus_zero, C3 | C1
    class "infinity", infinity, C2 | C0
    class "-infinity", minus_infinity, C2 | C0 | C1
    class "quiet NaN", quiet, C0
    class "indefinite", indefinite, C0 | C1
    class "signalling NaN", signalling, C0
    class "denormal", denormal, C3 | C2
    class "-denormal", minus_denormal, C3 | C2 | C1
    class "pseudo-denormal", pseudo_denormal, C3 | C2
    class "largest", largest, C2
    class "smallest normal", smallest, C2
    class "unnormal", unnormal, 0
    class "-unnormal", minus_unnormal, C1
    class "unnormal zero", unnormal_zero, 0
    class "pseudo-infinity", pseudo_infinity, 0
    class "pseudo-NaN", pseudo_nan, 0
    fninit
    fxam
    status_is "empty", C0 | C2 | C3, C3 | C0
    fld tword [minus_one]
    ffree st0
    fxam
    status_is "empty, with the sign of what was there", C0 | C1 | C2 | C3, C3 | C0 | C1

    ; --- operands that are no numbers ---
%macro refused 2
    %strcat %%n %1, ": fadd"
    invalid %%n, %2, fadd st0, st1
    %strcat %%n %1, ": fadd as the other"
    fninit
    fld tword [%2]
    fld1
    fadd st0, st1
    status_is %%n, 0x7f, IE
    leaves %%n, indefinite
    %strcat %%n %1, ": fmul with a NaN"
    fninit
    fld tword [quiet]
    fld tword [%2]
    fmul st0, st1
    status_is %%n, 0x7f, IE
    leaves %%n, indefinite
    %strcat %%n %1, ": fsqrt"
    invalid %%n, %2, fsqrt
    %strcat %%n %1, ": frndint"
    invalid %%n, %2, frndint
    %strcat %%n %1, ": fprem"
    invalid %%n, %2, fprem
    %strcat %%n %1, ": fscale"
    invalid %%n, %2, fscale
    %strcat %%n %1, ": fxtract"
    invalid %%n, %2, fxtract
    %strcat %%n %1, ": f2xm1"
    invalid %%n, %2, f2xm1
    %strcat %%n %1, ": fcom"
    fninit
    fldz
    fld tword [%2]
    fcom st1
    status_is %%n, 0x7f | C0 | C2 | C3, IE | C0 | C2 | C3
    fnclex
    fucom st1
    status_is %%n, 0x7f | C0 | C2 | C3, IE | C0 | C2 | C3
    fnclex
    ftst
    status_is %%n, 0x7f | C0 | C2 | C3, IE | C0 | C2 | C3
    %strcat %%n %1, ": fst m64"
    fninit
    fld tword [%2]
    fstp qword [SCRATCH]
    status_is %%n, 0x7f, IE
    expect_eq %%n, [SCRATCH + 4], 0xfff80000
    %strcat %%n %1, ": fistp m64"
    fninit
    fld tword [%2]
    fistp qword [SCRATCH]
    status_is %%n, 0x7f, IE
    expect_eq %%n, [SCRATCH + 4], 0x80000000
    %strcat %%n %1, ": fbstp"
    fninit
    fld tword [%2]
    fbstp [SCRATCH]
    status_is %%n, 0x7f, IE
    expect_bytes %%n, SCRATCH, packed_indefinite, 10
    %strcat %%n %1, ": fchs and fabs"
    fninit
    fld tword [%2]
    fchs
    fchs
    status_is %%n, 0x7f, 0
    leaves %%n, %2
%endmacro
    refused "unnormal", unnormal
    refused "pseudo-infinity", pseudo_infinity
    refused "pseudo-NaN", pseudo_nan

    ; a pseudo-denormal has the value of the smallest normal number
    fninit
    fldz
    fld tword [pseudo_denormal]
    faddp
    gives "pseudo-denormal + 0", DE_, smallest
    fninit
    fld tword [pseudo_denormal]
    fld tword [smallest]
    fsubp
    gives "pseudo-denormal - smallest", DE_, zero
    fninit
    fld tword [smallest]
    fld tword [pseudo_denormal]
    fcom st1
    status_is "pseudo-denormal compared", 0x7f | C0 | C2 | C3, DE_ | C3

    ; --- packed decimals ---
    fninit
    fbld [packed]
    gives "fbld", 0, packed_value
    fninit
    fld tword [packed_value]
    fbstp [SCRATCH]
    expect_bytes "fbstp", SCRATCH, packed, 10
    fninit
    fbld [packed_minus_zero]
    gives "fbld -0", 0, minus_zero
    fninit
    fld tword [minus_zero]
    fbstp [SCRATCH]
    expect_bytes "fbstp -0", SCRATCH, packed_minus_zero, 10
    status_is "fbstp -0", 0x7f, 0
    fninit
    fld tword [two_and_a_half]
    fbstp [SCRATCH]
    status_is "fbstp 2.5", 0x7f, PE
    expect_eq "fbstp 2.5", [SCRATCH], 2
    fninit
    fld tword [ten_to_18]
    fbstp [SCRATCH]
    status_is "fbstp of 10^18", 0x7f, IE
    expect_bytes "fbstp of 10^18", SCRATCH, packed_indefinite, 10
    fninit
    fld tword [minus_infinity]
    fbstp [SCRATCH]
    status_is "fbstp of -infinity", 0x7f, IE
    expect_bytes "fbstp of -infinity", SCRATCH, packed_indefinite, 10
    ; digits above 9 give an undefined value, but no exception
    fninit
    fbld [packed_indefinite]
    status_is "fbld of no decimal", 0x7f, 0
    fxam
    status_is "fbld of no decimal: occupied", C0 | C3, 0
    fninit

    ; --- FPREM and FPREM1 ---
%assign quotient 0
%rep 10
%assign q2 (quotient >> 2) & 1
%assign q1 (quotient >> 1) & 1
%assign q0 quotient & 1
    fninit
    fild dword [three]
    mov dword [SCRATCH], 3 * quotient + 1
    fild dword [SCRATCH]
    fprem
    status_is "fprem: quotient", C0 | C1 | C2 | C3 | 0x7f, q2 * C0 | q1 * C3 | q0 * C1
    leaves "fprem: remainder", one
    fninit
    fild dword [three]
    mov dword [SCRATCH], -(3 * quotient + 1)
    fild dword [SCRATCH]
    fprem
    status_is "fprem of a negative one: quotient", C0 | C1 | C2 | C3 | 0x7f, q2 * C0 | q1 * C3 | q0 * C1
    leaves "fprem of a negative one: remainder", minus_one
    fninit
    fild dword [three]
    mov dword [SCRATCH], 3 * quotient - 1
    fild dword [SCRATCH]
    fprem1
    status_is "fprem1: quotient", C0 | C1 | C2 | C3 | 0x7f, q2 * C0 | q1 * C3 | q0 * C1
    leaves "fprem1: remainder", minus_one
%assign quotient quotient + 1
%endrep
    ; 2^100 is 1 modulo 3, in more than one step
    fninit
    fild dword [three]
    fld tword [two_to_100]
    fprem
    status_is "fprem: not through", C2 | 0x7f, C2
    mov ecx, 10
.partial:
    fprem
    fnstsw ax
    test ah, 4
    loopnz .partial
    status_is "fprem: through", C2 | 0x7f, 0
    leaves "fprem: 2^100", one
    fninit
    fld1
    fld tword [infinity]
    fprem
    gives "fprem of infinity", IE, indefinite
    fninit
    fldz
    fld1
    fprem
    gives "fprem by 0", IE, indefinite
    fninit
    fld tword [infinity]
    fld tword [minus_one]
    fprem
    gives "fprem by infinity", 0, minus_one
    fninit
    fld1
    fld tword [minus_zero]
    fprem
    gives "fprem of -0", 0, minus_zero

    ; --- FSCALE ---
%macro scale 5                          ; "name", flags, result, value, scale
    fninit
    fld tword [%5]
    fld tword [%4]
    fscale
    gives %1, %2, %3
%endmacro
    scale "fscale by 100", 0, two_to_100, one, hundred
    scale "fscale truncates", 0, minus_two, minus_one, almost_two
    scale "fscale truncates below 0", 0, minus_half, minus_one, minus_almost_two
    scale "fscale by infinity", 0, minus_infinity, minus_one, infinity
    scale "fscale by -infinity", 0, minus_zero, minus_one, minus_infinity
    scale "fscale of 0 by infinity", IE, indefinite, zero, infinity
    scale "fscale of 0 by -infinity", 0, zero, zero, minus_infinity
    scale "fscale of infinity by -infinity", IE, indefinite, infinity, minus_infinity
    scale "fscale of infinity by infinity", 0, minus_infinity, minus_infinity, infinity
    scale "fscale of 0", 0, minus_zero, minus_zero, largest
    scale "fscale by the largest", OE | PE, infinity, one, largest
    scale "fscale by minus the largest", UE | PE, zero, one, minus_largest
    scale "fscale to a denormal", 0, denormal_top, one, minus_16383
    scale "fscale by a denormal", DE_, one, one, denormal
    scale "fscale of a denormal", DE_, smallest, denormal, sixty_three

    ; --- FXTRACT ---
%macro extract 5                        ; "name", flags, significand, exponent, value
    fninit
    fld tword [%5]
    fxtract
    gives %1, %2, %3
    leaves %1, %4
%endmacro
    extract "fxtract -12", 0, minus_one_and_a_half, three_80, minus_twelve
    extract "fxtract 0", ZE, zero, minus_infinity, zero
    extract "fxtract -0", ZE, minus_zero, minus_infinity, minus_zero
    extract "fxtract infinity", 0, minus_infinity, infinity, minus_infinity
    extract "fxtract of a denormal", DE_, one, minus_16445, denormal
    extract "fxtract of a NaN", 0, quiet, quiet, quiet

    ; --- transcendental instructions at the ends of their ranges; whether exact results set PE is not defined ---
    fninit
    fld tword [two_to_100]
    fptan
    status_is "fptan out of range", 0x7f | C2, C2
    leaves "fptan out of range", two_to_100
    fninit
    fld tword [two_to_100]
    fsin
    status_is "fsin out of range", 0x7f | C2, C2
    leaves "fsin out of range", two_to_100
    fninit
    fld tword [infinity]
    fsin
    gives "fsin of infinity", IE, indefinite
    fninit
    fld tword [minus_zero]
    fsin
    gives "fsin of -0", 0, minus_zero
    fninit
    fld1
    fldz
    fyl2x
    gives "fyl2x of 0", ZE, minus_infinity
    fninit
    fld1
    fld tword [minus_one]
    fyl2x
    gives "fyl2x of -1", IE, indefinite
    fninit
    fldz
    fld tword [infinity]
    fyl2x
    gives "fyl2x: 0 times the logarithm of infinity", IE, indefinite
    fninit
    fld1
    fld tword [eight]
    fyl2x
    status_is "fyl2x of 8", 0x7f ^ PE, 0
    leaves "fyl2x of 8", three_80
    fninit
    fld tword [minus_zero]
    fld1
    fpatan
    status_is "fpatan of 0 over 1", 0x7f ^ PE, 0
    leaves "fpatan of 0 over 1", minus_zero
    fninit
    fld1
    f2xm1
    status_is "f2xm1 of 1", 0x7f ^ PE, 0
    leaves "f2xm1 of 1", one
    fninit
    fld tword [minus_one]
    f2xm1
    status_is "f2xm1 of -1", 0x7f ^ PE, 0
    leaves "f2xm1 of -1", minus_half

    ; --- integers at their ends ---
    fninit
    fild qword [most_negative]
    gives "fild of the most negative", 0, minus_two_to_63
    fninit
    fld tword [minus_two_to_63]
    fistp qword [SCRATCH]
    status_is "fistp of the most negative", 0x7f, 0
    expect_bytes "fistp of the most negative", SCRATCH, most_negative, 8
    fninit
    fld tword [minus_two_to_63]
    fchs
    fistp qword [SCRATCH]
    status_is "fistp of one too many", 0x7f, IE
    expect_bytes "fistp of one too many", SCRATCH, most_negative, 8
    finish

section .data
align 16
number one, 0x3fff, 0x80000000, 0
number minus_one, 0xbfff, 0x80000000, 0
number minus_two, 0xc000, 0x80000000, 0
number minus_half, 0xbffe, 0x80000000, 0
number almost_two, 0x3fff, 0xffffffff, 0xffffffff
number minus_almost_two, 0xbfff, 0xffffffff, 0xffffffff
number two_and_a_half, 0x4000, 0xa0000000, 0
number three_80, 0x4000, 0xc0000000, 0
number eight, 0x4002, 0x80000000, 0
number minus_twelve, 0xc002, 0xc0000000, 0
number minus_one_and_a_half, 0xbfff, 0xc0000000, 0
number sixty_three, 0x4004, 0xfc000000, 0
number hundred, 0x4005, 0xc8000000, 0
number minus_16383, 0xc00c, 0xfffc0000, 0
number minus_16445, 0xc00d, 0x807a0000, 0
number two_to_100, 0x4063, 0x80000000, 0
number minus_two_to_63, 0xc03e, 0x80000000, 0
number ten_to_18, 0x403a, 0xde0b6b3a, 0x76400000
number zero, 0, 0, 0
number minus_zero, 0x8000, 0, 0
number infinity, 0x7fff, 0x80000000, 0
number minus_infinity, 0xffff, 0x80000000, 0
number quiet, 0x7fff, 0xc0000000, 0x12345
number indefinite, 0xffff, 0xc0000000, 0
number signalling, 0x7fff, 0x80000000, 1
number denormal, 0, 0, 1
number minus_denormal, 0x8000, 0, 1
number denormal_top, 0, 0x40000000, 0
number pseudo_denormal, 0, 0x80000000, 0
number smallest, 1, 0x80000000, 0
number largest, 0x7ffe, 0xffffffff, 0xffffffff
number minus_largest, 0xfffe, 0xffffffff, 0xffffffff
number unnormal, 0x4000, 0x40000000, 0
number minus_unnormal, 0xc000, 0x40000000, 0
number unnormal_zero, 0x4000, 0, 0
number pseudo_infinity, 0x7fff, 0, 0
number pseudo_nan, 0x7fff, 0x40000000, 1
number packed_value, 0xc03a, 0xde0b6b3a, 0x763ffff0
packed: dd 0x99999999, 0x99999999
    dw 0x8099
packed_minus_zero: dd 0, 0
    dw 0x8000
packed_indefinite: dd 0, 0xc0000000
    dw 0xffff
align 8
three: dd 3
most_negative: dd 0, 0x80000000
