; Page tables that are in use while they are written: by every kind of store, through aliases, by
; themselves; frames that become page tables and stop being ones; tables next to hot data.
;
; expect: exit 33
%include "include/guest.inc"

AREA equ 0x800000
%define PTE(x) (PAGE_TABLES + ((x) >> 12) * 4)
ONE equ FREE_FRAMES + 0x10000
TWO equ FREE_FRAMES + 0x11000

; seen "name", value: what is mapped at AREA, after INVLPG
%macro seen 2
    invlpg [AREA]
    mov eax, [AREA]
    expect_eq %1, eax, %2
%endmacro
%macro start_at_one 0
    mov dword [PTE(AREA)], ONE | P | W | U
    invlpg [AREA]
    mov eax, [AREA]
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    mov dword [ONE], 1
    mov dword [TWO], 2
    call paging_identity
    change_cr0 0, CR0_PG
    start_at_one
    mov dword [PTE(AREA)], TWO | P | W | U
    seen "mov", 2
    start_at_one
    mov word [PTE(AREA) + 1], (TWO >> 8) & 0xffff
    seen "mov of a word inside", 2
    start_at_one
    mov byte [PTE(AREA) + 1], (TWO >> 8) & 0xff
    seen "mov of a byte", 2
    start_at_one
    mov ecx, TWO | P | W | U
    mov [PTE(AREA)], ecx
    seen "mov of a register", 2
    start_at_one
    mov cx, (TWO >> 8) & 0xffff
    mov [PTE(AREA) + 1], cx
    seen "mov of a word register", 2
    start_at_one
    mov cl, (TWO >> 8) & 0xff
    mov [PTE(AREA) + 1], cl
    seen "mov of a low byte", 2
    start_at_one
    mov dh, (TWO >> 8) & 0xff
    mov [PTE(AREA) + 1], dh
    seen "mov of a high byte", 2
    start_at_one
    mov ebp, esp
    mov esp, TWO | P | W | U
    mov [PTE(AREA)], esp
    mov esp, ebp
    seen "mov of esp", 2
    start_at_one
    mov dword [PTE(AREA)], 0
    invlpg [AREA]
    expect_page_fault "mov of zero", 0, AREA, mov eax, [AREA]
    ; what a store takes away in the middle of straight code: the stack, with a push just made
    start_at_one
    mov dword [TWO + 0x7fc], 9
    mov ecx, TWO | P | W | U
    mov ebp, esp
    mov esp, AREA + 0x800
    push dword 7
    mov [PTE(AREA)], ecx
    invlpg [AREA]
    pop eax
    xchg esp, ebp
    expect_eq "the stack's page remapped", eax, 9
    expect_eq "esp after that", ebp, AREA + 0x800
    start_at_one
    add dword [PTE(AREA)], 0x1000
    seen "add", 2
    start_at_one
    xor dword [PTE(AREA)], ONE ^ TWO
    seen "xor", 2
    start_at_one
    bts dword [PTE(AREA)], 12
    seen "bts", 2
    start_at_one
    mov ecx, TWO | P | W | U
    xchg [PTE(AREA)], ecx
    seen "xchg", 2
    start_at_one
    mov ecx, TWO | P | W | U
    mov eax, [PTE(AREA)]
    lock cmpxchg [PTE(AREA)], ecx
    seen "cmpxchg", 2
    start_at_one
    mov eax, [PTE(AREA)]
    mov edx, [PTE(AREA) + 4]
    mov ebx, TWO | P | W | U
    mov ecx, edx
    lock cmpxchg8b [PTE(AREA)]
    seen "cmpxchg8b", 2
    start_at_one
    push dword TWO | P | W | U
    pop dword [PTE(AREA)]
    seen "pop", 2
    start_at_one
    mov ebp, esp
    mov esp, PTE(AREA) + 4
    push dword TWO | P | W | U
    mov esp, ebp
    seen "push", 2
    start_at_one
    mov edi, PTE(AREA)
    mov eax, TWO | P | W | U
    stosd
    seen "stosd", 2
    start_at_one
    mov dword [SCRATCH], TWO | P | W | U
    mov esi, SCRATCH
    mov edi, PTE(AREA)
    mov ecx, 4
    rep movsb
    seen "rep movsb", 2
    start_at_one
    fild dword [SCRATCH]
    fistp dword [PTE(AREA)]
    seen "fistp", 2
    start_at_one
    movss xmm0, [SCRATCH]
    movss [PTE(AREA)], xmm0
    seen "movss", 2
    mov ebx, AREA

    ; through an alias of the table, and through the page that it maps itself at
    set_pte AREA + 0x5000, (PAGE_TABLES + 0x2000) | P | W
    start_at_one
    mov dword [AREA + 0x5000], TWO | P | W | U
    seen "alias", 2
    start_at_one
    mov ecx, 100
.alias_loop:
    mov dword [AREA + 0x5000], TWO | P | W | U
    invlpg [AREA]
    add ebx, [AREA]
    mov dword [AREA + 0x5000], ONE | P | W | U
    invlpg [AREA]
    add ebx, [AREA]
    dec ecx
    jnz .alias_loop
    expect_eq "alias in a loop", ebx, AREA + 300
    ; the recursive slot of a directory: tables appear at 0xffc00000
    mov dword [PAGE_DIRECTORY + 1023 * 4], PAGE_DIRECTORY + (P | W)
    mov dword [0xffc00000 + (AREA >> 12) * 4], TWO | P | W | U
    seen "recursive slot", 2
    mov eax, [0xfffff000 + (AREA >> 22) * 4]
    and eax, ~0xfff
    expect_eq "the directory through itself", eax, PAGE_TABLES + 0x2000
    mov dword [0xffc00000 + (AREA >> 12) * 4], ONE | P | W | U
    seen "recursive slot again", 1
    ; a store through a page that it unmaps: it has been made, and is not made again
    set_pte AREA + 0x5000, (PAGE_TABLES + 0x2000) | P | W
    mov ecx, 0
    mov edx, 0
    mov [AREA + 0x5000 + (((AREA + 0x5000) >> 12) & 0x3ff) * 4], ecx
    inc edx
    invlpg [AREA + 0x5000]
    expect_eq "after the store that unmaps its page", edx, 1
    expect_page_fault "through the page that is gone", 0, AREA + 0x5000, mov eax, [AREA + 0x5000]

    ; a frame becomes a page table, is one for a while, becomes data, and a table again
    mov ebp, 30
.becomes:
    mov edi, FREE_FRAMES + 0x20000
    mov eax, TWO | P | W | U
    mov ecx, 1024
    rep stosd
    mov dword [PAGE_DIRECTORY + (AREA >> 22) * 4], (FREE_FRAMES + 0x20000) | P | W | U
    mov eax, cr3
    mov cr3, eax
    mov eax, [AREA + 0x123000]
    expect_eq "a fresh table", eax, 2
    mov dword [FREE_FRAMES + 0x20000 + 0x123 * 4], ONE | P | W | U
    invlpg [AREA + 0x123000]
    mov eax, [AREA + 0x123000]
    expect_eq "a fresh table, changed", eax, 1
    mov dword [PAGE_DIRECTORY + (AREA >> 22) * 4], PAGE_TABLES + 0x2000 + (P | W | U)
    mov eax, cr3
    mov cr3, eax
    seen "the old table", 1
    mov edi, FREE_FRAMES + 0x20000      ; plain data now: many writes
    mov ecx, 1024
    mov eax, 0x5a5a5a5a
    rep stosd
    dec ebp
    jnz .becomes

    ; hot data in the page of a table: its last entries are unused
    mov ecx, 10000
.hot:
    inc dword [PAGE_TABLES + 0x3ffc]
    mov eax, [AREA]
    add ebx, eax
    dec ecx
    jnz .hot
    and dword [PAGE_TABLES + 0x3ffc], 0
    expect_eq "hot data beside a table", ebx, AREA + 300 + 10000

    ; code in a page that is a table too
    mov dword [PAGE_TABLES + 0x3ff0], 0x90c34343        ; inc ebx; inc ebx; ret
    mov edx, PAGE_TABLES + 0x3ff0
    call edx
    mov dword [PTE(AREA)], TWO | P | W | U
    seen "table and code", 2
    mov dword [PAGE_TABLES + 0x3ff0], 0x90c34b43        ; inc ebx; dec ebx; ret
    call edx
    expect_eq "code in a table", ebx, AREA + 300 + 10000 + 2

    ; ring 3 that may write its own page table (a careless kernel)
    start_at_one
    mov ecx, TWO | P | W | U
    expect_ring_ok 3, "ring 3 writes the table", mov [PTE(AREA)], ecx
    seen "written by ring 3", 2
    ; a write that crosses into the table's page from the page before
    start_at_one
    mov dword [PAGE_TABLES + 0x2000 - 4], 0
    mov dword [PAGE_TABLES + 0x2000 - 2], ((TWO | P | W | U) & 0xffff) << 16
    seen "a write across the table's first byte", 2
    change_cr0 CR0_PG, 0
    finish
