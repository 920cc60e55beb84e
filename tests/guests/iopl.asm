; IOPL: CLI, STI, IN, OUT, POPF and IRET in all four rings at all four levels.
;
; expect: exit 33
%include "include/guest.inc"

; at ring, iopl: what is allowed
%macro at_level 2
    mov dword [user_eflags], 2 | (%2) << 12
    %if (%1) <= (%2)
    expect_ring_ok %1, "cli allowed", cli
    expect_ring_ok %1, "sti allowed", sti
    expect_eq "sti sets IF", [exc_eflags], 2 | (%2) << 12 | IF
    expect_ring_ok %1, "in allowed", in al, 0x80
    expect_ring_ok %1, "out allowed", out 0x80, al
    %else
    expect_ring_fault %1, "cli", GP, 0, cli
    expect_ring_fault %1, "sti", GP, 0, sti
    expect_ring_fault %1, "in byte", GP, 0, in al, 0x80
    expect_ring_fault %1, "in dword", GP, 0, in eax, 0x80
    expect_ring_fault %1, "out", GP, 0, out 0x80, al
    mov edi, SCRATCH
    mov esi, SCRATCH
    mov ecx, 1
    mov edx, 0x80
    expect_ring_fault %1, "insb", GP, 0, insb
    expect_ring_fault %1, "rep outsd", GP, 0, rep outsd
    expect_eq "rep outsd keeps ecx", ecx, 1
    expect_eq "rep outsd keeps esi", esi, SCRATCH
    mov ecx, 0
    expect_ring_fault %1, "rep outsb of zero is checked too", GP, 0, rep outsb
    %endif
    expect_ring_fault %1, "hlt whatever IOPL", GP, 0, hlt
    ; POPF: IF changes with CPL <= IOPL, IOPL never outside ring 0; no fault
    try %%popped
    enter_ring %1, %%code
%%code:
    push dword 2 | IF | (3 - (%2)) << 12 | CF
    popfd
    pushfd
    pop eax
    push dword 2 | 0 << 12
    popfd
    pushfd
    pop ebx
    ; IRET inside the ring has the same rule
    pushfd
    or dword [esp], IF | IOPL
    push cs
    push dword %%iret
    iretd
%%iret:
    pushfd
    pop ecx
    int SYS
%%popped:
    %if (%1) <= (%2)
    expect_eq "popf sets IF, keeps IOPL", eax, 2 | IF | (%2) << 12 | CF
    expect_eq "popf clears IF", ebx, 2 | (%2) << 12
    expect_eq "iret sets IF, keeps IOPL", ecx, 2 | IF | (%2) << 12
    %else
    expect_eq "popf keeps IF and IOPL", eax, 2 | (%2) << 12 | CF
    expect_eq "popf keeps IOPL", ebx, 2 | (%2) << 12
    expect_eq "iret keeps IF and IOPL", ecx, 2 | (%2) << 12
    %endif
%endmacro

main:
    at_level 1, 0
    at_level 1, 1
    at_level 1, 2
    at_level 1, 3
    at_level 2, 0
    at_level 2, 1
    at_level 2, 2
    at_level 2, 3
    at_level 3, 0
    at_level 3, 1
    at_level 3, 2
    at_level 3, 3
    mov dword [user_eflags], 2

    ; IF set on entry stays set when POPF may not clear it
    mov dword [user_eflags], 2 | IF
    try .kept
    enter_ring 3, .clear
.clear:
    push dword 2
    popfd
    pushfd
    pop eax
    int SYS
.kept:
    expect_eq "popf cannot clear IF", eax, 2 | IF
    mov dword [user_eflags], 2
    ; ring 0: everything, whatever IOPL
    push dword 2
    popfd
    sti
    expect_flags "sti in ring 0", IF, IF
    cli
    expect_flags "cli in ring 0", IF, 0
    push dword 2 | IOPL
    popfd
    expect_flags "popf sets IOPL in ring 0", IOPL, IOPL
    push dword 2
    push dword 2
    popfd
    expect_flags "popf clears IOPL in ring 0", IOPL, 0
    finish
