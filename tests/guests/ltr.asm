; LTR and STR: the busy bit, errors, and the stacks of the TSS in force.
;
; expect: exit 33
; deviates: qemu "ltr of null*", "errors keep TR": a null selector is #GP(0) (SDM volume 2, LTR); QEMU
;   loads it.
%include "include/guest.inc"

OTHER_TSS equ SCRATCH + 0x100

main:
    str eax
    expect_eq "str", eax, TSS_SEL
    mov al, [gdt + TSS_SEL + 5]
    and eax, 0xff
    expect_eq "ltr made it busy", eax, TSS_BUSY
    mov eax, TSS_SEL
    expect_fault "ltr of a busy TSS", GP, TSS_SEL, ltr ax
    xor eax, eax
    expect_fault "ltr of null", GP, 0, ltr ax
    mov eax, 3
    expect_fault "ltr of null with RPL", GP, 0, ltr ax
    mov eax, KDS
    expect_fault "ltr of data", GP, KDS, ltr ax
    set_descriptor SEL0, OTHER_TSS, TSS_SIZE - 1, TSS_TYPE ^ NOT_PRESENT, 0
    mov eax, SEL0
    expect_fault "ltr of an absent one", NP, SEL0, ltr ax
    mov eax, GDT_ENTRIES * 8
    expect_fault "ltr beyond the GDT", GP, GDT_ENTRIES * 8, ltr ax
    mov eax, SEL0 | 4
    expect_fault "ltr from the LDT", GP, SEL0 | 4, ltr ax
    str eax
    expect_eq "errors keep TR", eax, TSS_SEL

    ; another TSS: its stack is used, the old one stays busy
    mov esi, tss
    mov edi, OTHER_TSS
    mov ecx, TSS_SIZE / 4
    rep movsd
    mov dword [OTHER_TSS + 4], RING0_STACK - 0x1000
    set_descriptor SEL0, OTHER_TSS, TSS_SIZE - 1, TSS_TYPE, 0
    mov word [SCRATCH], SEL0
    ltr [SCRATCH]
    mov eax, -1
    str ax
    expect_eq "str to 16 bits", eax, 0xffff0000 | SEL0
    movzx eax, byte [gdt + TSS_SEL + 5]
    expect_eq "the old one stays busy", eax, TSS_BUSY
    movzx eax, byte [gdt + SEL0 + 5]
    expect_eq "the new one is busy", eax, TSS_BUSY
    expect_ring_ok 3, "a system call", nop
    expect_eq "the new stack", [exc_frame], RING0_STACK - 0x1000 - 20
    ; the TSS is memory: changes count at once
    mov dword [OTHER_TSS + 4], RING0_STACK - 0x2000
    expect_ring_ok 3, "a system call on another stack", nop
    expect_eq "the changed stack", [exc_frame], RING0_STACK - 0x2000 - 20

    ; a TSS too small to hold the stack: #TS with its own selector
    set_descriptor SEL1, OTHER_TSS, 67, TSS_TYPE, 0
    mov eax, SEL1
    ltr ax
    mov dword [OTHER_TSS + 4], RING0_STACK
    expect_ring_ok 3, "small, but ring 0's stack is inside", nop
    finish
