; SYSENTER and SYSEXIT: segments, ESP, EIP, flags, errors.
;
; expect: exit 33
; deviates: qemu "CS 3, a null selector": the RPL bits do not count (SDM volume 2, SYSENTER and
;   SYSEXIT); QEMU compares all of them with 0.
%include "include/guest.inc"

; write_msr number, value
%macro write_msr 2
    mov ecx, %1
    mov eax, %2
    xor edx, edx
    wrmsr
%endmacro

main:
    ; the order that SYSENTER and SYSEXIT want: ring 0 code and data, ring 3 code and data
    set_descriptor SEL0, 0, 0xfffff, CODE_RX, BIG | PAGES
    set_descriptor SEL1, 0, 0xfffff, DATA_RW, BIG | PAGES
    set_descriptor SEL2, 0, 0xfffff, CODE_RX | DPL3, BIG | PAGES
    set_descriptor SEL3, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    expect_ring_fault 3, "sysenter with CS 0", GP, 0, sysenter
    expect_fault "sysexit with CS 0", GP, 0, sysexit
    write_msr 0x174, SEL0
    write_msr 0x175, RING0_STACK - 0x800
    write_msr 0x176, entry

    mov dword [calls], 0
    mov dword [user_eflags], 2 | IF | CF
    try .done
    enter_ring 3, .user
.user:
    mov esi, 0
.again:
    mov ecx, esp
    mov edx, .returned
    mov eax, 0x55
    stc
    sysenter
.returned:
    inc esi
    cmp esi, 100
    jne .again
    int SYS
.done:
    expect_exception "back by int", SYS, 0, .done
    expect_eq "calls", [calls], 100
    expect_eq "sysexit: cs", [exc_cs], SEL2 | 3
    expect_eq "sysexit: ss", [exc_ss], SEL3 | 3
    expect_eq "sysexit: esp", [exc_esp], USER_STACK
    expect_eq "result", eax, 0x56
    expect_eq "sysenter: cs", [seen_cs], SEL0
    expect_eq "sysenter: ss", [seen_ss], SEL1
    expect_eq "sysenter: esp", [seen_esp], RING0_STACK - 0x800
    mov eax, [seen_flags]
    and eax, IF | CF
    expect_eq "sysenter clears IF, keeps CF", eax, CF

    ; flat segments whatever the descriptors say, and no accessed bits
    set_descriptor SEL0, 0x1000, 0, DATA_RO, 0
    mov dword [calls], 0
    mov dword [user_eflags], 2
    try .flat
    enter_ring 3, .user_once
.user_once:
    mov ecx, esp
    mov edx, .flat_returned
    sysenter
.flat_returned:
    int SYS
.flat:
    expect_exception "descriptors are not read", SYS, 0, .flat
    expect_eq "one call", [calls], 1
    set_descriptor SEL0, 0, 0xfffff, CODE_RX, BIG | PAGES

    ; SYSEXIT is for ring 0; SYSENTER works in ring 0 too
    mov edx, main
    mov ecx, USER_STACK
    expect_ring_fault 3, "sysexit in ring 3", GP, 0, sysexit
    expect_ring_fault 1, "sysexit in ring 1", GP, 0, sysexit
    write_msr 0x176, .from_ring0
    mov esi, esp
    sysenter
.from_ring0:
    mov eax, cs
    mov esp, esi
    expect_eq "sysenter in ring 0", eax, SEL0
    jmp KCS:.reset
.reset:
    mov eax, KDS
    mov ss, eax
    write_msr 0x174, 3
    skip_on_qemu "CS 3, a null selector", .end
    expect_fault "CS 3, a null selector: sysexit", GP, 0, sysexit
    expect_ring_fault 3, "CS 3, a null selector: sysenter", GP, 0, sysenter
.end:
    finish

entry:
    pushfd
    pop dword [seen_flags]
    mov eax, cs
    mov [seen_cs], eax
    mov eax, ss
    mov [seen_ss], eax
    mov [seen_esp], esp
    inc dword [calls]
    mov eax, 0x56
    push dword [seen_flags]
    popfd
    sysexit

section .data
align 4
calls: dd 0
seen_cs: dd 0
seen_ss: dd 0
seen_esp: dd 0
seen_flags: dd 0
