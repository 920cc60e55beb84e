; Accesses relative to EBP where nothing says what EBP is: a frame of the stack, of another stack, in
; pages that change, at page edges, at the ends of the address space, or no frame at all.
;
; expect: exit 33
%include "include/guest.inc"

STACK_PAGE equ 0x800000                 ; linear; the page above is FRAME_TWO's
FRAME_ONE equ 0xc00000
FRAME_TWO equ 0xc02000                  ; not behind the other
TOP equ STACK_PAGE + 0x1000
HEAP equ SCRATCH + 0x4000

%macro map_stack 1
    set_pte STACK_PAGE, %1
    invlpg [STACK_PAGE]
%endmacro

; A block that begins with EBP unknown: 5 + 4 * count in [ebp - 8] after count times.
%macro frame_loop 1
    mov dword [ebp - 4], %1
    mov dword [ebp - 8], 5
    jmp %%again
    align 16
%%again:
    mov eax, [ebp - 8]
    add eax, 4
    mov [ebp - 8], eax
    sub dword [ebp - 4], 1
    jnz %%again
%endmacro

main:
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    map_stack FRAME_ONE | P | W | U
    set_pte STACK_PAGE + 0x1000, FRAME_TWO | P | W | U
    invlpg [STACK_PAGE + 0x1000]

    ; on the stack
    mov ebp, esp
    sub esp, 64
    frame_loop 1000
    mov ebx, [ebp - 8]
    lea esp, [ebp]
    expect_eq "a frame on the stack", ebx, 4005

    ; far from the stack
    mov ebp, HEAP
    frame_loop 1000
    expect_eq "a frame that is none", [HEAP - 8], 4005
    ; in turns, so that nobody may move what the other one needs
    mov ecx, 100
    mov ebp, HEAP
    mov dword [HEAP - 8], 0
    mov dword [HEAP - 12], 0
.turns:
    push ecx
    add dword [ebp - 8], 1
    push dword [ebp - 8]
    add dword [ebp - 12], 2
    pop eax
    cmp eax, [ebp - 8]
    jne .turned
    pop ecx
    dec ecx
    jnz .turns
    push ecx
.turned:
    pop ecx
    expect_eq "stack and heap in turns", ecx, 0
    expect_eq "the heap's part", [HEAP - 12], 200

    ; a frame on another page of the stack, whose frame is elsewhere
    mov [saved_esp], esp
    mov esp, TOP + 0x40
    mov ebp, TOP - 0x20
    frame_loop 100
    push dword 0x1234
    mov eax, [ebp - 8]
    pop ebx
    add eax, [ebp - 4]
    mov esp, [saved_esp]
    expect_eq "on the page below", eax, 405
    expect_eq "the stack's own", ebx, 0x1234
    expect_eq "in its frame", [FRAME_ONE + 0x1000 - 0x28], 405
    expect_eq "and in the other one", [FRAME_TWO + 0x3c], 0x1234
    ; across the edge of both
    mov esp, TOP - 0x40
    mov ebp, TOP + 4
    frame_loop 100
    mov dword [ebp - 6], 0x44332211
    mov eax, [ebp - 6]
    mov ebx, [ebp - 8]
    mov esp, [saved_esp]
    expect_eq "across the edge", eax, 0x44332211
    expect_eq "across the edge, the lower half", [FRAME_ONE + 0xffc], 0x22110195
    expect_eq "read back", ebx, 0x22110195

    ; in a loop that runs through memory: as long as there are blanks
    mov edi, HEAP + 0x800
    mov ecx, 300
    mov al, ' '
    rep stosb
    mov byte [edi], '-'
    mov ebp, esp
    sub esp, 0x200
    mov byte [ebp - 0x160], 0
    mov eax, HEAP + 0x800
    jmp .blank
    align 16
.blank:
    mov cl, [eax]
    lea edx, [ecx - 9]
    cmp cl, ' '
    setne [ebp - 0x160]
    cmp dl, 4
    seta dl
    and dl, [ebp - 0x160]
    jnz .other
    test cl, cl
    je .other
    inc eax
    jmp .blank
.other:
    lea esp, [ebp]
    sub eax, HEAP + 0x800
    expect_eq "blanks", eax, 300
    movzx eax, byte [ebp - 0x160]
    expect_eq "the last one is none", eax, 1
    ; EBP and the frame change between accesses
    mov ebp, HEAP
    mov esi, HEAP + 0x100
    jmp .change
    align 16
.change:
    mov dword [ebp - 4], 1
    mov dword [ebp - 8], 2
    xchg ebp, esi
    mov dword [ebp - 4], 3
    mov dword [ebp - 8], 4
    add ebp, 0x100
    mov dword [ebp - 4], 5
    mov dword [ebp - 8], 6
    mov ebp, esp
    mov dword [ebp - 4], 7
    mov dword [ebp - 8], 8
    xchg esp, esi
    mov eax, [ebp - 4]
    shl eax, 4
    or eax, [ebp - 8]
    xchg esp, esi
    expect_eq "a copy of ESP that stays when ESP goes", eax, 0x78
    expect_eq "first EBP", [HEAP - 4], 1
    expect_eq "second EBP", [HEAP + 0x100 - 8], 4
    expect_eq "third EBP", [HEAP + 0x200 - 4], 5

    ; remapped between accesses, in one straight line
    mov dword [FRAME_ONE + 0x800], 0x1111
    mov dword [FRAME_TWO + 0x800], 0x2222
    mov ecx, 50
    xor eax, eax
    mov ebp, STACK_PAGE + 0x808
    mov esp, STACK_PAGE + 0xc00
.remap:
    mov dword [ebp - 4], 1
    add eax, [ebp - 8]
    mov dword [PAGE_TABLES + (STACK_PAGE >> 12) * 4], FRAME_TWO | P | W | U
    invlpg [STACK_PAGE]
    add eax, [ebp - 8]
    add [ebp - 4], eax
    mov dword [PAGE_TABLES + (STACK_PAGE >> 12) * 4], FRAME_ONE | P | W | U
    invlpg [STACK_PAGE]
    dec ecx
    jnz .remap
    mov esp, [saved_esp]
    expect_eq "both frames in turn", eax, 50 * 0x3333
    expect_eq "stored in the first", [FRAME_ONE + 0x804], 1

    ; write-protected while in use
    mov ebp, STACK_PAGE + 0x808
    mov esp, STACK_PAGE + 0xc00
    mov dword [ebp - 8], 9
    mov dword [ebp - 4], 9
    mov dword [PAGE_TABLES + (STACK_PAGE >> 12) * 4], FRAME_ONE | P | U
    invlpg [STACK_PAGE]
    mov eax, [ebp - 8]
    mov esp, [saved_esp]
    try .denied
.store:
    mov dword [ebp - 4], 10
    mov eax, [ebp - 8]
.denied:
    expect_exception "a store into a read-only frame", PF_, PFE_P | PFE_W, .store
    expect_eq "its address", [exc_cr2], STACK_PAGE + 0x804
    expect_eq "what was read before", eax, 9
    map_stack FRAME_ONE | P | W | U

    ; LEAVE where EBP is unknown
    mov [saved_esp], esp
    mov ebp, STACK_PAGE + 0x800
    mov dword [ebp], 0x5a5a
    mov dword [ebp - 4], 0x11
    mov esp, STACK_PAGE + 0x700
    jmp .leave
    align 16
.leave:
    mov eax, [ebp - 4]
    add [ebp - 4], eax
    leave
    mov ebx, esp
    mov esp, [saved_esp]
    expect_eq "LEAVE's EBP", ebp, 0x5a5a
    expect_eq "LEAVE's ESP", ebx, STACK_PAGE + 0x804

    ; at the ends of the address space: what lies below 0 is above everything
    mov dword [PAGE_DIRECTORY + 1023 * 4], SCRATCH + 0x10000 + (P | W | U)
    mov dword [SCRATCH + 0x10000 + 1023 * 4], FRAME_ONE | P | W | U
    mov dword [FRAME_ONE + 0xff8], 0x77
    mov dword [FRAME_ONE + 0xfe8], 0x99
    xor ebp, ebp
    jmp .wrap
    align 16
.wrap:
    mov eax, [ebp - 8]
    mov dword [ebp - 4], 0x88
    add eax, [ebp + 0x500]
    sub eax, [ebp + 0x500]
    expect_eq "below 0", eax, 0x77
    expect_eq "stored below 0", [FRAME_ONE + 0xffc], 0x88
    mov ebp, 0xfffffff0
    jmp .wrap_up
    align 16
.wrap_up:
    mov eax, [ebp + 8]
    mov ebx, [ebp + HEAP + 0x10]
    mov ecx, [ebp - 8]
    expect_eq "the last page", eax, 0x77
    expect_eq "beyond the end", ebx, [HEAP]
    expect_eq "the last page again", ecx, 0x99
    finish

section .data
align 4
saved_esp: dd 0
