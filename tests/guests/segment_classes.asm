; Loads of DS and ES that go between flat, based, limited and null segments, over and over: what is
; read through them, flags and the stack pointer across them, and descriptors that change meanwhile.
;
; expect: exit 33
; deviates: qemu "beyond the limit", "null": QEMU checks no limits and no null selectors of data
;   accesses (SDM volume 3, 5.3 and 5.4.1).
%include "include/guest.inc"

ROUNDS equ 12
FIRST  equ SCRATCH
SECOND equ SCRATCH + 0x1000

main:
    mov dword [FIRST], 0x01000000
    mov dword [FIRST + 8], 0x00100000
    mov dword [SECOND], 0x00010000
    mov dword [SECOND + 4], 0x00001000
    set_descriptor SEL0, FIRST, 0xfffff, DATA_RW, BIG | PAGES
    set_descriptor SEL1, SECOND, 0xfff, DATA_RW, BIG
    call rounds
    expect_eq "sum", [sum], ROUNDS * 0x02111001
    expect_eq "esp", [lost], 0

    ; the same class, another place
    set_descriptor SEL0, SECOND, 0xfffff, DATA_RW, BIG | PAGES
    call rounds
    expect_eq "another base", [sum], ROUNDS * 0x00131001

    ; another class
    set_descriptor SEL0, FIRST, 0xf, DATA_RW, BIG
    call rounds
    expect_eq "limited", [sum], ROUNDS * 0x02111001
    load_segment es, SEL0
    expect_fault "beyond the limit", GP, 0, mov eax, [es:0x10]
    set_descriptor SEL0, 0, 0xfffff, DATA_RW, BIG | PAGES
    load_segment es, SEL0
    expect_no_fault "flat again", mov eax, [es:SCRATCH + 0x10]
    xor eax, eax
    mov es, eax
    expect_fault "null", GP, 0, mov eax, [es:SCRATCH]
    load_segment es, KDS

    ; what a load refuses leaves everything as it was
    set_descriptor SEL0, FIRST, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    mov eax, SEL0
    expect_fault "not present", NP, SEL0, mov es, eax
    mov ecx, es
    expect_eq "still there", ecx, KDS
    push dword SEL0
    mov esi, esp
    expect_fault "popped not present", NP, SEL0, pop es
    sub esi, esp
    expect_eq "not popped", esi, 0
    pop eax

    ; an interrupt that waits behind a load of SS and one of DS
    mov edx, KDS
    mov ecx, ROUNDS
.shadows:
    mov ss, edx
    mov es, edx
    xor eax, eax
    mov es, eax
    mov es, edx
    loop .shadows
    mov eax, es
    expect_eq "behind ss", eax, KDS
    finish

; ROUNDS times, with the sum of what was read.
rounds:
    mov dword [sum], 0
    mov dword [lost], 0
    mov edi, ROUNDS
.round:
    mov esi, esp
    xor ecx, ecx
    mov eax, SEL0
    mov edx, SEL1
    mov ebp, KDS
    mov ds, eax
    add ecx, [0]
    mov ds, edx
    add ecx, [0]
    push ebp
    stc
    pop ds
    adc ecx, [FIRST + 8]                ; and 1
    push edx
    pop es
    add ecx, [es:4]
    push word SEL0
    o16 pop es
    add ecx, [es:0]
    xor ebx, ebx
    mov es, ebx
    mov es, ebp
    add [es:sum], ecx
    sub esi, esp
    or [lost], esi
    dec edi
    jnz .round
    ret

section .data
align 4
sum:  dd 0
lost: dd 0
