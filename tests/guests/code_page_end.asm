; Code at the end of a page: instructions across two pages in unrelated frames, each page changed or
; remapped, the second one absent or forbidden, a branch at the last byte, running on into the next.
;
; expect: exit 33
; deviates: bochs "other frame", "second page absent", "second page absent: cr2", "second page supervisor's",
;   "second page supervisor's: cr2": INVLPG ends the use of a translation (SDM volume 3, 4.10.4.1); Bochs keeps
;   an instruction that lies across two pages by the first one's address.
%include "include/guest.inc"

FIRST equ 0x800000                      ; frame FREE_FRAMES + 0x3000
SECOND equ 0x801000                     ; frame FREE_FRAMES, or + 0x1000
EDGE equ SECOND

%macro second 1
    set_pte SECOND, %1
    invlpg [SECOND]
%endmacro

main:
    call paging_identity
    set_pte FIRST, (FREE_FRAMES + 0x3000) | P | W | U
    set_pte SECOND, FREE_FRAMES | P | W | U
    change_cr0 0, CR0_PG
    ; mov eax, imm32 with n bytes before the edge; ret
    mov ebp, 1
.split:
    mov edi, EDGE
    sub edi, ebp
    mov esi, edi
    mov byte [edi], 0xb8
    mov dword [edi + 1], 0x44332211
    mov byte [edi + 5], 0xc3
    xor eax, eax
    call esi
    expect_eq "across the edge", eax, 0x44332211
    ; a change on either side
    mov byte [edi + 4], 0x55
    call esi
    expect_eq "second part changed", eax, 0x55332211
    cmp ebp, 1
    je .other_frame
    mov byte [edi + 1], 0x66
    call esi
    expect_eq "first part changed", eax, 0x55332266
.other_frame:
    ; another frame behind the edge
    mov esi, FREE_FRAMES
    mov edi, FREE_FRAMES + 0x1000
    mov ecx, 16
    rep movsb
    mov ecx, 4
    sub ecx, ebp
    mov byte [FREE_FRAMES + 0x1000 + ecx], 0x77
    mov esi, EDGE
    sub esi, ebp
    mov ecx, 5
.turns:
    second (FREE_FRAMES + 0x1000) | P | W | U
    call esi
    shr eax, 24
    expect_eq "other frame", eax, 0x77
    second FREE_FRAMES | P | W | U
    call esi
    shr eax, 24
    expect_eq "first frame again", eax, 0x55
    dec ecx
    jnz .turns
    ; absent: the fault's address is the second page, EIP the instruction
    second 0
    try .absent
    jmp esi
.absent:
    expect_exception "second page absent", PF_, 0, esi
    expect_eq "second page absent: cr2", [exc_cr2], EDGE
    second FREE_FRAMES | P
    try .forbidden
    enter_ring 3, .enter
.enter:
    jmp esi
.forbidden:
    expect_exception "second page supervisor's", PF_, PFE_P | PFE_U, esi
    expect_eq "second page supervisor's: cr2", [exc_cr2], EDGE
    ; repaired by a handler
    second 0
    hook .give
    call esi
    hook 0
    shr eax, 24
    expect_eq "second page given", eax, 0x55
    inc ebp
    cmp ebp, 5
    jne .split

    ; running on: the block ends at the edge, the next page decides what comes
    mov dword [EDGE - 4], 0x43434343    ; inc ebx
    mov dword [FREE_FRAMES], 0x00c343
    mov dword [FREE_FRAMES + 0x1000], 0x00c34b
    mov esi, EDGE - 4
    xor ebx, ebx
    mov ecx, 10
.run:
    second FREE_FRAMES | P | W | U
    call esi
    second (FREE_FRAMES + 0x1000) | P | W | U
    call esi
    dec ecx
    jnz .run
    expect_eq "running on", ebx, 10 * (5 + 3)
    second 0
    xor ebx, ebx
    try .ran
    jmp esi
.ran:
    expect_exception "running into an absent page", PF_, 0, EDGE
    expect_eq "what ran before", ebx, 4

    ; branches at the very end: a short jump's two bytes split, a call whose return address is EDGE
    mov byte [EDGE - 1], 0xeb           ; jmp short: displacement in the second page
    mov dword [FREE_FRAMES], 0xc34bc302
    mov dword [FREE_FRAMES + 4], 0xc34343
    second FREE_FRAMES | P | W | U
    mov esi, EDGE - 1
    mov ebx, 10
    call esi                            ; to EDGE + 3: c3
    expect_eq "split jump to a ret", ebx, 10
    mov byte [EDGE], 3
    call esi                            ; to EDGE + 4: inc ebx twice
    expect_eq "split jump, changed", ebx, 12
    mov edi, EDGE - 5
    mov byte [edi], 0xe8                ; call .callee
    mov eax, .callee - EDGE
    mov [edi + 1], eax
    mov byte [FREE_FRAMES], 0x4b        ; dec ebx; c3
    mov byte [FREE_FRAMES + 1], 0xc3
    call edi
    expect_eq "call at the end", ebx, 13 + 2
    ; a conditional branch at the end, taken and not
    mov word [EDGE - 2], 0x0275         ; jnz EDGE + 2
    mov dword [FREE_FRAMES], 0xc343c34b ; dec ebx; ret; inc ebx; ret
    mov esi, EDGE - 2
    cmp eax, eax
    call esi
    expect_eq "branch at the end, not taken", ebx, 14
    test esp, esp
    call esi
    expect_eq "branch at the end, taken", ebx, 15
    change_cr0 CR0_PG, 0
    finish
.callee:
    add ebx, 4
    ret
.give:
    set_pte SECOND, FREE_FRAMES | P | W | U
    ret
