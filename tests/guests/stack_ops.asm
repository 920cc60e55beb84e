; PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER and LEAVE in both operand sizes, with ESP as operand
; and as address.
;
; expect: exit 33
%include "include/guest.inc"

main:
    mov edi, esp
    push esp
    pop eax
    expect_eq "push esp pushes the old value", eax, edi
    mov dword [esp - 4], 0x1234
    sub esp, 4
    mov [.esp], esp
    push dword [.esp]
    pop esp
    expect_eq "pop esp", esp, [.esp]
    add esp, 4
    push dword 0x11
    push dword 0x22
    pop dword [esp]                     ; the address uses the ESP after the pop
    pop eax
    expect_eq "pop [esp]", eax, 0x22
    push dword 0x33
    push dword 0x44
    push dword 0x55
    pop dword [esp + 4]
    pop eax
    pop ebx
    expect_eq "pop [esp+4] leaves the next", eax, 0x44
    expect_eq "pop [esp+4] stores above", ebx, 0x55
    push dword 0x66
    push dword [esp]
    pop eax
    pop ebx
    expect_eq "push [esp] reads before", eax, 0x66
    expect_eq "balanced", esp, edi

    push dword 0xaaaabbbb
    push word 0x1111
    pop ax
    expect_eq "16-bit push and pop", eax, 0x1111
    pop ax
    pop bx
    expect_eq "16-bit pops, low", eax, 0xbbbb
    expect_eq "16-bit pops, high", ebx, 0xaaaa
    push byte -2
    pop eax
    expect_eq "push of a byte sign-extends", eax, -2
    o16 push byte -2
    pop ax
    expect_eq "16-bit push of a byte", eax, 0xfffffffe
    mov eax, 0xffff0000
    mov ax, fs
    push fs
    pop ebx
    and ebx, 0xffff
    expect_eq "push fs", ebx, KDS

    mov eax, 1
    mov ecx, 2
    mov edx, 3
    mov ebx, 4
    mov ebp, 5
    mov esi, 6
    pushad
    mov eax, [esp]
    mov ebx, [esp + 12]
    mov ecx, [esp + 28]
    mov edx, [esp + 16]
    sub edi, ebx
    expect_eq "pushad stores the old esp", edi, 0
    expect_eq "pushad ebx", edx, 4
    expect_eq "pushad eax", ecx, 1
    mov dword [esp + 12], 0xdeadbeef    ; popad skips it
    popad
    expect_eq "popad esp", esp, edi
    expect_eq "popad eax", eax, 1
    expect_eq "popad esi", esi, 6
    pushaw
    mov eax, edi
    sub eax, esp
    expect_eq "pushaw takes 16 bytes", eax, 16
    popaw

    ; flags: which bits POPF can set in ring 0
    push dword 0xffffffff & ~(TF | VM | AC)
    popfd
    pushfd
    pop eax
    push dword 2
    popfd
    and eax, ARITHMETIC | IF | DF | IOPL | NT | RF | ID | 0x802a
    expect_eq "popfd in ring 0", eax, ARITHMETIC | IF | DF | IOPL | NT | ID | 2
    stc
    push dword 0
    popfw
    pop ax
    expect_flags "popfw", CF, 0
    push dword ID | 2
    popfd
    push word CF | 2
    popfw
    expect_flags "popfw keeps the upper half", ID | CF, ID | CF
    pushfw
    pop ax
    and eax, 0xffff
    expect_eq "pushfw", eax, CF | 2
    push dword 2
    popfd
    expect_eq "balanced after flags", esp, edi

    mov ebp, 0x5555
    enter 24, 0
    mov eax, edi
    sub eax, ebp
    expect_eq "enter 0: ebp", eax, 4
    sub edi, esp
    expect_eq "enter 0: esp", edi, 28
    lea edi, [ebp + 4]
    leave
    expect_eq "leave: ebp", ebp, 0x5555
    expect_eq "leave: esp", esp, edi
    ; nested: the display of two outer frames is copied
    push dword 0x1111
    push dword 0x2222
    push dword 0x3333
    lea ebp, [esp + 8]                  ; [ebp-4] and [ebp-8] hold the display
    mov esi, ebp
    enter 8, 3
    mov eax, [ebp]
    expect_eq "enter 3: old ebp", eax, esi
    expect_eq "enter 3: display 1", [ebp - 4], 0x2222
    expect_eq "enter 3: display 2", [ebp - 8], 0x3333
    expect_eq "enter 3: own frame", [ebp - 12], ebp
    sub ebp, esp
    expect_eq "enter 3: esp", ebp, 20
    mov esp, edi
    mov ebp, edi
    enter 0, 1
    expect_eq "enter 1: own frame", [ebp - 4], ebp
    leave
    expect_eq "leave after enter 1", esp, edi
    sub esp, 64
    mov edi, esp
    mov ebp, 0x00125678
    o16 enter 4, 0
    expect_eq "16-bit enter keeps the upper half of ebp", ebp, 0x120000 | ((KERNEL_STACK - 66) & 0xffff)
    and ebp, 0xffff
    or ebp, KERNEL_STACK - 1 & 0xffff0000
    o16 leave
    expect_eq "16-bit leave", esp, edi
    finish
.esp: dd 0
