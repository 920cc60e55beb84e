; ARPL, BOUND, INTO, XLAT and SALC.
;
; expect: exit 33
%include "include/guest.inc"

main:
    ; ARPL: RPL of the first becomes at least that of the second, ZF says whether it changed
    mov eax, 0x12340008
    mov ecx, 0x0003
    stc
    arpl ax, cx
    expect_flags "arpl raises", ZF | CF, ZF | CF
    expect_eq "arpl raises", eax, 0x1234000b
    mov ecx, 0x0012
    arpl ax, cx
    expect_flags "arpl keeps", ZF, 0
    expect_eq "arpl keeps", eax, 0x1234000b
    mov word [SCRATCH], 0x0010
    arpl [SCRATCH], cx
    expect_flags "arpl memory", ZF, ZF
    movzx eax, word [SCRATCH]
    expect_eq "arpl memory", eax, 0x12
    mov eax, 0x10
    mov ecx, 3
    expect_ring_ok 3, "arpl in ring 3", arpl ax, cx
    expect_eq "arpl in ring 3", eax, 0x13
    arpl ax, ax
    expect_flags "arpl with itself", ZF, 0

    ; BOUND: signed, inclusive
    mov dword [SCRATCH], -5
    mov dword [SCRATCH + 4], 10
    mov eax, -5
    expect_no_fault "lower bound", bound eax, [SCRATCH]
    mov eax, 10
    expect_no_fault "upper bound", bound eax, [SCRATCH]
    mov eax, 11
    expect_fault "above", BR, 0, bound eax, [SCRATCH]
    mov eax, -6
    expect_fault "below", BR, 0, bound eax, [SCRATCH]
    expect_eq "bound keeps its register", eax, -6
    mov eax, 0x80000000
    expect_fault "far below", BR, 0, bound eax, [SCRATCH]
    mov word [SCRATCH], -2
    mov word [SCRATCH + 2], 2
    mov eax, 0x00050002
    expect_no_fault "16 bits", bound ax, [SCRATCH]
    mov eax, 0x00000003
    expect_fault "16 bits above", BR, 0, bound ax, [SCRATCH]
    mov eax, 0x0000fffe
    expect_no_fault "16 bits, signed", bound ax, [SCRATCH]
    mov eax, 0x7777fffd
    expect_fault "16 bits below", BR, 0, bound ax, [SCRATCH]
    ; flags stay; bounds on the stack, of ESP, in a loop
    mov dword [SCRATCH], 0
    mov dword [SCRATCH + 4], 99
    mov ecx, 100
.bounds:
    lea eax, [ecx - 1]
    stc
    bound eax, [SCRATCH]
    jnc .out
    loop .bounds
.out:
    expect_eq "bound in a loop keeps CF", ecx, 0
    push dword 20
    push dword 10
    mov eax, 15
    expect_no_fault "bounds on the stack", bound eax, [esp]
    mov eax, 21
    expect_fault "bounds on the stack, above", BR, 0, bound eax, [esp]
    mov [esp], esp
    mov [esp + 4], esp
    bound esp, [esp]
    dec dword [esp + 4]
    expect_fault "bound of esp", BR, 0, bound esp, [esp]
    add esp, 8
    expect_ring_fault 3, "bound in ring 3", BR, 0, bound ecx, [.above]
    jmp .bounded
.above:
    dd 1, 2
.bounded:
    expect_fault "bound of registers", UD, 0, {db 0x62, 0xc0}

    ; INTO: a trap behind the instruction when OF is set; from ring 3 the gate's DPL counts
    xor eax, eax
    expect_no_fault "into without OF", into
    mov eax, 0x7fffffff
    add eax, 1
    expect_trap "into with OF", OF_, 0, into
    mov dword [user_eflags], 2 | OF
    try .into
    enter_ring 3, .user
.user:
    into
.into:
    expect_exception "into in ring 3", OF_, 0, .into
    and byte [idt + OF_ * 8 + 5], ~DPL3
    expect_ring_fault 3, "into with a gate of DPL 0", GP, OF_ * 8 + 2, into
    mov dword [user_eflags], 2
    expect_ring_ok 3, "into without OF looks at no gate", into

    ; XLAT: [EBX + AL], unsigned
    mov byte [SCRATCH + 0xff], 0x5a
    mov ebx, SCRATCH
    mov eax, 0x123456ff
    xlatb
    expect_eq "xlat", eax, 0x1234565a
    set_descriptor SEL0, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    load_segment fs, SEL0
    xor ebx, ebx
    mov al, 0xff
    fs xlatb
    expect_eq "xlat with an override", eax, 0x1234565a
    mov byte [0x9010], 0x77
    mov ebx, 0xabcd9001
    mov al, 0x0f
    a16 xlatb
    expect_eq "xlat with 16-bit address", eax, 0x12345677
    stc
    salc
    expect_eq "salc", eax, 0x123456ff
    clc
    salc
    expect_eq "salc without carry", eax, 0x12345600
    finish
