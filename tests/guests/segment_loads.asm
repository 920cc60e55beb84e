; Loads of DS, ES, FS, GS and SS: base and limit take effect, reloads, null selectors, type,
; privilege and presence checks with their error codes, the accessed bit.
;
; expect: exit 33
; deviates: qemu "read through null", "write through null", "null in between": a null selector can be
;   loaded but not
;   used (SDM volume 3, 5.4.1, "Null Segment Selector Checking"); QEMU checks no data accesses.
%include "include/guest.inc"

main:
    mov dword [SCRATCH], 0x11111111
    mov dword [SCRATCH + 0x1000], 0x22222222
    set_descriptor SEL0, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    set_descriptor SEL1, SCRATCH + 0x1000, 0xfff, DATA_RO, BIG
    load_segment fs, SEL0
    load_segment gs, SEL1
    mov eax, [fs:0]
    mov ebx, [gs:0]
    expect_eq "fs base", eax, 0x11111111
    expect_eq "gs base", ebx, 0x22222222
    mov ecx, 0x1000
    mov eax, [fs:ecx]
    expect_eq "fs with an index", eax, 0x22222222
    mov eax, [gs:-0x1000 + 0x1000]
    expect_eq "gs at 0", eax, 0x22222222
    mov ax, fs
    expect_eq "selector reads back", eax, 0x22220000 | SEL0
    mov eax, gs
    expect_eq "selector to 32 bits", eax, SEL1

    ; a descriptor's change takes effect at the next load only
    set_descriptor SEL0, SCRATCH + 0x1000, 0xfffff, DATA_RW, BIG | PAGES
    mov eax, [fs:0]
    expect_eq "cached descriptor", eax, 0x11111111
    load_segment fs, SEL0
    mov eax, [fs:0]
    expect_eq "reloaded descriptor", eax, 0x22222222
    test byte [gdt + SEL0 + 5], ACCESSED
    expect_flags "accessed bit set by the load", ZF, 0

    ; addresses wrap at 4 GiB
    mov eax, [fs:-0x1000]
    expect_eq "offset wraps", eax, 0x11111111

    ; the null selectors
    mov eax, 3
    expect_no_fault "null with RPL 3", mov fs, eax
    mov eax, fs
    expect_eq "null reads back", eax, 3
    expect_fault "read through null", GP, 0, mov eax, [fs:0]
    expect_fault "write through null", GP, 0, mov [fs:SCRATCH], eax
    xor eax, eax
    expect_fault "null into ss", GP, 0, mov ss, eax

    ; what cannot be loaded
    set_descriptor SEL2, 0, 0xfffff, CODE_XO, BIG | PAGES
    set_descriptor SEL3, 0, 0xfffff, CODE_RX, BIG | PAGES
    set_descriptor SEL4, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    set_descriptor SEL5, 0, 0xfffff, DATA_RO, BIG | PAGES
    set_descriptor SEL6, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    mov eax, SEL2
    expect_fault "execute-only into ds", GP, SEL2, mov ds, eax
    mov eax, SEL3
    expect_no_fault "readable code into es", mov es, eax
    load_segment es, KDS
    expect_fault "code into ss", GP, SEL3, mov ss, eax
    mov eax, SEL4
    expect_fault "absent into fs", NP, SEL4, mov fs, eax
    expect_fault "absent into ss", SS_, SEL4, mov ss, eax
    mov eax, SEL5
    expect_fault "read-only into ss", GP, SEL5, mov ss, eax
    mov eax, KDS | 3
    expect_fault "RPL above DPL into gs", GP, KDS, mov gs, eax
    mov eax, SEL6
    expect_no_fault "DPL 3 into gs", mov gs, eax
    expect_fault "DPL 3 into ss", GP, SEL6, mov ss, eax
    mov eax, SEL6 | 3
    expect_fault "RPL 3 into ss", GP, SEL6, mov ss, eax
    mov eax, TSS_SEL
    expect_fault "a TSS into ds", GP, TSS_SEL, mov ds, eax
    mov eax, GDT_ENTRIES * 8
    expect_fault "beyond the GDT", GP, GDT_ENTRIES * 8, mov ds, eax
    mov eax, 0x0c | 3
    expect_fault "LDT without LDT", GP, 0x0c, mov ds, eax
    mov eax, gs
    expect_eq "faults keep the register", eax, SEL6
    expect_fault "mov to cs", UD, 0, {db 0x8e, 0xc8}

    ; ring 3: DPL 0 cannot be loaded, conforming code can
    set_descriptor SEL7, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    mov eax, KDS
    expect_ring_fault 3, "ring 0 data in ring 3", GP, KDS, mov ds, eax
    mov eax, SEL7
    expect_ring_ok 3, "conforming code into ds", mov ds, eax
    mov eax, SEL3
    expect_ring_fault 3, "ring 0 code into ds", GP, SEL3, mov ds, eax
    mov eax, UDS & ~3
    expect_ring_ok 3, "RPL 0 of DPL 3 into ds", mov ds, eax
    expect_ring_fault 3, "RPL 0 into ss", GP, UDS & ~3, mov ss, eax

    ; LDS and friends: register and segment, in one go; POP too
    mov dword [SCRATCH], 0x12345678
    mov word [SCRATCH + 4], SEL0
    lfs eax, [SCRATCH]
    expect_eq "lfs register", eax, 0x12345678
    mov eax, fs
    expect_eq "lfs segment", eax, SEL0
    mov word [SCRATCH + 4], SEL4
    mov ebx, 7
    expect_fault "lgs of an absent one", NP, SEL4, lgs ebx, [SCRATCH]
    expect_eq "lgs keeps its register", ebx, 7
    push dword SEL4
    mov ecx, esp
    expect_fault "pop fs of an absent one", NP, SEL4, pop fs
    expect_eq "pop keeps esp", esp, ecx
    pop eax
    lss ecx, [.stack]
    expect_no_fault "lss", lss esp, [.stack]
    expect_fault "lds of a register", UD, 0, {db 0xc5, 0xc0}

    ; the same selector again and again, while its descriptor changes: every load looks
    set_descriptor SEL0, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    mov dword [SCRATCH], 0x1000
    mov dword [SCRATCH + 0x1000], 1
    xor eax, eax
    mov ecx, 40
    mov edx, SEL0
.again:
    mov fs, edx
    add eax, [fs:0]
    xor byte [gdt + SEL0 + 3], 0x10     ; base bits 12 and up: one page on, one page back
    push edx
    pop gs
    add eax, [gs:0]
    dec ecx
    jnz .again
    expect_eq "loads in turn", eax, 40 * 0x1001
    and byte [gdt + SEL0 + 5], ~ACCESSED
    mov fs, edx
    test byte [gdt + SEL0 + 5], ACCESSED
    expect_flags "accessed bit set again", ZF, 0
    xor ecx, ecx
    mov gs, ecx
    mov gs, edx
    mov gs, ecx
    expect_fault "null in between", GP, 0, mov eax, [gs:0]
    xor byte [gdt + SEL0 + 5], NOT_PRESENT
    expect_fault "absent meanwhile", NP, SEL0, mov fs, edx
    xor byte [gdt + SEL0 + 5], NOT_PRESENT
    mov fs, edx

    ; in another table, and beyond a shorter one
    mov esi, gdt
    mov edi, SCRATCH + 0x2000
    mov ecx, GDT_ENTRIES * 2
    rep movsd
    xor byte [SCRATCH + 0x2000 + SEL0 + 3], 0x10
    mov eax, [fs:0]
    lgdt [.other_gdt]
    mov fs, edx
    add eax, [fs:0]
    lgdt [.short_gdt]
    expect_fault "beyond the short table", GP, SEL0, mov fs, edx
    lgdt [.usual_gdt]
    mov fs, edx
    expect_eq "each table's own", eax, 0x1001

    ; the class of DS changes and comes back
    mov ebx, KDS
    mov ecx, 10
    xor eax, eax
.class:
    mov ds, edx
    add eax, [0]
    mov ds, ebx
    add eax, [SCRATCH]
    dec ecx
    jnz .class
    mov ecx, [SCRATCH]
    add ecx, [fs:0]
    imul ecx, 10
    expect_eq "two classes in turn", eax, ecx
    finish
align 4
.other_gdt:
    dw GDT_ENTRIES * 8 - 1
    dd SCRATCH + 0x2000
.short_gdt:
    dw SEL0 + 6
    dd gdt
.usual_gdt:
    dw GDT_ENTRIES * 8 - 1
    dd gdt
.stack:
    dd KERNEL_STACK
    dw KDS
