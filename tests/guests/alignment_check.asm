; #AC: only in ring 3, with CR0.AM and EFLAGS.AC; by operand size; what is exempt; its error code.
;
; expect: exit 33
; deviates: qemu "unaligned*": #AC(0) (SDM volume 3, 6.15, "Interrupt 17"); QEMU checks no alignment.
; deviates: bochs "unaligned: movups at 4", "unaligned: movdqu store at 1": a processor may check these for 8 bytes or
;   leave it (volume 2, MOVUPS); Bochs leaves it.
; deviates: bochs "fnsave at 4": the area wants 4 bytes, whatever is in it (volume 3, table 6-7)
%include "include/guest.inc"

; unaligned "name", offset from SCRATCH, instruction with [ebx]
%macro unaligned 3+
    mov ebx, SCRATCH + %2
    %strcat %%name "unaligned: ", %1
    expect_ring_fault 3, %%name, AC_, 0, %3
%endmacro
%macro aligned 3+
    mov ebx, SCRATCH + %2
    expect_ring_ok 3, %1, %3
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    change_cr0 0, CR0_AM
    mov dword [user_eflags], 2 | AC
    unaligned "word", 1, mov ax, [ebx]
    aligned "word at 2", 2, mov ax, [ebx]
    unaligned "dword at 2", 2, mov eax, [ebx]
    unaligned "dword at 1", 1, mov eax, [ebx]
    unaligned "dword store", 3, mov [ebx], eax
    aligned "byte at 1", 1, mov al, [ebx]
    aligned "dword at 4", 4, mov eax, [ebx]
    unaligned "add to memory", 2, add [ebx], eax
    unaligned "push from memory", 2, push dword [ebx]
    unaligned "cmpxchg", 1, cmpxchg [ebx], eax
    unaligned "fld double at 4", 4, fld qword [ebx]
    aligned "fld double at 8", 8, fld qword [ebx]
    fninit
    unaligned "fld single at 2", 2, fld dword [ebx]
    unaligned "movsd at 4", 4, movsd xmm0, [ebx]
    unaligned "fild word at 1", 1, fild word [ebx]
    ; ten and sixteen bytes
    unaligned "fld extended at 4", 4, fld tword [ebx]
    unaligned "fld extended at 2", 2, fld tword [ebx]
    aligned "fld extended at 8", 8, fld tword [ebx]
    unaligned "fstp extended at 12", 12, fstp tword [ebx]
    aligned "fstp extended at 8", 8, fstp tword [ebx]
    unaligned "fbld at 4", 4, fbld [ebx]
    aligned "fbld at 8", 8, fbld [ebx]
    unaligned "fbstp at 1", 1, fbstp [ebx]
    aligned "fbstp at 8", 8, fbstp [ebx]
    fninit
    unaligned "movups at 4", 4, movups xmm0, [ebx]
    unaligned "movdqu store at 1", 1, movdqu [ebx], xmm0
    ; environments and states: by the operand size
    unaligned "fnstenv at 2", 2, fnstenv [ebx]
    aligned "fnstenv at 4", 4, fnstenv [ebx]
    unaligned "16-bit fnstenv at 1", 1, o16 fnstenv [ebx]
    aligned "16-bit fnstenv at 2", 2, o16 fnstenv [ebx]
    unaligned "fnsave at 2", 2, fnsave [ebx]
    aligned "fnsave at 4", 4, fnsave [ebx]
    unaligned "frstor at 2", 2, frstor [ebx]
    ; a table register: its limit is a word, its base a dword
    unaligned "sgdt at 1", 1, sgdt [ebx]
    unaligned "sgdt at 4", 4, sgdt [ebx]
    aligned "sgdt at 2", 2, sgdt [ebx]
    unaligned "sidt at 8", 8, sidt [ebx]
    aligned "sidt at 6", 6, sidt [ebx]
    fninit
    mov esi, SCRATCH + 1
    mov edi, SCRATCH + 0x100
    mov ecx, 2
    expect_ring_fault 3, "unaligned: rep movsd", AC_, 0, rep movsd
    expect_eq "unaligned: rep movsd: ecx", ecx, 2
    ; segment registers and far pointers
    mov ebx, SCRATCH + 1
    mov word [SCRATCH + 1], UDS
    expect_ring_fault 3, "unaligned: mov to es from 1", AC_, 0, mov es, [ebx]

    ; the stack
    try .stack
    enter_ring 3, .push, USER_STACK - 2
.push:
    push eax
    int SYS
.stack:
    expect_exception "unaligned: push", AC_, 0, .push
    expect_eq "unaligned: push keeps esp", [exc_esp], USER_STACK - 2

    ; SSE with its own rule: #GP for 16 bytes
    mov ebx, SCRATCH + 8
    expect_ring_fault 3, "movaps is #GP", GP, 0, movaps xmm0, [ebx]
    mov ebx, SCRATCH + 4
    expect_ring_fault 3, "movaps at 4 is #GP", GP, 0, movaps xmm0, [ebx]
    aligned "movups at 16", 16, movups xmm0, [ebx]

    ; not in rings 0 to 2, not without AC, not without AM
    mov ebx, SCRATCH + 1
    push dword 2 | AC
    popfd
    expect_no_fault "ring 0", mov eax, [ebx]
    push dword 2
    popfd
    expect_ring_ok 1, "ring 1", mov eax, [ebx]
    expect_ring_ok 2, "ring 2", mov eax, [ebx]
    mov dword [user_eflags], 2
    expect_ring_ok 3, "without AC", mov eax, [ebx]
    mov dword [user_eflags], 2 | AC
    change_cr0 CR0_AM, 0
    expect_ring_ok 3, "without AM", mov eax, [ebx]
    change_cr0 0, CR0_AM

    ; POPF in ring 3 can set and clear AC
    mov dword [user_eflags], 2
    try .popf
    enter_ring 3, .set_ac
.set_ac:
    mov eax, [ebx]
    push dword 2 | AC
    popfd
.armed:
    mov eax, [ebx]
    int SYS
.popf:
    expect_exception "unaligned: after popf", AC_, 0, .armed
    ; descriptor loads and interrupt frames are exempt: the GDT entry access is the CPU's own
    mov dword [user_eflags], 2 | AC
    mov edx, UDS
    expect_ring_ok 3, "segment load by register", mov es, edx
    change_cr0 CR0_AM, 0
    finish
