; Data segment limits: every access size at the last allowed offset and one beyond, granularity,
; string instructions, implicit operands, no partial effects.
;
; expect: exit 33
; deviates: qemu "beyond*": an access outside the limit is #GP(0) (SDM volume 3, 5.3, "Limit
;   Checking"); QEMU compares no data access with a limit.
%include "include/guest.inc"

BASE equ SCRATCH + 0x10000
LAST equ 0xfff

; size_check "name", bytes, instruction up to its address: [fs:ebx]
%macro size_check 3
    mov ebx, LAST + 1 - (%2)
    %strcat %%within "within: ", %1
    expect_no_fault %%within, %3 [fs:ebx]
    mov ebx, LAST + 2 - (%2)
    %strcat %%beyond "beyond: ", %1
    expect_fault %%beyond, GP, 0, %3 [fs:ebx]
%endmacro
%macro store_check 4                    ; the same with the operand behind
    mov ebx, LAST + 1 - (%2)
    %strcat %%within "within: ", %1
    expect_no_fault %%within, {%3 [fs:ebx], %4}
    mov ebx, LAST + 2 - (%2)
    %strcat %%beyond "beyond: ", %1
    expect_fault %%beyond, GP, 0, {%3 [fs:ebx], %4}
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    set_descriptor SEL0, BASE, LAST, DATA_RW, BIG
    load_segment fs, SEL0

    size_check "byte load", 1, {mov al, }
    size_check "word load", 2, {mov ax, }
    size_check "dword load", 4, {mov eax, }
    store_check "byte store", 1, mov, al
    store_check "word store", 2, mov, ax
    store_check "dword store", 4, mov, eax
    store_check "byte read-modify-write", 1, add, al
    store_check "dword read-modify-write", 4, xor, eax
    store_check "xchg", 4, xchg, eax
    store_check "cmpxchg", 4, cmpxchg, ecx
    size_check "cmpxchg8b", 8, cmpxchg8b
    size_check "movzx", 2, {movzx eax, word }
    size_check "fld single", 4, fld dword
    size_check "fld double", 8, fld qword
    size_check "fld extended", 10, fld tword
    size_check "fnstcw", 2, fnstcw
    size_check "fnstenv", 28, fnstenv
    size_check "fnsave", 108, fnsave
    size_check "movq mm", 8, {movq mm0, }
    emms
    size_check "movups", 16, {movups xmm0, }
    store_check "movups store", 16, movups, xmm0
    size_check "movss", 4, {movss xmm0, }
    size_check "movsd", 8, {movsd xmm0, }
    size_check "stmxcsr", 4, stmxcsr
    size_check "sgdt", 6, sgdt
    size_check "push", 4, push dword
    mov esp, KERNEL_STACK
    size_check "inc", 4, inc dword
    size_check "div", 4, imul dword
    size_check "setc", 1, setc
    mov ebx, 0
    mov dword [fs:0], 0
    mov dword [fs:4], 100
    mov eax, 50
    size_check "bt immediate", 4, {test eax, }
    mov dword [BASE + LAST - 3], 0
    mov dword [BASE + LAST - 7], 0
    xor ecx, ecx
    size_check "bound", 8, {bound ecx, }
    mov ecx, (LAST + 1) * 8 - 1
    expect_no_fault "within: bt by register", bt [fs:0], ecx
    inc ecx
    expect_fault "beyond: bt by register", GP, 0, bt [fs:0], ecx

    ; a faulting store stores nothing, not even the part inside
    mov dword [BASE + LAST - 3], 0x11223344
    mov eax, 0xffffffff
    expect_fault "beyond: store across the limit", GP, 0, mov [fs:LAST - 2], eax
    expect_eq "beyond: nothing stored", [BASE + LAST - 3], 0x11223344
    expect_fault "beyond: movups across the limit", GP, 0, movups [fs:LAST - 14], xmm0
    mov eax, 7
    expect_fault "beyond: load across the limit", GP, 0, mov eax, [fs:LAST - 2]
    expect_eq "beyond: the register stays", eax, 7
    ; negative displacements come out as large offsets
    mov ebx, 8
    expect_fault "beyond: below the base", GP, 0, mov eax, [fs:ebx - 9]
    expect_fault "beyond: far away", GP, 0, mov eax, [fs:0x80000000]

    ; REP: what was done before the fault stays done
    set_descriptor SEL1, BASE, LAST, DATA_RW, BIG
    mov edi, LAST - 15
    mov ecx, 100
    mov eax, 0x5555aaaa
    try .stosd
    load_segment es, SEL1
    rep stosd
.stosd:
    mov dword [resume_eip], 0
    expect_eq "beyond: rep stosd vector", [exc_vector], GP
    expect_eq "beyond: rep stosd ecx", ecx, 96
    expect_eq "beyond: rep stosd edi", edi, LAST + 1
    expect_eq "rep stosd stored", [BASE + LAST - 3], 0x5555aaaa
    load_segment es, KDS
    mov esi, LAST - 5
    mov edi, SCRATCH
    mov ecx, 5
    expect_fault "beyond: rep fs movsw", GP, 0, {rep fs movsw}
    expect_eq "beyond: rep movsw ecx", ecx, 2
    expect_eq "beyond: rep movsw esi", esi, LAST + 1
    expect_eq "beyond: rep movsw edi", edi, SCRATCH + 6

    ; XLAT adds AL before the check
    mov ebx, LAST - 15
    mov al, 15
    expect_no_fault "within: xlat", fs xlatb
    mov al, 16
    expect_fault "beyond: xlat", GP, 0, fs xlatb

    ; granularity: pages; the low twelve bits of the limit are ones
    set_descriptor SEL2, BASE, 1, DATA_RW, BIG | PAGES
    load_segment gs, SEL2
    expect_no_fault "within: page limit", mov al, [gs:0x1fff]
    expect_fault "beyond: page limit", GP, 0, mov al, [gs:0x2000]
    set_descriptor SEL2, BASE, 0, DATA_RW, BIG
    load_segment gs, SEL2
    expect_no_fault "within: limit 0", mov al, [gs:0]
    expect_fault "beyond: limit 0, byte 1", GP, 0, mov al, [gs:1]
    expect_fault "beyond: limit 0, word", GP, 0, mov ax, [gs:0]
    ; in a limit-checked segment with base 0 too
    set_descriptor SEL2, 0, 0x3ff, DATA_RW, BIG | PAGES
    load_segment gs, SEL2
    expect_no_fault "within: base 0", mov al, [gs:0x3fffff]
    expect_fault "beyond: base 0", GP, 0, mov al, [gs:0x400000]

    ; far pointers: six bytes
    mov word [BASE + LAST - 1], SEL2
    mov ebx, LAST - 5
    expect_no_fault "within: lgs", lgs eax, [fs:ebx]
    inc ebx
    expect_fault "beyond: lgs", GP, 0, lgs eax, [fs:ebx]
    ; through DS: the default segment counts too
    try .ds
    load_segment ds, SEL0
    mov eax, [LAST + 1]
    push ss
    pop ds
.ds:
    expect_eq "beyond: ds", [exc_vector], GP
    finish
