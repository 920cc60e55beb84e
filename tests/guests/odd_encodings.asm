; Instructions that programs of the time use although no assembler knows them, or in ways that the manual states in its small
; print: SALC, AAM and AAD with other bases, group 82, the copies of x87 instructions, shift counts, and prefixes in numbers.
;
; expect: exit 33
; deviates: qemu "f6 /1": all processors execute it as TEST, although the manual's table A-6 leaves it out; QEMU
;   raises #UD.
%include "include/guest.inc"

BUF equ SCRATCH

; gives "name", value of EAX, mask of flags, flags, {instructions}
%macro gives 5+
    %5
    expect_flags %1, %3, %4
    expect_eq %1, eax, %2
%endmacro
%macro set_flags 1
    push dword 2 | (%1)
    popfd
%endmacro
; st0_is "name", the dword of its value as a single; the stack is emptied
%macro st0_is 2
    fst dword [BUF]
    expect_eq %1, [BUF], %2
%endmacro
%macro top_is 2
    fnstsw ax
    shr eax, 11
    and eax, 7
    expect_eq %1, eax, %2
%endmacro

main:
    change_cr0 CR0_EM | CR0_TS, CR0_NE | CR0_MP
    ; --- SALC ---
    mov eax, 0x12345678
    set_flags CF | ZF | OF
    gives "salc with cf", 0x123456ff, ARITHMETIC, CF | ZF | OF, db 0xd6
    set_flags SF | AF | PF
    gives "salc without", 0x12345600, ARITHMETIC, SF | AF | PF, db 0xd6
    ; --- AAM, AAD ---
    mov eax, 0xffff00f7
    gives "aam 16", 0xffff0f07, ZF | SF | PF, 0, {db 0xd4, 16}
    mov eax, 0x000000ff
    gives "aam 7", 0x00002403, ZF | SF | PF, PF, {db 0xd4, 7}
    mov eax, 0x00000063
    gives "aam 255", 0x00000063, ZF | SF | PF, PF, {db 0xd4, 255}
    mov eax, 0x1234
    gives "aam 1", 0x3400, ZF | SF | PF, ZF | PF, {db 0xd4, 1}
    mov eax, 0x1234
    expect_fault "aam 0", DE, 0, {db 0xd4, 0}
    expect_eq "aam 0 changes nothing", eax, 0x1234
    mov eax, 0xabcd0f07
    gives "aad 16", 0xabcd00f7, ZF | SF, SF, {db 0xd5, 16}
    mov eax, 0x0305
    gives "aad 0", 0x0005, ZF | SF | PF, PF, {db 0xd5, 0}
    mov eax, 0xff80
    gives "aad 255", 0x0081, ZF | SF, SF, {db 0xd5, 255}
    ; --- 82 is 80 ---
    mov eax, 0x10
    set_flags CF
    gives "82 /0 add", 0x8f, CF | SF | OF, SF | OF, {db 0x82, 0xc0, 0x7f}
    set_flags CF
    gives "82 /2 adc", 0x90, CF | SF | OF, SF, {db 0x82, 0xd0, 0x00}
    set_flags CF
    gives "82 /3 sbb", 0x8e, CF | SF | OF, SF, {db 0x82, 0xd8, 0x01}
    gives "82 /4 and", 0x8c, CF | SF | OF, SF, {db 0x82, 0xe0, 0xfc}
    gives "82 /1 or", 0x8f, CF | SF | OF, SF, {db 0x82, 0xc8, 0x03}
    gives "82 /6 xor", 0x70, CF | SF | OF, 0, {db 0x82, 0xf0, 0xff}
    gives "82 /7 cmp", 0x70, CF | ZF, ZF, {db 0x82, 0xf8, 0x70}
    mov dword [BUF], 0x11223344
    mov ebx, BUF
    db 0x82, 0x2b, 0x45                 ; sub byte [ebx], 0x45
    expect_eq "82 /5 sub memory", [BUF], 0x112233ff
    db 0xf0, 0x82, 0x03, 0x01
    expect_eq "lock 82 /0", [BUF], 0x11223300

    ; --- the other SAL, the other TEST ---
    mov eax, 0x81
    gives "d0 /6", 0x02, CF | OF, CF | OF, {db 0xd0, 0xf0}
    mov ecx, 4
    mov eax, 0xffff1234
    gives "d3 /6", 0xfff12340, CF, CF, {db 0xd3, 0xf0}
    mov eax, 0x1234
    gives "c1 /6 of 16 bits", 0x2340, CF, CF, {db 0x66, 0xc1, 0xf0, 4}
    skip_on_qemu "f6 /1", .counts
    mov eax, 0xf0
    gives "f6 /1", 0xf0, ZF | SF | CF, ZF, {db 0xf6, 0xc8, 0x0f}
    gives "f7 /1", 0xf0, ZF | SF | CF, 0, {db 0xf7, 0xc8, 0x10, 0, 0, 0}

.counts:
    ; --- counts ---
    mov eax, 0x12345678
    mov cl, 32
    set_flags CF | ZF | SF | OF | PF | AF
    gives "shl by 32", 0x12345678, ARITHMETIC, ARITHMETIC, shl eax, cl
    mov cl, 33
    gives "shl by 33", 0x2468acf0, CF, 0, shl eax, cl
    mov cl, 0
    set_flags OF | CF
    gives "ror by 0", 0x2468acf0, ARITHMETIC, OF | CF, {ror eax, cl}
    mov cl, 64 + 4
    gives "ror by 68", 0x02468acf, CF, 0, {ror eax, cl}
    mov eax, 0x81
    mov cl, 9
    set_flags CF
    gives "rcl of 8 bits by 9", 0x81, CF, CF, {rcl al, cl}
    mov cl, 10
    gives "rcl of 8 bits by 10", 0x03, CF, CF, {rcl al, cl}
    mov eax, 0x8001
    mov cl, 17
    set_flags 0
    gives "rcr of 16 bits by 17", 0x8001, CF, 0, {rcr ax, cl}
    mov cl, 18
    gives "rcr of 16 bits by 18", 0x4000, CF, CF, {rcr ax, cl}
    mov eax, 0xc3
    mov cl, 24
    set_flags 0
    gives "rol of 8 bits by 24", 0xc3, CF, CF, {rol al, cl}
    mov eax, 0xff
    mov cl, 9
    gives "shr of 8 bits by 9", 0, ZF, ZF, {shr al, cl}
    mov eax, 0x80
    mov cl, 31
    gives "sar of 8 bits by 31", 0xff, CF | SF, CF | SF, {sar al, cl}
    mov eax, 0x12345678
    mov edx, 0x9abcdef0
    mov cl, 36
    gives "shld by 36", 0x23456789, CF, CF, {shld eax, edx, cl}
    mov eax, 0x12345678
    mov cl, 0
    set_flags CF | ZF
    gives "shrd by 0", 0x12345678, ARITHMETIC, CF | ZF, {shrd eax, edx, cl}

    ; --- ESP ---
    mov edi, esp
    push esp
    pop eax
    expect_eq "push esp", eax, edi
    push dword 0x66
    push dword [esp]
    pop eax
    pop edx
    expect_eq "push [esp]: the address before the push", eax, 0x66
    db 0x66, 0x54                       ; push sp
    movzx eax, word [esp]
    movzx edx, di
    expect_eq "push sp of 16 bits", eax, edx
    mov esp, edi
    push dword BUF + 0x100
    pop esp
    expect_eq "pop esp", esp, BUF + 0x100
    mov esp, edi
    push dword 0x44
    push dword 0x55
    pop dword [esp]                     ; the address after the pop
    pop eax
    expect_eq "pop [esp]", eax, 0x55
    mov esp, edi
    push byte -2
    pop eax
    expect_eq "push imm8 is signed", eax, -2
    db 0x66, 0x6a, 0x80                 ; push word -128
    mov eax, edi
    sub eax, esp
    expect_eq "push imm8 as a word", eax, 2
    mov esp, edi
    mov eax, 0xffffffff
    push eax
    push ds
    mov eax, [esp]
    movzx eax, ax
    expect_eq "push ds", eax, KDS
    mov esp, edi

    ; --- x87's copies ---
    fninit
    fld1
    fldz
    db 0xdf, 0xc0                       ; ffreep st0
    top_is "ffreep pops", 7
    st0_is "ffreep: what is left", 0x3f800000
    fninit
    fld1
    fldz
    db 0xdf, 0xc1                       ; ffreep st1
    top_is "ffreep st1 pops", 7
    fxam
    fnstsw ax
    and eax, 0x4500
    expect_eq "ffreep st1: what is left is empty", eax, 0x4100
    fninit
    fld1
    fldpi
    db 0xd9, 0xd9                       ; fstp1 st1
    top_is "d9 d8+i is fstp", 7
    st0_is "d9 d8+i: value", 0x40490fdb
    fninit
    fldz
    fld1
    db 0xdc, 0xd1                       ; fcom2 st1
    fnstsw ax
    and eax, 0x7f00
    expect_eq "dc d0+i is fcom", eax, 6 << 11
    db 0xdc, 0xd9                       ; fcomp3 st1
    top_is "dc d8+i is fcomp", 7
    fld1
    db 0xdd, 0xc9                       ; fxch4 st1
    st0_is "dd c8+i is fxch", 0
    db 0xdf, 0xc9                       ; fxch7 st1
    st0_is "df c8+i is fxch", 0x3f800000
    db 0xde, 0xd1                       ; fcomp5 st1
    top_is "de d0+i is fcomp", 7
    fld1
    fldpi
    db 0xdf, 0xd1                       ; fstp8 st1
    st0_is "df d0+i is fstp", 0x40490fdb
    fld1
    db 0xdf, 0xd9                       ; fstp9 st1
    st0_is "df d8+i is fstp", 0x3f800000
    fninit
    fld1
    db 0xdb, 0xe0                       ; feni, fdisi and fsetpm of older coprocessors do nothing
    db 0xdb, 0xe1
    db 0xdb, 0xe4
    fnstsw ax
    movzx eax, ax
    expect_eq "feni, fdisi, fsetpm", eax, 7 << 11
    expect_fault "d9 d1", UD, 0, {db 0xd9, 0xd1}
    expect_fault "d9 e2", UD, 0, {db 0xd9, 0xe2}
    expect_fault "d9 ef", UD, 0, {db 0xd9, 0xef}
    expect_fault "da e0", UD, 0, {db 0xda, 0xe0}
    expect_fault "db e5", UD, 0, {db 0xdb, 0xe5}
    expect_fault "de d8", UD, 0, {db 0xde, 0xd8}
    expect_fault "df e1", UD, 0, {db 0xdf, 0xe1}
    expect_fault "dd /5", UD, 0, {db 0xdd, 0x2b}

    ; --- what is none ---
    expect_fault "mov cs", UD, 0, {db 0x8e, 0xc8}
    expect_fault "mov to segment 6", UD, 0, {db 0x8e, 0xf0}
    expect_fault "mov from segment 7", UD, 0, {db 0x8c, 0xf8}
    expect_fault "ff /7", UD, 0, {db 0xff, 0xf8}
    expect_fault "fe /2", UD, 0, {db 0xfe, 0xd0}
    expect_fault "0f b9", UD, 0, {db 0x0f, 0xb9, 0xc0}
    expect_fault "les of a register", UD, 0, {db 0xc4, 0xc0}
    expect_fault "bound of a register", UD, 0, {db 0x62, 0xc0}
    expect_fault "lea of a register", UD, 0, {db 0x8d, 0xc0}
    expect_fault "far call of a register", UD, 0, {db 0xff, 0xd8}
    expect_fault "mov cr1", UD, 0, {db 0x0f, 0x20, 0xc8}

    ; --- prefixes ---
    mov eax, 5
    db 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3
    inc eax
    expect_eq "each prefix once", eax, 6
    mov dword [BUF], 0x77
    mov eax, 0
    times 4 db 0x65                     ; the last one counts
    db 0x3e
    mov eax, [dword BUF]
    expect_eq "the last segment counts", eax, 0x77
    times 14 db 0x66
    db 0x40                             ; 15 bytes: inc ax
    expect_eq "15 bytes", eax, 0x78
    try .long_done
.long:
    times 15 db 0x66
    db 0x40
.long_done:
    expect_exception "16 bytes", GP, 0, .long
    mov ecx, 3
    mov edi, BUF
    xor eax, eax
    db 0xf2, 0xf3
    stosb
    expect_eq "repne rep stosb", ecx, 0
    db 0xf3
    nop                                 ; pause
    db 0x66
    nop
    db 0xf3
    inc eax
    expect_eq "rep before others", eax, 1
    finish
