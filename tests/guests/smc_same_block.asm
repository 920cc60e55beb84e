; Self-modifying code: a store changes the instruction right behind it, itself, one in the same
; straight line, and a loop's body; no jump in between.
;
; expect: exit 33
%include "include/guest.inc"

main:
    ; the next instruction's immediate
    xor eax, eax
    mov dword [.next + 1], 0x1111
.next:
    mov eax, 0
    expect_eq "next instruction", eax, 0x1111

    ; again at the same place, in a loop with a new value each time
    mov ecx, 100
    xor ebx, ebx
.loop:
    mov [.body + 2], ecx
    nop
.body:
    add ebx, 0x7fffffff
    dec ecx
    jnz .loop
    expect_eq "loop body", ebx, 5050

    ; an opcode becomes another one
    mov eax, 10
    mov byte [.opcode], 0x48            ; inc eax becomes dec eax
.opcode:
    inc eax
    expect_eq "opcode", eax, 9

    ; a longer instruction over two old ones, and a tail that is now data
    mov eax, 0
    mov dword [.longer], 0x030201b8
    mov byte [.longer + 4], 0x04
.longer:
    inc eax
    inc eax
    inc eax
    inc eax
    inc eax
    expect_eq "other boundaries", eax, 0x04030201

    ; a string store over the code that follows, right up to the next instruction
    mov edi, .filled
    mov ecx, 16
    mov al, 0x43                        ; inc ebx
    xor ebx, ebx
    rep stosb
.filled:
    times 16 nop
    expect_eq "filled by rep stosb", ebx, 16

    ; a push whose stack is the code right behind it
    mov ebp, esp
    mov esp, .pushed + 4
    push dword 0x43434343
.pushed:
    nop
    nop
    nop
    nop
    mov esp, ebp
    expect_eq "pushed code", ebx, 20

    ; a call pushes over the code that it calls
    xor ebx, ebx
    mov byte [.stack_code + 4], 0x43
    mov esp, .stack_code + 4
    jmp .do_call
.stack_code:
    dd 0
    inc eax
    ret
.do_call:
    call .stack_code + 4
    mov esp, ebp
    expect_eq "called beside its stack", ebx, 1

    ; a read-modify-write and an exchange as writers
    mov eax, 0x90
    xchg [.exchanged], al
.exchanged:
    inc ebx
    expect_eq "exchanged", ebx, 1
    add byte [.added], 8                ; inc ebx (43) becomes dec ebx (4b)
.added:
    inc ebx
    expect_eq "added", ebx, 0
    lock or byte [.ored], 0x08
.ored:
    inc ebx
    expect_eq "locked or", ebx, -1

    ; writing the bytes that are there already changes nothing
    mov eax, [.same]
    mov [.same], eax
.same:
    add ebx, 3
    nop
    expect_eq "same bytes", ebx, 2
    finish
