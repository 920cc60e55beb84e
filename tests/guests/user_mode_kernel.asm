; A small kernel with a ring 3 program: demand-zero pages, copy on write, a growing stack, system
; calls with buffers, FPU given lazily, and exceptions turned into the program's own handlers.
;
; expect: exit 33
; expect: output "hello from ring 3"
%include "include/guest.inc"

USER_BASE equ 0x800000                  ; 0x800000-0x83ffff: demand-zero; code is in the image
COW_PAGE equ 0x840000                   ; shared read-only until written
STACK_TOP equ 0x900000                  ; grows down to 0x8c0000
POOL equ 0xc00000                       ; free frames

main:
    fninit
    call paging_identity
    mov edi, PAGE_TABLES + (USER_BASE >> 12) * 4
    mov ecx, 256
    xor eax, eax
    rep stosd
    mov edi, POOL                       ; not zero before
    mov ecx, 0x100000 / 4
    mov eax, 0xcccccccc
    rep stosd
    mov dword [SCRATCH], 0x0c0ffee0     ; the page to be shared
    set_pte COW_PAGE, SCRATCH | P | U
    change_cr0 0, CR0_PG | CR0_WP | CR0_TS
    mov [kernel_esp], esp
    hook kernel
    mov dword [user_eflags], 2 | IF
    enter_ring 3, user_main, STACK_TOP
user_exit:
    hook 0
    change_cr0 CR0_TS, 0
    expect_eq "exit code", [exit_code], 0
    expect_eq "demand-zero pages", [zero_pages], 64
    expect_eq "copies", [copies], 1
    expect_eq "the shared frame", [SCRATCH], 0x0c0ffee0
    expect_eq "stack pages", [stack_pages], 32
    expect_eq "FPU switches", [fpu_switches], 1
    expect_eq "signals", [signals], 3
    change_cr0 CR0_PG | CR0_WP, 0
    finish

; EAX: a new zeroed frame.
new_frame:
    mov eax, [next_frame]
    add dword [next_frame], 0x1000
    push edi
    push ecx
    push eax
    mov edi, eax
    mov ecx, 1024
    xor eax, eax
    rep stosd
    pop eax
    pop ecx
    pop edi
    ret

kernel:
    mov eax, [exc_vector]
    cmp eax, PF_
    je .page_fault
    cmp eax, SYS
    je .call
    cmp eax, NM
    je .fpu
    test byte [ebp + FRAME_CS], 3
    jz stray_exception
    jmp .signal
.fpu:
    clts
    inc dword [fpu_switches]
    ret
.page_fault:
    mov ebx, [exc_cr2]
    mov edx, ebx
    shr edx, 12
    cmp ebx, STACK_TOP
    jae .signal_if_user
    cmp ebx, 0x8c0000
    jae .stack
    cmp ebx, USER_BASE
    jb .signal_if_user
    cmp ebx, USER_BASE + 0x40000
    jb .zero
    and ebx, ~0xfff
    cmp ebx, COW_PAGE
    je .copy
.signal_if_user:
    test byte [ebp + FRAME_CS], 3
    jz stray_exception
    jmp .signal
.stack:
    inc dword [stack_pages]
    jmp .give
.zero:
    inc dword [zero_pages]
.give:
    call new_frame
    or eax, P | W | U
    mov [PAGE_TABLES + edx * 4], eax
    ret
.copy:
    test byte [exc_error], PFE_W
    jz stray_exception
    inc dword [copies]
    call new_frame
    mov edi, eax
    mov esi, COW_PAGE
    mov ecx, 1024
    rep movsd
    or eax, P | W | U
    mov [PAGE_TABLES + edx * 4], eax
    invlpg [COW_PAGE]
    ret

; The program's handler is called in ring 3: the old EIP is pushed on its stack.
.signal:
    inc dword [signals]
    sub dword [ebp + FRAME_ESP], 4
    mov eax, [ebp + FRAME_ESP]
    mov ecx, [ebp + FRAME_EIP]
    mov [eax], ecx
    mov eax, [exc_vector]
    mov [ebp + FRAME_EAX], eax
    mov dword [ebp + FRAME_EIP], user_handler
    ret

; EAX 1: print EBX. 2: exit with EBX. 3: fill ECX bytes at EBX with DL, in ring 0.
.call:
    mov eax, [ebp + FRAME_EAX]
    mov ebx, [ebp + FRAME_EBX]
    cmp eax, 1
    je .print
    cmp eax, 3
    je .fill
    mov [exit_code], ebx
    mov esp, [kernel_esp]
    jmp user_exit
.print:
    push ebx
    call print_line
    ret
.fill:
    mov edi, ebx
    mov ecx, [ebp + FRAME_ECX]
    mov al, [ebp + FRAME_EDX]
    push ebp
    rep stosb                           ; page faults in ring 0, nested in the call
    pop ebp
    ret

; --- ring 3 ---
user_main:
    mov esi, hello                      ; into a demand-zero page, then printed
    mov edi, USER_BASE + 0x3ff8
    mov ecx, hello_end - hello
    rep movsb
    mov eax, 1
    mov ebx, USER_BASE + 0x3ff8
    int SYS
    mov eax, 3                          ; the kernel fills across fresh pages
    mov ebx, USER_BASE + 0x8800
    mov ecx, 0x3000
    mov dl, 0x7f
    int SYS
    mov ebx, 1
    cmp byte [USER_BASE + 0xb7ff], 0x7f
    jne .exit
    inc ebx
    cmp byte [USER_BASE + 0xb800], 0
    jne .exit
    ; all pages: they are zero where nothing was written
    mov esi, USER_BASE
    mov ecx, 64
.touch:
    add edx, [esi + 0x10]
    add esi, 4096
    loop .touch
    ; copy on write
    inc ebx
    cmp dword [COW_PAGE], 0x0c0ffee0
    jne .exit
    inc dword [COW_PAGE]
    inc ebx
    cmp dword [COW_PAGE], 0x0c0ffee1
    jne .exit
    ; a deep recursion on the growing stack
    mov ecx, 16384
    xor eax, eax
    call .recurse
    inc ebx
    cmp eax, 16384
    jne .exit
    ; the FPU, given on first use
    fld1
    fadd st0, st0
    push eax
    fistp dword [esp]
    pop eax
    inc ebx
    cmp eax, 2
    jne .exit
    ; exceptions come to user_handler, which skips the instruction
    xor edx, edx
    xor ecx, ecx
    mov edi, 0xf0000000
    div ecx                             ; two bytes, like the others
    ud2
    mov eax, [edi]
    inc ebx
    cmp edx, DE * 256 * 256 + UD * 256 + PF_
    jne .exit
    xor ebx, ebx
.exit:
    mov eax, 2
    int SYS
.recurse:
    dec ecx
    jz .bottom
    push eax
    call .recurse
    pop edx
.bottom:
    inc eax
    ret

; EAX: the vector. The stack: where it happened.
user_handler:
    shl edx, 8
    or edx, eax
    add dword [esp], 2
    ret

hello: db "hello from ring 3", 0
hello_end:

section .data
align 4
kernel_esp: dd 0
next_frame: dd POOL
exit_code: dd -1
zero_pages: dd 0
copies: dd 0
stack_pages: dd 0
fpu_switches: dd 0
signals: dd 0
