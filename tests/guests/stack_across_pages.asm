; Stacks that lie across two pages whose frames are no neighbours: in loops, while one of the pages
; changes, more of them than anybody remembers, in two rings in turn, with code in them.
;
; expect: exit 33
%include "include/guest.inc"

STACK equ 0x800000                      ; linear: 128 pages, their frames in reverse order
FRAMES equ 0xc00000
STACK_PAGES equ 128
OTHER_FRAME equ 0xd00000
MANY equ 40

%define edge(page) (STACK + (page) * 0x1000 + 0x1000)  ; between a page and the next one
%define frame(page) (FRAMES + (STACK_PAGES - 1 - (page)) * 0x1000)
%define entry(page) (PAGE_TABLES + ((STACK >> 12) + (page)) * 4)

main:
    call paging_identity
    mov edi, entry(0)
    mov eax, frame(0) | P | W | U
.map:
    mov [edi], eax
    add edi, 4
    sub eax, 0x1000
    cmp edi, entry(STACK_PAGES)
    jb .map
    change_cr0 0, CR0_PG | CR0_WP
    mov [saved_esp], esp

    mov esp, edge(0) + 8
    mov ecx, 1000
    xor ebx, ebx
.sum:
    push ecx
    push ecx
    push ecx
    push ecx
    add ebx, [esp]
    pop eax
    add ebx, [esp + 4]
    pop eax
    add ebx, [esp + 4]
    sub ebx, eax
    add esp, 8
    dec ecx
    jnz .sum
    mov eax, esp
    mov esp, [saved_esp]
    expect_eq "a loop across an edge", ebx, 1001000
    expect_eq "its ESP", eax, edge(0) + 8
    expect_eq "above the edge", [frame(1)], 1
    expect_eq "below it", [frame(0) + 0xffc], 1

    ; accesses that cross it
    mov esp, edge(0) + 6
    mov ecx, 100
    xor ebx, ebx
.crossing:
    push ecx
    push dword 0x44332211
    add ebx, [esp]
    add word [esp + 1], 1
    pop eax
    pop edx
    dec ecx
    jnz .crossing
    mov esp, [saved_esp]
    expect_eq "crossing, the sum", ebx, 0x44332211 * 100 & 0xffffffff
    expect_eq "crossing, changed", eax, 0x44332311
    expect_eq "crossing, the upper half", [frame(1)], 0x00014433
    mov eax, [frame(0) + 0xffc]
    shr eax, 16
    expect_eq "crossing, the lower half", eax, 0x2311

    ; the upper page is mapped elsewhere meanwhile
    mov esp, edge(0) - 4
    mov dword [frame(1) + 4], 0x1111
    mov dword [OTHER_FRAME + 4], 0x2222
    mov ecx, 50
    xor eax, eax
.remap:
    push ecx
    add eax, [esp + 12]
    mov dword [entry(1)], OTHER_FRAME | P | W | U
    invlpg [edge(0)]
    add eax, [esp + 12]
    mov dword [entry(1)], frame(1) | P | W | U
    invlpg [edge(0)]
    pop edx
    dec ecx
    jnz .remap
    mov esp, [saved_esp]
    expect_eq "both frames in turn", eax, 50 * 0x3333

    ; or write-protected
    mov esp, edge(0) - 4
    mov ecx, 20
.warm:
    push ecx
    mov [esp + 12], ecx
    pop edx
    dec ecx
    jnz .warm
    mov esp, [saved_esp]
    mov dword [entry(1)], frame(1) | P | U
    invlpg [edge(0)]
    try .denied
    mov esp, edge(0) - 4
    push edx
.store:
    mov dword [esp + 12], 10
.denied:
    expect_exception "a store into what is read-only", PF_, PFE_P | PFE_W, .store
    expect_eq "its address", [exc_cr2], edge(0) + 4
    expect_eq "stored before", [frame(1) + 4], 1
    mov dword [entry(1)], frame(1) | P | W | U
    invlpg [edge(0)]

    ; many of them
    mov ecx, 6
.rounds:
    call use_many
    dec ecx
    jnz .rounds
    expect_eq "many stacks", [wrong], 0

    ; a stack of ring 3's, and many of ring 0's meanwhile
    hook system_call
    enter_ring 3, user, edge(100) + 8
after_exit:
    hook 0
    mov esp, [saved_esp]
    expect_eq "ring 3's stack stays", [user_wrong], 0
    expect_eq "ring 3's rounds", [user_rounds], 20
    expect_eq "ring 0's stacks meanwhile", [wrong], 0

    ; code in it
    mov ecx, 20
    xor ebx, ebx
.code:
    mov esp, edge(110) + 8
    mov eax, ecx
    shl eax, 8
    mov al, 0xb8                        ; mov eax, ECX; ret
    push dword 0x9090c300
    push eax
    push dword 0x55
    push dword 0x66
    mov eax, edge(110)
    call eax
    add ebx, eax
    pop eax
    pop edx
    add eax, edx
    cmp eax, 0xbb
    jne .code_done
    dec ecx
    jnz .code
.code_done:
    mov esp, [saved_esp]
    expect_eq "code in such a stack", ebx, 210
    expect_eq "all of it", ecx, 0
    finish

; Pushes across each second edge of the first ones, a few times in a row, and looks at what is
; there.
use_many:
    pushad
    mov [callers_esp], esp
    xor esi, esi
.next:
    mov edi, esi
    shl edi, 13
    add edi, edge(0)
    mov ecx, 5
.again:
    lea esp, [edi + 8]
    inc dword [stamp]
    mov eax, [stamp]
    push eax
    push eax
    push eax
    push eax
    pop edx
    cmp [edi - 4], eax
    jne .bad
    cmp [edi], eax
    jne .bad
    cmp edx, eax
    je .good
.bad:
    inc dword [wrong]
.good:
    dec ecx
    jnz .again
    inc esi
    cmp esi, MANY
    jne .next
    mov esp, [callers_esp]
    popad
    ret

; EAX 1: uses many stacks. EAX 2: leave.
system_call:
    cmp dword [ebp + FRAME_EAX], 2
    je .leave
    call use_many
    ret
.leave:
    mov esp, KERNEL_STACK
    jmp after_exit

user:
    mov ecx, 20
.again:
    push ecx
    mov edx, 10
.warm:
    push edx
    push edx
    pop ebx
    pop ebx
    dec edx
    jnz .warm
    push dword 0x1111
    push dword 0x2222
    push dword 0x3333
    mov eax, 1
    int SYS
    pop eax
    pop ebx
    pop edx
    pop ecx
    cmp eax, 0x3333
    jne .bad
    cmp ebx, 0x2222
    jne .bad
    cmp edx, 0x1111
    je .good
.bad:
    inc dword [user_wrong]
.good:
    inc dword [user_rounds]
    cmp dword [user_rounds], 20
    jae .end
    dec ecx
    jnz .again
.end:
    mov eax, 2
    int SYS

section .data
align 4
saved_esp: dd 0
callers_esp: dd 0
stamp: dd 0
wrong: dd 0
user_wrong: dd 0
user_rounds: dd 0
