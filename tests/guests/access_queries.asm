; LAR, LSL, VERR, VERW: for every descriptor type, with privilege, null, absent and out-of-table
; selectors; only ZF changes.
;
; expect: exit 33
%include "include/guest.inc"

; The manual leaves bits 16 to 19 of what LAR gives undefined: they are masked.
; query "name", selector, access rights or -1, limit or -1, verr, verw
%macro query 6
    mov ecx, %2
    mov eax, 0x77707777
    mov ebx, eax
    stc
    lar eax, ecx
    sete dl
    setc dh
    and eax, ~0x000f0000
    %strcat %%lar %1, ": lar"
    %if (%3) == -1
    expect_eq %%lar, eax, 0x77707777
    test dl, dl
    expect_flags %%lar, ZF, ZF
    %else
    expect_eq %%lar, eax, %3
    test dl, dl
    expect_flags %%lar, ZF, 0
    %endif
    %strcat %%carry %1, ": carry stays"
    test dh, dh
    expect_flags %%carry, ZF, 0
    lsl ebx, ecx
    sete dl
    %strcat %%lsl %1, ": lsl"
    %if (%4) == -1
    expect_eq %%lsl, ebx, 0x77707777
    test dl, dl
    expect_flags %%lsl, ZF, ZF
    %else
    expect_eq %%lsl, ebx, %4
    test dl, dl
    expect_flags %%lsl, ZF, 0
    %endif
    %strcat %%verr %1, ": verr"
    verr cx
    expect_flags %%verr, ZF, ZF * (%5)
    %strcat %%verw %1, ": verw"
    verw cx
    expect_flags %%verw, ZF, ZF * (%6)
%endmacro

main:
    set_descriptor SEL0, 0x12345678, 0xabcde, DATA_RO | DPL3, BIG | PAGES | 1
    set_descriptor SEL1, 0, 0x12345, CODE_XO, 0
    set_descriptor SEL2, 0, 0x00fff, CODE_RX_CONF, BIG
    set_descriptor SEL3, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    set_descriptor SEL4, 0, 0x0ffff, LDT_TYPE, 0
    set_descriptor SEL5, 0, 0x00067, TSS_TYPE, 0
    set_call_gate SEL6, KCS, main, 0, CALL_GATE | DPL3
    set_descriptor SEL7, 0, 0, 0x80, 0                  ; a reserved type
    set_call_gate SEL8, KCS, main, 0, INT_GATE
    set_descriptor SEL9, 0, 0x00067, TASK_GATE, 0
    query "null", 0, -1, -1, 0, 0
    query "null with RPL", 3, -1, -1, 0, 0
    query "flat data", KDS, 0x00c09300, 0xffffffff, 1, 1
    query "read-only data", SEL0, 0x00d0f000, 0xabcdefff, 1, 0
    query "execute-only", SEL1, 0x00009800, 0x12345, 0, 0
    query "conforming", SEL2, 0x00409e00, 0xfff, 1, 0
    query "conforming with RPL", SEL2 | 3, 0x00409e00, 0xfff, 1, 0
    query "absent", SEL3, 0x00c01200, 0xffffffff, 1, 1
    query "LDT", SEL4, 0x00008200, 0xffff, 0, 0
    query "TSS", SEL5, 0x00008900, 0x67, 0, 0
    query "busy TSS", TSS_SEL, 0x00008b00, 0x67, 0, 0
    query "call gate", SEL6, 0x0000ec00 | (ADDRESS(main) & 0xf00000), -1, 0, 0
    query "reserved type", SEL7, -1, -1, 0, 0
    query "interrupt gate", SEL8, -1, -1, 0, 0
    query "task gate", SEL9, 0x00008500, -1, 0, 0
    query "RPL above DPL", KDS | 3, -1, -1, 0, 0
    query "beyond the GDT", GDT_ENTRIES * 8, -1, -1, 0, 0
    query "no LDT", 0x0c, -1, -1, 0, 0

    ; 16-bit destinations
    mov eax, 0x55555555
    mov ecx, SEL2
    lar ax, cx
    expect_eq "lar of 16 bits", eax, 0x55559e00
    lsl ax, cx
    expect_eq "lsl of 16 bits", eax, 0x55550fff
    mov word [SCRATCH], SEL2
    lar eax, [SCRATCH]
    expect_eq "lar from memory", eax, 0x00409e00
    ; they load nothing: no accessed bit
    movzx eax, byte [gdt + SEL2 + 5]
    expect_eq "no accessed bit", eax, CODE_RX_CONF

    ; in ring 3 the CPL counts
    mov ecx, KDS
    mov eax, 5
    expect_ring_ok 3, "lar of ring 0 in ring 3", lar eax, ecx
    expect_eq "it fails", eax, 5
    mov eax, [exc_eflags]
    and eax, ZF
    expect_eq "it clears ZF", eax, 0
    mov ecx, SEL0
    expect_ring_ok 3, "lar of DPL 3 in ring 3", lar eax, ecx
    and eax, ~0x000f0000
    expect_eq "it works", eax, 0x00d0f000
    mov ecx, UDS
    expect_ring_ok 3, "verw in ring 3", verw cx
    mov eax, [exc_eflags]
    and eax, ZF
    expect_eq "verw in ring 3: ZF", eax, ZF
    finish
