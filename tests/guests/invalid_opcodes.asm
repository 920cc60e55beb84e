; #UD: undefined opcodes, register forms of memory-only instructions, LOCK where it may not stand;
; instructions that are too long are #GP.
;
; expect: exit 33
; deviates: qemu "lock*": LOCK is #UD before all but the read-modify-write
;   instructions that the manual lists, with a memory destination (SDM volume 2, LOCK); QEMU ignores
;   it before many others.
; deviates: qemu "8f /1", "c6 /1", "c7 /2": groups 1A and 11 have /0 alone (SDM volume 2, A.4); QEMU ignores the
;   field.
%include "include/guest.inc"

; undefined "name", bytes
%macro undefined 2+
    expect_fault %1, UD, 0, {db %2}
%endmacro

main:
    mov eax, SCRATCH
    mov ebx, SCRATCH
    undefined "ud2", 0x0f, 0x0b
    undefined "0f ff", 0x0f, 0xff, 0xc0
    undefined "0f b9", 0x0f, 0xb9, 0xc0
    undefined "0f 04", 0x0f, 0x04
    undefined "0f 0a", 0x0f, 0x0a
    undefined "0f 24", 0x0f, 0x24, 0xc0
    undefined "0f a6", 0x0f, 0xa6, 0xc0
    undefined "0f 36", 0x0f, 0x36, 0
    undefined "fe /2", 0xfe, 0xd0
    undefined "fe /7", 0xfe, 0xf8
    undefined "ff /7", 0xff, 0xf8
    undefined "8f /1", 0x8f, 0xc8
    undefined "c6 /1", 0xc6, 0xc8, 0
    undefined "c7 /2", 0xc7, 0xd0, 0, 0, 0, 0
    undefined "0f 00 /6", 0x0f, 0x00, 0xf0
    undefined "0f 00 /7", 0x0f, 0x00, 0xf8
    undefined "0f ba /0", 0x0f, 0xba, 0xc0, 0
    undefined "0f ba /3", 0x0f, 0xba, 0xd8, 0
    undefined "0f c7 /0", 0x0f, 0xc7, 0x00
    undefined "cmpxchg8b of a register", 0x0f, 0xc7, 0xc8
    undefined "lea of a register", 0x8d, 0xc0
    undefined "les of a register", 0xc4, 0xc0
    undefined "lds of a register", 0xc5, 0xc0
    undefined "lss of a register", 0x0f, 0xb2, 0xc0
    undefined "bound of a register", 0x62, 0xc0
    undefined "sgdt of a register", 0x0f, 0x01, 0xc0
    undefined "sidt of a register", 0x0f, 0x01, 0xcf
    undefined "lgdt of a register", 0x0f, 0x01, 0xd7
    undefined "lidt of a register", 0x0f, 0x01, 0xdf
    undefined "invlpg of a register", 0x0f, 0x01, 0xff
    undefined "jmp far of a register", 0xff, 0xe8
    undefined "call far of a register", 0xff, 0xd8
    undefined "mov to cs", 0x8e, 0xc8
    undefined "mov to sreg 6", 0x8e, 0xf0
    undefined "mov from sreg 7", 0x8c, 0xf8
    undefined "mov cr1", 0x0f, 0x20, 0xc8
    undefined "mov cr5", 0x0f, 0x20, 0xe8
    undefined "mov to cr7", 0x0f, 0x22, 0xf8
    undefined "movntps of a register", 0x0f, 0x2b, 0xc0
    undefined "fxsave of a register", 0x0f, 0xae, 0xc0
    undefined "movnti of a register", 0x0f, 0xc3, 0xc0
    undefined "d9 d1", 0xd9, 0xd1
    undefined "db e5", 0xdb, 0xe5
    undefined "df f8", 0xdf, 0xf8

    ; LOCK: only before a few read-modify-write instructions with a memory destination
    mov dword [SCRATCH], 5
    mov ecx, 1
    undefined "lock mov", 0xf0, 0x89, 0x08
    undefined "lock nop", 0xf0, 0x90
    undefined "lock add to a register", 0xf0, 0x01, 0xc8
    undefined "lock add from memory", 0xf0, 0x03, 0x08
    undefined "lock cmp", 0xf0, 0x39, 0x08
    undefined "lock cmp immediate", 0xf0, 0x83, 0x38, 5
    undefined "lock test", 0xf0, 0x85, 0x08
    undefined "lock bt", 0xf0, 0x0f, 0xa3, 0x08
    undefined "lock bt immediate", 0xf0, 0x0f, 0xba, 0x20, 1
    undefined "lock shl", 0xf0, 0xd1, 0x20
    undefined "lock push", 0xf0, 0x50
    undefined "lock jmp", 0xf0, 0xeb, 0x00
    undefined "lock movsb", 0xf0, 0xa4
    undefined "lock inc of a register", 0xf0, 0x40
    undefined "lock inc ff /0 of a register", 0xf0, 0xff, 0xc0
    undefined "lock not of a register", 0xf0, 0xf7, 0xd0
    undefined "lock mul", 0xf0, 0xf7, 0x20
    undefined "lock xchg of registers", 0xf0, 0x87, 0xc8
    undefined "lock xadd of registers", 0xf0, 0x0f, 0xc1, 0xc8
    undefined "lock cmpxchg of registers", 0xf0, 0x0f, 0xb1, 0xc8
    undefined "lock setc", 0xf0, 0x0f, 0x92, 0x00
    undefined "lock imul", 0xf0, 0x0f, 0xaf, 0x00
    undefined "lock shld", 0xf0, 0x0f, 0xa4, 0x08, 1
    undefined "lock fld", 0xf0, 0xd9, 0x00
    undefined "lock int", 0xf0, 0xcd, 0x80
    expect_eq "nothing was done", [SCRATCH], 5
    mov dword [SCRATCH], 5
    mov eax, SCRATCH
    mov ecx, 1
    lock add [eax], ecx
    lock sub dword [eax], 2
    lock or [eax], ecx
    lock and dword [eax], -1
    lock xor dword [eax], 0x10
    lock inc dword [eax]
    lock dec word [eax]
    lock neg dword [eax]
    lock not dword [eax]
    expect_eq "allowed ones", [SCRATCH], 0x14
    lock bts dword [eax], 31
    lock btr dword [eax], 2
    lock btc dword [eax], 4
    expect_eq "allowed bit ones", [SCRATCH], 0x80000000
    lock xadd [eax], ecx
    lock xchg [eax], ecx
    mov edx, SCRATCH
    xor eax, eax
    lock cmpxchg [edx], ecx
    clc
    lock adc dword [edx], 0
    lock sbb byte [edx], 0
    expect_eq "allowed exchanges", [SCRATCH], 0x80000000

    ; prefixes: as many as fit into 15 bytes; the sixteenth byte is #GP(0)
    expect_no_fault "14 prefixes", {db 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}
    expect_fault "15 prefixes", GP, 0, {db 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}
    expect_fault "an immediate beyond 15 bytes", GP, 0, {db 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0xb8, 1, 2, 3, 4}
    expect_no_fault "15 bytes with an immediate", {db 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0xb8, 1, 2, 3, 4}
    expect_eq "its value", eax, 0x04030201
    ; prefixes without meaning change nothing
    mov eax, 1
    db 0xf2
    inc eax
    db 0xf3, 0x2e
    inc eax
    db 0x67
    inc eax
    expect_eq "idle prefixes", eax, 4
    ; the last segment override counts
    set_descriptor SEL0, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    load_segment fs, SEL0
    mov dword [SCRATCH], 0x0badf00d
    xor ebx, ebx
    db 0x3e, 0x2e, 0x64
    mov eax, [ebx]
    expect_eq "last override", eax, 0x0badf00d
    ; #UD in ring 3 is #UD, privileged or not; LOCK comes before privilege
    expect_ring_fault 3, "ud2 in ring 3", UD, 0, ud2
    expect_ring_fault 3, "lock hlt in ring 3", UD, 0, {db 0xf0, 0xf4}
    expect_ring_fault 3, "lock cli in ring 3", UD, 0, {db 0xf0, 0xfa}
    finish
