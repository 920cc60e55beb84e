; Many blocks: thousands of generated functions called in rounds by direct and indirect calls, some
; changed between rounds; more code than a small code cache holds.
;
; expect: exit 33
%include "include/guest.inc"

; Function i at CODE + 64 * i: add eax, i; rol eax, 1; jmp to its second half; xor eax, i; ret.
CODE equ 0x500000
COUNT equ 8192
SIZE equ 64
TABLE equ 0x900000                      ; their addresses

main:
    xor ebx, ebx
    mov edi, CODE
.make:
    mov byte [edi], 0x05                ; add eax, imm32
    mov [edi + 1], ebx
    mov word [edi + 5], 0xc0d1          ; rol eax, 1
    mov word [edi + 7], 0x17eb          ; jmp short to + 32
    mov byte [edi + 32], 0x35           ; xor eax, imm32
    mov [edi + 33], ebx
    mov byte [edi + 37], 0xc3
    mov [TABLE + ebx * 4], edi
    add edi, SIZE
    inc ebx
    cmp ebx, COUNT
    jne .make

    ; three rounds in order, indirect
    xor eax, eax
    mov ebp, 3
.round:
    xor ebx, ebx
.call:
    call [TABLE + ebx * 4]
    inc ebx
    cmp ebx, COUNT
    jne .call
    dec ebp
    jnz .round
    mov esi, eax
    ; the same computed without calls
    xor eax, eax
    mov ebp, 3
.check_round:
    xor ebx, ebx
.check:
    add eax, ebx
    rol eax, 1
    xor eax, ebx
    inc ebx
    cmp ebx, COUNT
    jne .check
    dec ebp
    jnz .check_round
    expect_eq "in order", esi, eax

    ; scattered order, with some functions changed on the way
    xor eax, eax
    xor ebx, ebx
    mov ebp, 20000
.scattered:
    imul ebx, ebx, 1664525
    add ebx, 1013904223
    mov edx, ebx
    shr edx, 19                         ; 13 bits
    test ebp, 63
    jnz .unchanged
    mov ecx, edx
    shl ecx, 6
    mov [CODE + ecx + 1], ebp
.unchanged:
    call [TABLE + edx * 4]
    dec ebp
    jnz .scattered
    mov esi, eax
    ; again without calls, from the immediates as they were then: the changes are redone first
    xor ebx, ebx
.restore:
    mov eax, ebx
    shl eax, 6
    mov [CODE + eax + 1], ebx
    inc ebx
    cmp ebx, COUNT
    jne .restore
    xor eax, eax
    xor ebx, ebx
    mov ebp, 20000
.model:
    imul ebx, ebx, 1664525
    add ebx, 1013904223
    mov edx, ebx
    shr edx, 19
    mov ecx, edx
    shl ecx, 6
    test ebp, 63
    jnz .model_unchanged
    mov [CODE + ecx + 1], ebp
.model_unchanged:
    add eax, [CODE + ecx + 1]
    rol eax, 1
    xor eax, edx
    dec ebp
    jnz .model
    expect_eq "scattered and changed", esi, eax

    ; a chain of direct jumps through all of them: ret becomes jmp to the next
    mov edi, CODE
    mov ecx, COUNT - 1
.chain:
    mov byte [edi + 37], 0xe9
    mov dword [edi + 38], SIZE - 42
    add edi, SIZE
    loop .chain
    xor eax, eax
    mov edx, CODE
    mov ebp, 4
.through:
    call edx
    dec ebp
    jnz .through
    mov esi, eax
    xor eax, eax
    mov ebp, 4
.through_model:
    xor ebx, ebx
.through_next:
    mov ecx, ebx
    shl ecx, 6
    add eax, [CODE + ecx + 1]
    rol eax, 1
    xor eax, ebx
    inc ebx
    cmp ebx, COUNT
    jne .through_next
    dec ebp
    jnz .through_model
    expect_eq "one long chain", esi, eax
    finish
