; Flags of comparisons that are read only after memory was accessed and operands were changed, that
; a fault pushes, and that cross an indirect jump.
;
; expect: exit 33
%include "include/guest.inc"

; The arithmetic flags into EAX. Keeps the others.
%macro flags_to_eax 0
    pushfd
    pop eax
    and eax, ARITHMETIC
%endmacro

main:
    mov dword [word_one], 5
    mov dword [word_two], 9
    mov ebp, word_one
    mov esi, word_two

    ; an operand is overwritten between the comparison and the reader
    mov eax, 1
    mov ebx, 2
    cmp eax, ebx
    mov ecx, [ebp]
    mov eax, 100
    mov edx, [esi]
    setl bl
    movzx ebx, bl
    expect_eq "left operand overwritten", ebx, 1
    expect_eq "left operand overwritten: first load", ecx, 5
    mov eax, 1
    mov ebx, 2
    cmp eax, ebx
    mov ebx, [ebp]
    mov ebx, -1
    mov [esi], edx
    setb cl
    movzx ecx, cl
    expect_eq "right operand overwritten by a load", ecx, 1

    ; by a part of the register, by a pop, by an exchange, by a result without operand
    mov eax, 0x100
    test eax, eax
    mov ecx, [ebp]
    mov ah, 0
    mov ecx, [esi]
    setz cl
    movzx ecx, cl
    expect_eq "a byte overwritten", ecx, 0
    push dword 0
    mov edx, 7
    test edx, edx
    mov ecx, [ebp]
    pop edx
    mov ecx, [esi]
    setz cl
    movzx ecx, cl
    expect_eq "overwritten by pop", ecx, 0
    mov eax, 0x80000000
    test eax, eax
    mov ecx, [ebp]
    cwde
    mov ecx, [esi]
    sets cl
    movzx ecx, cl
    expect_eq "overwritten by cwde", ecx, 1
    mov ecx, 3
    mov edi, buffer
    mov eax, 0
    cmp ecx, 3
    mov edx, [ebp]
    rep stosd
    mov edx, [esi]
    setz dl
    movzx edx, dl
    expect_eq "overwritten by rep stosd", edx, 1
    mov eax, 5
    mov ebx, 6
    cmp eax, ebx
    mov edx, [ebp]
    xchg eax, ebx
    mov edx, [esi]
    setg dl
    movzx edx, dl
    expect_eq "exchanged", edx, 0

    ; readers that change a part of the flags, and that add a carry
    mov eax, 1
    cmp eax, 2
    mov ecx, [ebp]
    mov edx, 0x7fffffff
    inc edx
    mov ecx, [esi]
    flags_to_eax
    expect_eq "inc keeps the carry", eax, 0x895
    mov eax, 1
    cmp eax, 2
    mov ecx, [ebp]
    adc ecx, [esi]
    expect_eq "adc with memory", ecx, 15
    mov eax, 1
    cmp eax, 2
    mov ecx, [ebp]
    sbb dword [esi], 0
    expect_eq "sbb to memory", [word_two], 8

    ; sizes
    mov eax, 0x1234
    cmp al, 0x34
    mov ecx, [ebp]
    setz dl
    cmp ah, 0x12
    mov ecx, [ebp]
    setz dh
    cmp ax, 0x1235
    mov ecx, [ebp]
    setb cl
    movzx ecx, cl
    movzx edx, dx
    expect_eq "bytes", edx, 0x101
    expect_eq "words", ecx, 1
    cmp esp, esp
    mov ecx, [ebp]
    setz cl
    movzx ecx, cl
    expect_eq "esp", ecx, 1

    ; a fault in between pushes them
    call paging_identity
    change_cr0 0, CR0_PG
    set_pte 0x800000, 0
    invlpg [0x800000]
    mov ebx, 0x800000
    mov eax, 3
    try .faulted
    cmp eax, 4
    mov ecx, [ebp]
.load:
    mov ecx, [ebx]
    jb .faulted
.faulted:
    expect_exception "fault", PF_, 0, .load
    mov eax, [exc_eflags]
    and eax, ARITHMETIC
    expect_eq "fault: flags", eax, 0x95
    ; and the instruction runs again with them
    hook map_it
    mov eax, 3
    cmp eax, 4
    mov ecx, [ebx]
    setb cl
    movzx ecx, cl
    hook 0
    expect_eq "after the fault", ecx, 1
    set_pte 0x800000, 0
    invlpg [0x800000]
    hook map_it
    mov ecx, 1
    mov eax, 3
    cmp eax, 3
    mov [ebx], ecx
    mov eax, 9
    setz cl
    movzx ecx, cl
    hook 0
    expect_eq "after a fault of a store", ecx, 1
    change_cr0 CR0_PG, 0
    ; a segment that cannot be loaded
    mov eax, 3
    mov edx, 0x1000
    try .no_segment
    cmp eax, 4
.segment:
    mov gs, edx
.no_segment:
    expect_exception "segment load", GP, 0x1000, .segment
    mov eax, [exc_eflags]
    and eax, ARITHMETIC
    expect_eq "segment load: flags", eax, 0x95

    ; through an indirect jump, more than once
    mov ecx, 20
    xor edx, edx
.again:
    mov eax, ecx
    and eax, 1
    cmp al, 1
    jmp [table + eax * 4]
.odd:
    setz bl
    movzx ebx, bl
    add edx, ebx
    jmp .next
.even:
    setc bl
    movzx ebx, bl
    shl ebx, 8
    add edx, ebx
.next:
    dec ecx
    jnz .again
    expect_eq "indirect jumps", edx, 0xa0a
    ; through a return
    mov ecx, 20
    xor edx, edx
.calls:
    mov eax, ecx
    call compare
    adc edx, 0
    dec ecx
    jnz .calls
    expect_eq "returns", edx, 9
    finish

compare:
    cmp eax, 10
    mov ebx, [ebp]
    ret

map_it:
    set_pte 0x800000, FREE_FRAMES | P | W
    ret

section .data
align 4
table: dd main.even, main.odd
word_one: dd 0
word_two: dd 0
buffer: dd 0, 0, 0
