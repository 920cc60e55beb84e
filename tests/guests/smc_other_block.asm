; Code that changes other code: a function, a branch target, code reached by a chain of direct and
; indirect jumps, many changes of one place, code generated from scratch, code freed and reused.
;
; expect: exit 33
%include "include/guest.inc"

CODE equ SCRATCH                        ; generated code

main:
    ; a function's immediate, between calls
    mov ecx, 200
    xor ebx, ebx
.patch:
    mov [victim + 1], ecx
    call victim
    add ebx, eax
    dec ecx
    jnz .patch
    expect_eq "patched function", ebx, 20100

    ; the same by an indirect call, and with two callers
    mov esi, victim
    mov dword [victim + 1], 1000
    call esi
    mov dword [victim + 1], 337
    mov ebx, eax
    call victim
    add ebx, eax
    expect_eq "indirect and direct", ebx, 1337

    ; a loop that another part of the program turns into something else while it is linked
    xor eax, eax
    mov ecx, 100
.linked:
    call changing
    cmp ecx, 50
    jne .keep
    mov byte [changing], 0x48           ; inc eax becomes dec eax
.keep:
    dec ecx
    jnz .linked
    expect_eq "changed in mid-loop", eax, 51 - 49

    ; a jump's displacement
    xor ebx, ebx
    mov ecx, 10
.jumps:
    mov byte [.jump + 1], 0
    test ecx, 1
    jz .go
    mov byte [.jump + 1], 1
.go:
.jump:
    jmp short .even
.even:
    inc ebx                             ; one byte: skipped by the odd ones
    dec ecx
    jnz .jumps
    expect_eq "jump displacement", ebx, 5

    ; code from scratch, again and again at the same place, each time another length
    mov ebp, 0
.generate:
    mov edi, CODE
    mov ecx, ebp
    inc ecx
    mov al, 0x40                        ; inc eax
    rep stosb
    mov al, 0xc3
    stosb
    xor eax, eax
    mov edx, CODE
    call edx
    lea ecx, [ebp + 1]
    cmp eax, ecx
    je .right
    expect_eq "generated code", eax, ecx
.right:
    inc ebp
    cmp ebp, 300
    jne .generate
    expect_eq "generated code ends", ebp, 300

    ; the last byte of a multi-byte instruction, by a byte store from far away
    mov dword [CODE], 0x000000b8 | 7 << 8
    mov word [CODE + 4], 0xc300
    mov ebx, CODE
    call ebx
    mov byte [CODE + 4], 0x12
    call ebx
    expect_eq "last byte", eax, 0x12000007
    ; stores next to code, in the same page and line, change nothing
    mov ecx, 1000
.beside:
    mov [CODE + 8], ecx
    call ebx
    add eax, ecx
    mov [CODE + 0x100], eax
    dec ecx
    jnz .beside
    expect_eq "stores beside code", eax, 0x12000008
    ; overlapping blocks: an entry in the middle of what another entry runs, both changed
    mov dword [CODE], 0x43434343        ; inc ebx four times
    mov byte [CODE + 4], 0xc3
    xor ebx, ebx
    mov esi, CODE
    call esi
    add esi, 2
    call esi
    expect_eq "overlapping blocks", ebx, 6
    mov byte [CODE + 3], 0x4b           ; the last one: dec ebx
    call esi
    sub esi, 2
    call esi
    expect_eq "overlapping blocks, changed", ebx, 8
    ; a changed callee on the way back: the return address's code is rewritten by the callee
    call rewrites_caller
.rewritten:
    mov eax, 1
    expect_eq "rewritten after the call", eax, 2
    ; by string instructions, movs from a template
    mov ecx, 20
    xor ebx, ebx
.template:
    mov esi, template_one
    test ecx, 1
    jz .copy
    mov esi, template_two
.copy:
    push ecx
    mov edi, CODE + 0x40
    mov ecx, 2
    rep movsd
    pop ecx
    mov edx, CODE + 0x40
    call edx
    dec ecx
    jnz .template
    expect_eq "templates", ebx, 10 * 3 + 10 * 50
    ; by FPU and SSE stores, and by a push
    change_cr4 0, CR4_OSFXSR
    fninit
    fild qword [template_two]
    fistp qword [CODE + 0x40]
    xor ebx, ebx
    call edx
    movups xmm0, [template_one]
    movlps [CODE + 0x40], xmm0
    call edx
    expect_eq "by x87 and SSE stores", ebx, 53
    mov ebp, esp
    lea esp, [edx + 8]
    push dword [template_two + 4]
    push dword [template_two]
    mov esp, ebp
    call edx
    expect_eq "by pushes", ebx, 103
    finish

align 16
victim:
    mov eax, 0
    ret
changing:
    inc eax
    ret
rewrites_caller:
    mov byte [main.rewritten + 1], 2
    ret
align 8
template_one:                           ; add ebx, 3
    add ebx, byte 3
    ret
    dd 0
align 8
template_two:
    add ebx, byte 50
    ret
    dd 0
align 8
