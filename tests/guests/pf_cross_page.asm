; Accesses across a page boundary: data put together from two unrelated frames; a fault on either
; page leaves memory and registers as they were; CR2 is the first byte of the page at fault.
;
; expect: exit 33
; deviates: qemu "add: *", "xchg: *", "lock inc: *", "not: *", "shl: *", "bts: *": a read-modify-write
;   asks for a write first (SDM volume 3, 4.7, W/R); QEMU reads first.
%include "include/guest.inc"

FIRST equ 0x800000                      ; linear; its frame is FREE_FRAMES + 0x5000
SECOND equ 0x801000                     ; its frame is FREE_FRAMES
EDGE equ SECOND

%macro map_pair 2                       ; flags of both
    set_pte FIRST, (FREE_FRAMES + 0x5000) | (%1)
    set_pte SECOND, FREE_FRAMES | (%2)
    invlpg [FIRST]
    invlpg [SECOND]
%endmacro
%macro edge_is 3                        ; "name", the last four bytes of the first, first of the second
    expect_eq %1, [FREE_FRAMES + 0x5ffc], %2
    expect_eq %1, [FREE_FRAMES], %3
%endmacro
%macro fill_edge 0
    mov dword [FREE_FRAMES + 0x5ffc], 0x44332211
    mov dword [FREE_FRAMES], 0x88776655
    mov dword [FREE_FRAMES + 4], 0xccbbaa99
%endmacro

; crosses "name", bytes before the edge, {store}: faults on the second page change nothing
%macro crosses 3+
    fill_edge
    mov ebx, EDGE - (%2)
    map_pair P | W | U, 0
    %strcat %%absent %1, ": second absent"
    expect_page_fault %%absent, PFE_W, EDGE, %3
    edge_is %%absent, 0x44332211, 0x88776655
    map_pair P | W | U, P | U
    %strcat %%ro %1, ": second read-only"
    expect_page_fault %%ro, PFE_P | PFE_W, EDGE, %3
    edge_is %%ro, 0x44332211, 0x88776655
    map_pair 0, P | W | U
    %strcat %%first %1, ": first absent"
    expect_page_fault %%first, PFE_W, EDGE - (%2), %3
    edge_is %%first, 0x44332211, 0x88776655
    map_pair P | W | U, P | W
    %strcat %%user %1, ": second supervisor's"
    expect_ring_page_fault 3, %%user, PFE_P | PFE_W | PFE_U, EDGE, %3
    edge_is %%user, 0x44332211, 0x88776655
    map_pair P | W | U, P | W | U
%endmacro
%macro crossing_read 3+
    fill_edge
    mov ebx, EDGE - (%2)
    map_pair P | W | U, 0
    %strcat %%absent %1, ": second absent"
    expect_page_fault %%absent, 0, EDGE, %3
    map_pair 0, P | W | U
    %strcat %%first %1, ": first absent"
    expect_page_fault %%first, 0, EDGE - (%2), %3
    map_pair P | W | U, P | W
    %strcat %%user %1, ": second supervisor's"
    expect_ring_page_fault 3, %%user, PFE_P | PFE_U, EDGE, %3
    map_pair P | W | U, P | W | U
    expect_no_fault %1, %3
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    mov eax, 0xdeadbeef
    crosses "dword store", 2, mov [ebx], eax
    mov [ebx], eax
    edge_is "dword store", 0xbeef2211, 0x8877dead
    crosses "word store", 1, mov [ebx], ax
    mov [ebx], ax
    edge_is "word store", 0xef332211, 0x887766be
    crosses "add", 3, add [ebx], eax
    add [ebx], eax
    edge_is "add", 0xf1f21111, 0x88776633
    crosses "xchg", 1, xchg [ebx], eax
    xchg [ebx], eax
    edge_is "xchg", 0xef332211, 0x88deadbe
    expect_eq "xchg", eax, 0x77665544
    mov eax, 0xdeadbeef
    crosses "lock inc", 2, lock inc dword [ebx]
    lock inc dword [ebx]
    edge_is "lock inc", 0x44342211, 0x88776655
    crosses "not", 3, not dword [ebx]
    crosses "shl", 3, shl dword [ebx], 4
    crosses "bts", 3, bts dword [ebx], 30
    crosses "pop", 2, {pop dword [ebx]}
    fld1
    crosses "fst double", 4, fst qword [ebx]
    fst qword [ebx]
    edge_is "fst double", 0, 0x3ff00000
    movups xmm0, [pattern]
    crosses "movups store", 2, movups [ebx], xmm0
    movups [ebx], xmm0
    edge_is "movups store", 0x01002211, 0x05040302
    crosses "movq store", 7, movq [ebx], xmm0
    crosses "movss store", 1, movss [ebx], xmm0
    movss [ebx], xmm0
    edge_is "movss store", 0x00332211, 0x88030201
    mov edi, EDGE - 2
    crosses "stosd", 2, stosd
    expect_eq "stosd: edi stays", edi, EDGE - 2
    stosd
    edge_is "stosd", 0xbeef2211, 0x8877dead

    crossing_read "dword load", 2, mov ecx, [ebx]
    expect_eq "dword load", ecx, 0x66554433
    crossing_read "word load", 1, movzx ecx, word [ebx]
    expect_eq "word load", ecx, 0x5544
    crossing_read "cmp", 1, cmp dword [ebx], 0
    crossing_read "fld extended", 6, fld tword [ebx]
    fninit
    crossing_read "movups load", 8, movups xmm1, [ebx]
    crossing_read "push", 3, push dword [ebx]
    expect_eq "push", [esp], 0x55443322
    mov esp, KERNEL_STACK

    ; far pointers: six bytes
    mov dword [FREE_FRAMES + 0x5ffc], 0x12345678
    mov word [FREE_FRAMES], KDS
    mov ebx, EDGE - 4
    map_pair P | W, 0
    mov ecx, 7
    expect_page_fault "lfs: second absent", 0, EDGE, lfs ecx, [ebx]
    expect_eq "lfs: second absent keeps its register", ecx, 7
    map_pair P | W, P | W
    lfs ecx, [ebx]
    expect_eq "lfs", ecx, 0x12345678

    ; the two pages in one frame, backwards, and an access within each
    set_pte FIRST, FREE_FRAMES | P | W
    set_pte SECOND, FREE_FRAMES | P | W
    invlpg [FIRST]
    invlpg [SECOND]
    mov dword [FREE_FRAMES + 0xffc], 0
    mov dword [FREE_FRAMES], 0
    mov dword [EDGE - 2], 0x11223344
    expect_eq "one frame twice: end", [FREE_FRAMES + 0xffc], 0x33440000
    expect_eq "one frame twice: begin", [FREE_FRAMES], 0x00001122
    ; many crossings in a loop, with the second page taken away in between
    map_pair P | W, P | W
    hook give_second
    mov dword [faults], 0
    mov ecx, 100
    xor eax, eax
    mov dword [EDGE - 1], 0
.loop:
    set_pte SECOND, 0
    invlpg [SECOND]
    add dword [EDGE - 1], 3
    dec ecx
    jnz .loop
    hook 0
    expect_eq "loop: faults", [faults], 100
    expect_eq "loop: sum", [EDGE - 1], 300
    change_cr0 CR0_PG | CR0_WP, 0
    finish

give_second:
    set_pte SECOND, FREE_FRAMES | P | W
    inc dword [faults]
    ret

section .data
align 4
faults: dd 0
pattern: db 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
