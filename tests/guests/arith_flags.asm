; Integer arithmetic and the flags it leaves, in all three sizes; DAA and friends are in bcd.asm.
;
; expect: exit 33
%include "include/guest.inc"

; op2 "name", instruction, left, right, result, flags: 32-bit, through EAX and EDX
%macro op2 6
    mov eax, %3
    mov edx, %4
    %2 eax, edx
    expect_flags %1, ARITHMETIC, %6
    expect_eq %1, eax, %5
%endmacro
; The same without AF, where the manual leaves it undefined.
%macro logic 6
    mov eax, %3
    mov edx, %4
    %2 eax, edx
    expect_flags %1, ARITHMETIC & ~AF, %6
    expect_eq %1, eax, %5
%endmacro

main:
    op2 "add carry", add, 0xffffffff, 1, 0, CF | ZF | AF | PF
    op2 "add overflow", add, 0x7fffffff, 1, 0x80000000, SF | OF | AF | PF
    op2 "add both", add, 0x80000000, 0x80000000, 0, CF | ZF | OF | PF
    op2 "sub borrow", sub, 0, 1, 0xffffffff, CF | SF | AF | PF
    op2 "sub overflow", sub, 0x80000000, 1, 0x7fffffff, OF | AF | PF
    op2 "sub equal", sub, 5, 5, 0, ZF | PF
    op2 "cmp keeps", cmp, 3, 4, 3, CF | SF | AF | PF
    logic "and", and, 0xf0f0f0f0, 0x80000001, 0x80000000, SF | PF
    logic "or", or, 0x0000ff00, 0x00000001, 0x0000ff01, 0
    logic "xor", xor, 0x12345678, 0x12345678, 0, ZF | PF
    logic "test", test, 0x80, 0x80, 0x80, 0
    stc
    op2 "adc carry in", adc, 0xffffffff, 0, 0, CF | ZF | AF | PF
    stc
    op2 "sbb carry in", sbb, 0, 0xffffffff, 0, CF | ZF | AF | PF
    clc
    op2 "adc no carry", adc, 1, 2, 3, PF

    ; 8 and 16 bits touch their part only, high bytes too
    mov eax, 0x12347fff
    add ah, 1
    expect_flags "add ah", ARITHMETIC, SF | OF | AF
    expect_eq "add ah", eax, 0x123480ff
    add al, 1
    expect_flags "add al", ARITHMETIC, CF | ZF | AF | PF
    expect_eq "add al", eax, 0x12348000
    add ax, ax
    expect_flags "add ax", ARITHMETIC, CF | ZF | OF | PF
    expect_eq "add ax", eax, 0x12340000
    mov ebx, 0xaabbccdd
    mov ecx, 0x11223344
    sub bh, cl
    expect_eq "sub bh, cl", ebx, 0xaabb88dd
    xchg bl, ch
    expect_eq "xchg bl", ebx, 0xaabb8833
    expect_eq "xchg ch", ecx, 0x1122dd44

    ; INC and DEC keep CF
    stc
    mov eax, 0x7fffffff
    inc eax
    expect_flags "inc keeps carry", ARITHMETIC, CF | SF | OF | AF | PF
    clc
    xor eax, eax
    dec eax
    expect_flags "dec keeps no carry", ARITHMETIC, SF | AF | PF
    mov eax, 0x80000000
    neg eax
    expect_flags "neg overflow", ARITHMETIC, CF | SF | OF | PF
    xor eax, eax
    neg eax
    expect_flags "neg zero", ARITHMETIC, ZF | PF
    mov eax, 0x0f0f0f0f
    stc
    not eax
    expect_flags "not keeps flags", CF, CF
    expect_eq "not", eax, 0xf0f0f0f0

    ; memory destinations
    mov dword [SCRATCH], 0xfffffffe
    add dword [SCRATCH], 1
    expect_flags "add memory", ARITHMETIC, SF | PF
    inc byte [SCRATCH + 1]
    expect_flags "inc memory byte", ZF | OF, ZF
    sbb word [SCRATCH + 2], 0x7fff
    expect_eq "memory", [SCRATCH], 0x800000ff
    mov eax, SCRATCH
    lock xadd [eax], eax
    expect_eq "xadd into its address register", eax, 0x800000ff
    expect_eq "xadd stores the sum", [SCRATCH], (0x800000ff + SCRATCH) & 0xffffffff
    mov dword [SCRATCH], 7
    mov eax, 7
    mov ecx, 9
    cmpxchg [SCRATCH], ecx
    expect_flags "cmpxchg equal", ZF, ZF
    expect_eq "cmpxchg equal stores", [SCRATCH], 9
    mov eax, 8
    cmpxchg [SCRATCH], ecx
    expect_flags "cmpxchg unequal", ZF | CF | SF, CF | SF
    expect_eq "cmpxchg unequal loads", eax, 9

    ; bits
    mov eax, 0x00010000
    bt eax, 48                          ; modulo 32
    expect_flags "bt immediate wraps", CF, CF
    mov dword [SCRATCH], 0
    mov dword [SCRATCH + 4], 0
    mov ecx, 37
    bts [SCRATCH], ecx
    expect_eq "bts beyond its dword", [SCRATCH + 4], 0x20
    mov ecx, -27
    btc [SCRATCH + 8], ecx
    expect_flags "btc finds it", CF, CF
    expect_eq "btc before its dword", [SCRATCH + 4], 0
    mov eax, 0x00108000
    bsf ecx, eax
    expect_eq "bsf", ecx, 15
    bsr ecx, eax
    expect_eq "bsr", ecx, 20
    xor eax, eax
    bsf ecx, eax
    expect_flags "bsf of zero", ZF, ZF
    mov eax, 0x01020304
    bswap eax
    expect_eq "bswap", eax, 0x04030201

    ; conversions and flag moves
    mov eax, 0x1234ff80
    cbw
    expect_eq "cbw", eax, 0x1234ff80
    mov eax, 0x00008001
    cwde
    expect_eq "cwde", eax, 0xffff8001
    cdq
    expect_eq "cdq", edx, 0xffffffff
    mov edx, 0x55550000
    mov eax, 0x7fff
    cwd
    expect_eq "cwd", edx, 0x55550000
    mov ah, 0xd5
    sahf
    expect_flags "sahf", SF | ZF | AF | PF | CF, SF | ZF | AF | PF | CF
    mov ah, 0
    sahf
    mov eax, 0
    lahf
    expect_eq "lahf", eax, 0x0200
    stc
    cmc
    expect_flags "cmc", CF, 0
    mov eax, 0x8180
    movsx ecx, al
    movzx edx, ah
    expect_eq "movsx", ecx, 0xffffff80
    expect_eq "movzx of a high byte", edx, 0x81
    mov ecx, 0x11112222
    lea cx, [eax + ecx * 2 + 5]
    expect_eq "lea of 16 bits", ecx, 0x1111c5c9
    lea ecx, [eax + eax * 8 - 1]
    expect_eq "lea", ecx, 0x48d7f
    finish
