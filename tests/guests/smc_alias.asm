; Code changed through another mapping: a second linear page of the same frame, a page table
; that makes a writable alias afterwards, a copy that is mapped in, user code changed by the kernel.
;
; expect: exit 33
%include "include/guest.inc"

CODE equ 0x800000                       ; frame FREE_FRAMES; both linear pages
ALIAS equ 0x900000
USER_CODE equ 0xa00000

main:
    call paging_identity
    set_pte CODE, FREE_FRAMES | P | W | U
    set_pte ALIAS, FREE_FRAMES | P | W
    change_cr0 0, CR0_PG
    ; mov eax, imm32; ret
    mov dword [ALIAS], 0x000000b8
    mov dword [ALIAS + 4], 0x0000c300
    mov ecx, 100
    xor ebx, ebx
    mov esi, CODE
.loop:
    mov [ALIAS + 1], ecx
    call esi
    add ebx, eax
    mov [FREE_FRAMES + 1], ebx          ; a third mapping: the identity
    call esi
    cmp eax, ebx
    jne .wrong
    dec ecx
    jnz .loop
.wrong:
    expect_eq "through aliases", ecx, 0
    expect_eq "through aliases: sum", ebx, 5050
    ; both mappings execute, one writes
    mov edi, ALIAS
    mov dword [CODE + 1], 7
    call edi
    expect_eq "executed by the alias", eax, 7
    ; read-only for code, an alias made after it ran
    mov dword [CODE + 1], 1
    call esi
    set_pte CODE, FREE_FRAMES | P | U
    invlpg [CODE]
    set_pte ALIAS + 0x1000, FREE_FRAMES | P | W
    call esi
    mov dword [ALIAS + 0x1001], 2
    call esi
    expect_eq "a late alias", eax, 2

    ; another frame is mapped where code ran, and back; nothing is written meanwhile
    mov dword [FREE_FRAMES + 0x1000], 0x000063b8
    mov dword [FREE_FRAMES + 0x1004], 0x0000c300
    mov ecx, 50
    xor ebx, ebx
.remap:
    set_pte CODE, (FREE_FRAMES + 0x1000) | P | U
    invlpg [CODE]
    call esi
    add ebx, eax
    set_pte CODE, FREE_FRAMES | P | U
    invlpg [CODE]
    call esi
    add ebx, eax
    dec ecx
    jnz .remap
    expect_eq "two frames in turn", ebx, 50 * (0x63 + 2)
    ; a frame that changed while it was not mapped
    set_pte CODE, (FREE_FRAMES + 0x1000) | P | U
    invlpg [CODE]
    mov byte [ALIAS + 1], 0x44
    set_pte CODE, FREE_FRAMES | P | U
    invlpg [CODE]
    call esi
    expect_eq "changed while unmapped", eax, 0x44

    ; user code that the kernel changes between runs, and user code that changes itself
    mov dword [USER_CODE], 0x000000b8
    mov dword [USER_CODE + 4], 0x0080cd00       ; mov eax, imm; int 0x80
    mov ecx, 20
    xor ebx, ebx
.user:
    mov [USER_CODE + 1], ecx
    try .back
    enter_ring 3, USER_CODE
.back:
    add ebx, eax
    dec ecx
    jnz .user
    expect_eq "user code changed by the kernel", ebx, 210
    mov esi, user_self
    mov edi, USER_CODE + 0x100
    mov ecx, user_self_end - user_self
    rep movsb
    try .self
    enter_ring 3, USER_CODE + 0x100
.self:
    expect_eq "user code changed by itself", eax, 0x99

    ; code that writes into its own page all the time: data and code mixed
    mov esi, mixed
    mov edi, USER_CODE + 0x200
    mov ecx, mixed_end - mixed
    rep movsb
    mov ecx, 5000
    mov edx, USER_CODE + 0x200
    call edx
    expect_eq "code and hot data in one page", eax, 5000
    change_cr0 CR0_PG, 0
    finish

; position-independent
user_self:
    call .here
.here:
    pop edx
    mov byte [edx + .imm - .here + 1], 0x99
.imm:
    mov eax, 0
    int SYS
user_self_end:
mixed:
    call .here
.here:
    pop edx
    mov dword [edx + .data - .here], 0
.loop:
    inc dword [edx + .data - .here]
    loop .loop
    mov eax, [edx + .data - .here]
    ret
    align 4, db 0
.data: dd 0
mixed_end:
