; Loads of DS, ES, FS and GS in ring 3, from GDT and LDT, over and over, as DOS extenders and
; 16-bit systems do them: what is read, and descriptors, tables, limits and pages of tables that
; change meanwhile.
;
; expect: exit 33
%include "include/guest.inc"

ROUNDS equ 12
FIRST  equ SCRATCH
SECOND equ SCRATCH + 0x1000
LDT_A  equ SCRATCH + 0x8000             ; a page each
LDT_B  equ SCRATCH + 0x9000
IN_A   equ 7                            ; the first entry
NEXT   equ 15
FLAT   equ 23
INNER  equ 28                           ; DPL 0

; set_local table, index, base, limit, access, flags
%macro set_local 6
    mov dword [%1 + (%2) * 8], (((%3) & 0xffff) << 16) | ((%4) & 0xffff)
    mov dword [%1 + (%2) * 8 + 4], ((%3) & 0xff000000) | ((%6) << 20) | ((%4) & 0xf0000) | ((%5) << 8) | (((%3) >> 16) & 0xff)
%endmacro

; expect_sum "name", of one round
%macro expect_sum 2
    try %%done
    enter_ring 3, rounds
%%done:
    expect_exception %1, SYS, 0, rounds.end
    expect_eq %1, [sum], ROUNDS * (%2)
%endmacro

; set_table selector, base, limit: and loads it as LDT.
%macro set_table 3
    set_descriptor %1, %2, %3, LDT_TYPE, 0
    mov eax, %1
    lldt ax
%endmacro

main:
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    mov dword [FIRST], 0x01000000
    mov dword [FIRST + 4], 0x00100000
    mov dword [SECOND], 0x00010000
    mov dword [SECOND + 4], 0x00001000
    call fill_tables
    set_descriptor SEL2, FIRST, 0xfff, DATA_RW | DPL3, BIG
    set_table SEL0, LDT_A, 4 * 8 - 1
    expect_sum "from both tables", 0x04223000

    ; the program changes its own table
    set_local LDT_A, 0, SECOND, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    expect_sum "another base", 0x01055000
    set_local LDT_A, 0, FIRST, 7, DATA_RW | DPL3, BIG
    expect_sum "another class", 0x04223000
    try .changed
    enter_ring 3, change
.changed:
    expect_exception "changed in ring 3", SYS, 0, change.end
    expect_eq "of the old one", ebx, 0x01000000
    expect_eq "of the new one", ecx, 0x00010000
    call fill_tables

    ; another table, with the same selectors
    set_table SEL1, LDT_B, 4 * 8 - 1
    expect_sum "the other table", 0x01055000
    set_table SEL0, LDT_A, 4 * 8 - 1
    expect_sum "the first table again", 0x04223000

    ; the kernel changes the GDT
    set_descriptor SEL2, SECOND, 0xfff, DATA_RW | DPL3, BIG
    expect_sum "another base in the GDT", 0x03233000
    set_descriptor SEL2, FIRST, 0xfff, DATA_RW | DPL3, BIG
    expect_sum "and back", 0x04223000

    ; a table that the program cannot see, or nobody
    set_pte LDT_A, LDT_A | P | W
    invlpg [LDT_A]
    expect_sum "a table of the kernel's", 0x04223000
    set_pte LDT_A, 0
    invlpg [LDT_A]
    mov eax, IN_A
    expect_ring_page_fault 3, "an absent table", 0, LDT_A, mov fs, eax
    set_pte LDT_A, LDT_B | P | W | U
    invlpg [LDT_A]
    expect_sum "a table in another frame", 0x01055000
    set_pte LDT_A, LDT_A | P | W | U
    invlpg [LDT_A]
    expect_sum "the table is back", 0x04223000

    ; what one ring may load and another may not
    mov ebx, ROUNDS
.rings:
    mov eax, INNER
    mov es, eax
    mov ecx, [es:0]
    expect_eq "inner data in ring 0", ecx, 0x01000000
    load_segment es, KDS
    expect_ring_fault 3, "inner data in ring 3", GP, INNER, mov es, eax
    mov eax, INNER | 3
    expect_ring_fault 3, "inner data with an outer RPL", GP, INNER, mov es, eax
    mov eax, IN_A & ~3
    expect_ring_ok 3, "outer data with an inner RPL", mov es, eax
    expect_ring_ok 2, "outer data from ring 2", mov es, eax
    dec ebx
    jnz .rings

    ; what becomes unloadable
    mov eax, IN_A
    set_local LDT_A, 0, FIRST, 0xfffff, (DATA_RW | DPL3) ^ NOT_PRESENT, BIG | PAGES
    expect_ring_fault 3, "absent", NP, IN_A & ~3, mov ds, eax
    set_local LDT_A, 0, FIRST, 0xfffff, CODE_XO | DPL3, BIG | PAGES
    expect_ring_fault 3, "execute-only", GP, IN_A & ~3, mov ds, eax
    call fill_tables
    expect_sum "loadable again", 0x04223000
    set_table SEL0, LDT_A, 1 * 8 - 2
    mov eax, IN_A
    expect_ring_fault 3, "beyond the limit", GP, IN_A & ~3, mov ds, eax
    set_table SEL0, LDT_A, 1 * 8 - 1
    mov eax, IN_A
    expect_ring_ok 3, "at the limit", mov ds, eax
    xor eax, eax
    lldt ax
    mov eax, IN_A
    expect_ring_fault 3, "no table", GP, IN_A & ~3, mov gs, eax
    change_cr0 CR0_PG | CR0_WP, 0
    finish

fill_tables:
    set_local LDT_A, 0, FIRST, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_local LDT_A, 1, SECOND, 0xfff, DATA_RW | DPL3, BIG
    set_local LDT_A, 2, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_local LDT_A, 3, FIRST, 0xfff, DATA_RW, BIG
    set_local LDT_B, 0, SECOND, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_local LDT_B, 1, SECOND, 0xfff, DATA_RW | DPL3, BIG
    set_local LDT_B, 2, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_local LDT_B, 3, SECOND, 0xfff, DATA_RW, BIG
    ret

; In ring 3: ROUNDS times, with the sum of what was read.
rounds:
    mov dword [sum], 0
    mov edi, ROUNDS
    mov eax, IN_A
    mov edx, NEXT
    mov ebp, FLAT
.round:
    xor ecx, ecx
    mov ds, eax                         ; DS: flat, based, limited, null
    add ecx, [0]
    mov ds, edx
    add ecx, [0]
    add ecx, [4]
    push dword SEL2 | 3
    pop ds
    add ecx, [0]
    mov ds, ebp
    mov es, eax                         ; ES
    add ecx, [es:0]
    mov es, edx
    add ecx, [es:4]
    mov fs, eax                         ; FS and GS
    add ecx, [fs:4]
    mov gs, edx
    add ecx, [gs:4]
    mov fs, edx
    mov gs, eax
    add ecx, [fs:0]
    add ecx, [gs:0]
    add ecx, [gs:4]
    xor ebx, ebx
    mov es, ebx
    mov fs, ebx
    mov gs, ebx
    mov es, ebp
    add [es:sum], ecx
    dec edi
    jnz .round
    int SYS
.end:

; In ring 3: loads, changes the descriptor, and loads again, at the same place.
change:
    mov eax, IN_A
    mov edi, ROUNDS
.round:
    mov word [LDT_A + 2], FIRST & 0xffff
    mov byte [LDT_A + 4], FIRST >> 16 & 0xff
    mov fs, eax
    mov ebx, [fs:0]
    mov word [LDT_A + 2], SECOND & 0xffff
    mov byte [LDT_A + 4], SECOND >> 16 & 0xff
    mov fs, eax
    mov ecx, [fs:0]
    dec edi
    jnz .round
    int SYS
.end:

section .data
align 4
sum: dd 0
