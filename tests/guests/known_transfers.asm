; Interrupts and IRETs that stay in ring 0, several times each, while what they rest upon changes: the
; gate, the code segment's descriptor, the limits of both tables, the stack's page.
;
; expect: exit 33
; deviates: qemu "limit of the segment: *": QEMU compares the target with the limit in some places
;   only
; deviates: qemu "accessed*": a segment whose descriptor is loaded is marked (SDM volume 3, 3.4.5.1)
%include "include/guest.inc"

VEC   equ 0x60
OTHER equ 0x61
ROUNDS equ 4

; several {instruction}
%macro several 1+
    mov ecx, ROUNDS
%%again:
    %1
    dec ecx
    jnz %%again
%endmacro

; returns selector, label: IRET goes there
%macro returns 2
    push dword 2
    push dword %1
    push dword %2
    iretd
%endmacro

; refused "name", vector, error: INT VEC, then an IRET to SEL0
%macro refused 3
    %strcat %%int %1, ": int"
    %strcat %%iret %1, ": iret"
    expect_fault %%int, %2, %3, int VEC
    try %%done
    push dword 2
    push dword SEL0
    push dword %%done
%%iretd:
    iretd
%%done:
    expect_exception %%iret, %2, %3, %%iretd
%endmacro

; both: INT VEC and an IRET to SEL0 that work, several times, so that they are known
%macro both 0
    several int VEC
    mov ecx, ROUNDS
%%again:
    returns SEL0, %%there
%%there:
    mov eax, cs
    jmp KCS:%%back
%%back:
    dec ecx
    jnz %%again
%endmacro

%macro flat_sel0 0
    set_descriptor SEL0, 0, 0xfffff, CODE_RX, BIG | PAGES
%endmacro

main:
    ; the gate
    set_idt_gate VEC, KCS, .first, INT_GATE
    several int VEC
    expect_eq "first handler", [sum], ROUNDS
    set_idt_gate VEC, KCS, .second, INT_GATE
    several int VEC
    expect_eq "second handler", [sum], ROUNDS * 0x101
    set_idt_gate VEC + 8, KCS, .first, INT_GATE
    set_idt_gate OTHER, KCS, .first, INT_GATE
    several int VEC + 8
    several int VEC
    expect_eq "two vectors", [sum], ROUNDS * 0x202
    push dword IF | 2
    popfd
    int VEC
    mov eax, [seen_flags]
    push dword 2
    popfd
    and eax, IF
    expect_eq "interrupt gate", eax, 0
    set_idt_gate VEC, KCS, .second, TRAP_GATE
    push dword IF | 2
    popfd
    int VEC
    pushfd
    pop ebx
    mov eax, [seen_flags]
    push dword 2
    popfd
    and eax, IF
    expect_eq "trap gate", eax, IF
    and ebx, IF
    expect_eq "iret brings the flag back", ebx, IF

    ; its segment
    mov dword [sum], 0
    flat_sel0
    set_idt_gate VEC, SEL0, .third, INT_GATE
    both
    expect_eq "another selector", eax, SEL0
    expect_eq "in the handler too", [seen_cs], SEL0
    expect_eq "third handler", [sum], ROUNDS
    test byte [gdt + SEL0 + 5], 1
    setnz al
    movzx eax, al
    expect_eq "accessed", eax, 1
    and byte [gdt + SEL0 + 5], ~1
    int VEC
    movzx eax, byte [gdt + SEL0 + 5]
    and eax, 1
    expect_eq "accessed again by int", eax, 1
    and byte [gdt + SEL0 + 5], ~1
    both
    movzx eax, byte [gdt + SEL0 + 5]
    and eax, 1
    expect_eq "accessed again", eax, 1

    set_descriptor SEL0, 0, 0xfffff, CODE_RX ^ NOT_PRESENT, BIG | PAGES
    refused "not present", NP, SEL0
    flat_sel0
    both
    set_descriptor SEL0, 0, 0xfffff, DATA_RW, BIG | PAGES
    refused "data", GP, SEL0
    flat_sel0
    both
    set_descriptor SEL0, 0, 0xfff, CODE_RX, BIG
    refused "limit of the segment", GP, 0
    flat_sel0
    both
    set_descriptor SEL0, 0, 0xfffff, CODE_RX | DPL3, BIG | PAGES
    refused "outer ring", GP, SEL0
    flat_sel0
    both

    ; the limits of the tables
    lgdt [.short_gdt]
    expect_fault "limit of the gdt", GP, SEL0, int VEC
    lgdt [.whole_gdt]
    both
    lidt [.short_idt]
    expect_fault "limit of the idt", GP, VEC * 8 + 2, int VEC
    lidt [.whole_idt]
    both

    ; a base
    set_descriptor SEL0, 0x1000, 0xfffff, CODE_RX, BIG | PAGES
    mov ecx, ROUNDS
.based:
    returns SEL0, .there - 0x1000
.there:
    jmp KCS:.back
.back:
    dec ecx
    jnz .based
    flat_sel0
    both

    ; frames across the end of a page, and exceptions with error codes
    mov ebp, esp
    mov dword [sum], 0
    mov esp, SCRATCH + 0x1004
    several int VEC
    mov esp, ebp
    expect_eq "across the end of a page", [sum], ROUNDS
    mov edi, ROUNDS
.errors:
    mov eax, SEL9 | 3
    expect_fault "error code", GP, SEL9, mov ds, eax
    dec edi
    jnz .errors
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    mov edi, ROUNDS
.frames:
    mov esp, FREE_FRAMES + 0x800
    set_pte FREE_FRAMES, FREE_FRAMES + 0x1000 | P | W
    invlpg [FREE_FRAMES]
    int VEC
    set_pte FREE_FRAMES, FREE_FRAMES | P | W
    invlpg [FREE_FRAMES]
    int OTHER
    dec edi
    jnz .frames
    mov esp, ebp
    expect_eq "frame", [FREE_FRAMES + 0x17f8], KCS
    finish

.first:
    inc dword [sum]
    iretd
.second:
    add dword [sum], 0x100
    pushfd
    pop dword [seen_flags]
    iretd
.third:
    inc dword [sum]
    mov [seen_cs], cs
    iretd

align 4
    dw 0
.short_gdt: dw SEL0 - 1
    dd gdt
    dw 0
.whole_gdt: dw GDT_ENTRIES * 8 - 1
    dd gdt
    dw 0
.short_idt: dw VEC * 8 - 1
    dd idt
    dw 0
.whole_idt: dw 0x7ff
    dd idt

section .data
align 4
sum:        dd 0
seen_flags: dd 0
seen_cs:    dd 0
