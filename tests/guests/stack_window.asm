; The stack while its page changes under it: remapped, write-protected, switched between pages and
; rings inside straight-line code, at page edges, at the ends of the address space.
;
; expect: exit 33
%include "include/guest.inc"

STACK_PAGE equ 0x800000                 ; linear
FRAME_ONE equ 0xc00000
FRAME_TWO equ 0xc01000
TOP equ STACK_PAGE + 0x1000

%macro map_stack 1
    set_pte STACK_PAGE, %1
    invlpg [STACK_PAGE]
%endmacro

main:
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    mov ebp, esp
    map_stack FRAME_ONE | P | W | U

    ; remapped between a push and a pop, in one straight line
    mov dword [FRAME_ONE + 0xffc], 0
    mov dword [FRAME_TWO + 0xffc], 0x2222
    mov esp, TOP
    push dword 0x1111
    map_stack FRAME_TWO | P | W | U
    pop eax
    push dword 0x3333
    map_stack FRAME_ONE | P | W | U
    pop ebx
    mov esp, ebp
    expect_eq "pop sees the new frame", eax, 0x2222
    expect_eq "the old frame again", ebx, 0x1111
    expect_eq "the second push went to the new frame", [FRAME_TWO + 0xffc], 0x3333
    ; in a loop, by MOV CR3
    mov ecx, 100
    xor eax, eax
.loop:
    mov esp, TOP
    push ecx
    set_pte STACK_PAGE, FRAME_TWO | P | W | U
    mov edx, cr3
    mov cr3, edx
    add eax, [esp]
    push ecx
    pop ebx
    set_pte STACK_PAGE, FRAME_ONE | P | W | U
    mov cr3, edx
    add eax, [esp]
    dec ecx
    jnz .loop
    mov esp, ebp
    expect_eq "both frames in turn", eax, 5050 + 100 * 0x3333
    ; by INVLPG, and stores of constants, which are made carefully
    mov ecx, 100
    xor eax, eax
    mov dword [FRAME_TWO + 0xefc], 0x3333
.constants:
    mov esp, TOP - 0x100
    push ecx
    map_stack FRAME_TWO | P | W | U
    call .add_top
    map_stack FRAME_ONE | P | W | U
    call .add_top
    dec ecx
    jnz .constants
    mov esp, ebp
    expect_eq "both frames, by constants", eax, 5050 + 100 * 0x3333
    jmp .stacks
.add_top:
    add eax, [esp + 4]
    push edx
    pop edx
    ret
.stacks:

    ; two stacks in one straight line, and one far away
    mov esp, TOP
    push dword 1
    mov esi, esp
    mov esp, SCRATCH + 0x2000
    push dword 2
    mov edi, esp
    mov esp, esi
    push dword 3
    xchg esp, edi
    push dword 4
    pop eax
    pop ebx
    mov esp, edi
    pop ecx
    pop edx
    mov esp, ebp
    shl eax, 12
    shl ebx, 8
    shl ecx, 4
    or eax, ebx
    or eax, ecx
    or eax, edx
    expect_eq "two stacks", eax, 0x4231
    ; ESP by arithmetic over pages
    mov esp, SCRATCH + 0x8000
    push dword 0x77
    sub esp, 0x3000
    push dword 0x88
    mov eax, [esp + 0x3004]
    lea esp, [esp + 0x3004]
    pop ebx
    mov esp, ebp
    expect_eq "far [esp+d]", eax, 0x77
    expect_eq "far pop", ebx, 0x77

    ; at the page's edge: pushes run from one frame into an unrelated one
    set_pte STACK_PAGE + 0x1000, FRAME_TWO | P | W | U
    invlpg [STACK_PAGE + 0x1000]
    mov esp, TOP + 8
    push dword 1
    push dword 2
    push dword 3
    push dword 4
    mov esp, ebp
    expect_eq "above the edge", [FRAME_TWO], 2
    expect_eq "below the edge", [FRAME_ONE + 0xffc], 3
    mov esp, TOP + 2                    ; and across it
    push dword 0x44332211
    mov eax, [esp]
    add dword [esp], 1
    pop ebx
    mov esp, ebp
    expect_eq "across the edge", eax, 0x44332211
    expect_eq "across the edge, added", ebx, 0x44332212
    expect_eq "across the edge, first half", [FRAME_ONE + 0xffc], 0x22120003
    mov ecx, 50
    mov esp, TOP + 6
.edge:
    push ecx
    push ecx
    call .edge_call
    add esp, 8
    dec ecx
    jnz .edge
    mov eax, esp
    mov esp, ebp
    expect_eq "calls at the edge", eax, TOP + 6
    jmp .protect
.edge_call:
    ret

    ; write-protected while in use
.protect:
    map_stack FRAME_ONE | P | W | U
    try .protected
    enter_ring 3, .user, TOP
.user:
    push dword 0x6666
    mov eax, [esp]
    mov dword [PAGE_TABLES + (STACK_PAGE >> 12) * 4], FRAME_ONE | P | U
    int SYS
.protected:
    mov esp, ebp
    expect_eq "ring 3 pushed", eax, 0x6666
    invlpg [STACK_PAGE]
    try .denied
    enter_ring 3, .push, TOP
.push:
    pop ecx                             ; reading is fine; ESP leaves the page and comes back
    push ecx
    int SYS
.denied:
    expect_eq "pop beyond the top is in the next page", [exc_vector], SYS
    try .denied2
    enter_ring 3, .push2, TOP - 4
.push2:
    pop ecx
    push ecx
    int SYS
.denied2:
    expect_exception "push into a read-only page", PF_, PFE_P | PFE_W | PFE_U, .push2 + 1
    expect_eq "its esp", [exc_esp], TOP
    expect_eq "what was popped", ecx, 0x6666
    ; the same ESP in ring 0 and ring 3, in a page that is the supervisor's
    map_stack FRAME_ONE | P | W
    mov esp, TOP
    push dword 0x7777
    pop eax
    mov esp, ebp
    try .supervisor
    enter_ring 3, .push3, TOP
.push3:
    push eax
    int SYS
.supervisor:
    expect_exception "the supervisor's stack in ring 3", PF_, PFE_P | PFE_W | PFE_U, .push3

    ; the first and the last page of the address space
    mov dword [PAGE_DIRECTORY + 1023 * 4], SCRATCH + 0x10000 + (P | W | U)
    mov dword [SCRATCH + 0x10000 + 1023 * 4], FRAME_ONE | P | W | U
    mov esp, 0xfffffffc
    push dword 0x9999
    mov eax, [esp]
    pop ebx
    mov esp, 0
    push dword 0xaaaa
    mov ecx, [esp]
    mov edx, esp
    pop esi
    mov edi, esp
    mov esp, ebp
    expect_eq "last page", eax, 0x9999
    expect_eq "push at 0 wraps", ecx, 0xaaaa
    expect_eq "push at 0 wraps: esp", edx, 0xfffffffc
    expect_eq "pop wraps back", edi, 0
    expect_eq "it is the last dword", [FRAME_ONE + 0xffc], 0xaaaa
    mov esp, 8
    push dword 0xbbbb
    push dword 0xcccc
    pop eax
    pop ebx
    mov esp, ebp
    expect_eq "first page", [0], 0xcccc
    ; pushes of all kinds in one straight line across a page's start
    map_stack FRAME_ONE | P | W | U
    set_pte STACK_PAGE - 0x1000, SCRATCH + 0x8000 | P | W | U
    invlpg [STACK_PAGE - 0x1000]
    mov dword [FRAME_ONE - 4], 0x5a5a
    mov dword [FRAME_ONE - 8], 0x5a5a
    inc dword [STACK_PAGE + 0x100]
    mov esp, STACK_PAGE + 8
    push ds
    push es
    push fs
    push dword 0xdddd
    mov edi, esp
    pushfd
    popfd
    add esp, 4
    pop fs
    pop es
    pop ds
    mov edx, esp
    mov esp, ebp
    expect_eq "esp below the page", edi, STACK_PAGE - 8
    expect_eq "a push below the page", [SCRATCH + 0x8ff8], 0xdddd
    expect_eq "not in the frame below", [FRAME_ONE - 8], 0x5a5a
    expect_eq "nor the segment", [FRAME_ONE - 4], 0x5a5a
    expect_eq "all popped", edx, STACK_PAGE + 8
    ; [ebp]-relative and [esp]-relative names of one place
    mov esp, SCRATCH + 0x4000
    mov edi, SCRATCH + 0x4000 - 12
    push dword 1
    push dword 2
    push dword 3
    add dword [edi], 10
    add [esp], esp
    sub [edi], edi
    pop eax
    mov esp, ebp
    expect_eq "one place by two names", eax, 13
    change_cr0 CR0_PG | CR0_WP, 0
    finish
