; Near calls and returns: direct, indirect through registers and memory, RET n, recursion, returns
; to other places than the call, and deep nesting.
;
; expect: exit 33
%include "include/guest.inc"

main:
    mov eax, 1
    call add_ten
    expect_eq "call", eax, 11
    mov ecx, add_ten
    call ecx
    expect_eq "call register", eax, 21
    mov dword [SCRATCH], add_ten
    mov ebx, SCRATCH - 8
    mov esi, 2
    call [ebx + esi * 4]
    expect_eq "call memory", eax, 31
    mov esi, esp
    push dword 5
    push dword 6
    call subtract
    expect_eq "ret n", eax, 1
    expect_eq "ret n releases", esp, esi

    ; the pushed address, and CALL through a register that is ESP-relative
    push dword add_ten
    mov eax, 0
    call [esp]
    expect_eq "call [esp] reads before it pushes", eax, 10
    pop ecx
    mov edi, esp
    call .here
.here:
    pop ecx
    expect_eq "pushed return address", ecx, .here
    mov dword [esp - 4], .after_jump
    sub esp, 4
    ret
    mov eax, 0
.after_jump:
    expect_eq "ret to where nothing called", eax, 10

    ; a table of targets
    xor ebx, ebx
    xor esi, esi
.dispatch:
    jmp [table + esi * 4]
.case0:
    add ebx, 1
    jmp .next
.case1:
    add ebx, 0x10
    jmp .next
.case2:
    add ebx, 0x100
.next:
    inc esi
    cmp esi, 12
    jne .dispatch
    expect_eq "jump table", ebx, 0x444

    mov eax, 20
    call fibonacci
    expect_eq "recursion", eax, 6765
    mov ecx, 3000
    xor eax, eax
    call deep
    expect_eq "deep nesting", eax, 3000
    expect_eq "balanced", esp, edi

    ; return addresses changed on the way
    call twist
    mov eax, 0xbad
    jmp .twisted
    mov eax, 0x900d
.twisted:
    expect_eq "changed return address", eax, 0x900d

    ; indirect target that changes at one call site
    mov ecx, 1000
    xor eax, eax
    mov ebx, add_one
    mov edx, add_two
.alternate:
    call ebx
    xchg ebx, edx
    loop .alternate
    expect_eq "alternating targets", eax, 1500
    ; a call and a return with 16-bit operand size: EIP is cut, two bytes move
    mov esi, low_code
    mov edi, 0x9000
    mov ecx, low_code_end - low_code
    rep movsb
    mov esi, esp
    xor ebx, ebx
    mov eax, 0x9000
    call eax
    expect_eq "o16 call and ret", ebx, 0x5501
    expect_eq "o16 call and ret: esp", esp, esi
    finish

; runs at 0x9000
low_code:
    o16 call .callee
    mov bl, 1
    ret
.callee:
    mov bh, 0x55
    o16 ret
low_code_end:

add_ten:
    add eax, 10
    ret
add_one:
    add eax, 1
    ret
add_two:
    add eax, 2
    ret
subtract:
    mov eax, [esp + 4]
    sub eax, [esp + 8]
    ret 8
fibonacci:
    cmp eax, 2
    jb .done
    push eax
    dec eax
    call fibonacci
    xchg eax, [esp]
    sub eax, 2
    call fibonacci
    pop ecx
    add eax, ecx
.done:
    ret
deep:
    inc eax
    dec ecx
    jz .done
    call deep
.done:
    ret
twist:
    add dword [esp], 7                  ; over mov eax, imm32 and a short jmp
    ret

section .data
align 4
table:
    dd main.case0, main.case1, main.case2, main.case2, main.case1, main.case0
    dd main.case0, main.case2, main.case1, main.case1, main.case0, main.case2
section .text
