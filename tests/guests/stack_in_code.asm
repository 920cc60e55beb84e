; The stack in a page that holds code: pushes beside running code, over code that ran, calls and
; interrupts on such a stack, RET into the stack, in ring 0 and ring 3.
;
; expect: exit 33
%include "include/guest.inc"

PAGE equ SCRATCH                        ; code at its start, the stack grows down from its end

main:
    mov esi, inside
    mov edi, PAGE
    mov ecx, inside_end - inside
    rep movsb
    ; code in the page with its stack in the page, 2000 rounds
    mov ebp, esp
    mov esp, PAGE + 0x1000
    mov ecx, 2000
    xor ebx, ebx
    mov edx, PAGE
    call edx
    mov esp, ebp
    expect_eq "code beside its stack", ebx, 2000 * 3
    ; exceptions with such a stack
    try .ud
    mov esp, PAGE + 0x1000
.fault:
    ud2
.ud:
    expect_exception "an exception's frame beside code", UD, 0, .fault
    expect_eq "the frame", [PAGE + 0xff4], .fault
    ; ring 3 there
    mov ecx, 100
    try .user
    xor ebx, ebx
    mov eax, PAGE + user - inside
    enter_ring 3, .start, PAGE + 0x1000
.start:
    jmp eax
.user:
    expect_exception "ring 3 beside its stack", SYS, 0, PAGE + user_end - inside
    expect_eq "ring 3 beside its stack: count", ebx, 100

    ; RET into code that was pushed: inc eax; ret, twice with other code
    xor eax, eax
    mov ecx, 100
.pushed:
    push dword .returned
    mov edi, esp
    sub esp, 8
    mov dword [esp], 0x90c34040         ; inc eax; inc eax; ret
    test ecx, 1
    jz .even
    mov dword [esp], 0x90c34090
.even:
    mov edx, esp
    mov esp, edi
    jmp edx
.returned:
    dec ecx
    jnz .pushed
    expect_eq "code on the stack", eax, 50 * 2 + 50
    ; trampolines at changing depths
    xor eax, eax
    mov ecx, 50
.depth:
    sub esp, 16
    mov dword [esp], 0x90909040
    mov dword [esp + 4], 0x900004c2     ; ret 4
    push ecx
    push dword .next
    lea edx, [esp + 8]
    jmp edx
.next:
    dec ecx
    jnz .depth
    expect_eq "trampolines", eax, 50
    mov esp, ebp
    finish

inside:
.round:
    push ecx
    push ebx
    call .add
    pop ecx                             ; what was EBX
    pop ecx
    loop .round
    ret
.add:
    add ebx, 3
    ret
user:
    push ebx
    inc dword [esp]
    pop ebx
    loop user
    int SYS
user_end:
inside_end:
