; What a segment's type forbids: stores into read-only data and code, loads from execute-only code,
; anything through null, by every kind of instruction.
;
; expect: exit 33
; deviates: qemu "no store*", "no load*": stores into read-only and code segments, loads from
;   execute-only ones and all use of null selectors are #GP(0) (SDM volume 3, 5.5, "Type Checking",
;   and 5.4.1); QEMU looks at no type when it accesses data.
%include "include/guest.inc"

; stores "name", segment: no kind of store works through it
%macro stores 2
    %strcat %%mov "no store: ", %1, ", mov"
    expect_fault %%mov, GP, 0, mov [%2:ebx], eax
    %strcat %%byte "no store: ", %1, ", mov of a byte"
    expect_fault %%byte, GP, 0, mov byte [%2:ebx], 1
    %strcat %%add "no store: ", %1, ", add"
    expect_fault %%add, GP, 0, add [%2:ebx], eax
    %strcat %%xchg "no store: ", %1, ", xchg"
    expect_fault %%xchg, GP, 0, xchg [%2:ebx], eax
    %strcat %%bts "no store: ", %1, ", bts"
    expect_fault %%bts, GP, 0, bts dword [%2:ebx], 3
    %strcat %%pop "no store: ", %1, ", pop"
    push eax
    expect_fault %%pop, GP, 0, pop dword [%2:ebx]
    mov esp, KERNEL_STACK
    %strcat %%fst "no store: ", %1, ", fstp"
    fldz
    expect_fault %%fst, GP, 0, fstp dword [%2:ebx]
    fninit
    %strcat %%movups "no store: ", %1, ", movups"
    expect_fault %%movups, GP, 0, movups [%2:ebx], xmm0
    %strcat %%sete "no store: ", %1, ", sete"
    expect_fault %%sete, GP, 0, sete [%2:ebx]
    %strcat %%cx "no store: ", %1, ", cmpxchg"
    expect_fault %%cx, GP, 0, cmpxchg [%2:ebx], ecx
%endmacro
%macro loads 2
    %strcat %%mov "no load: ", %1, ", mov"
    expect_fault %%mov, GP, 0, mov eax, [%2:ebx]
    %strcat %%add "no load: ", %1, ", add"
    expect_fault %%add, GP, 0, add eax, [%2:ebx]
    %strcat %%push "no load: ", %1, ", push"
    expect_fault %%push, GP, 0, push dword [%2:ebx]
    %strcat %%fld "no load: ", %1, ", fld"
    expect_fault %%fld, GP, 0, fld dword [%2:ebx]
    %strcat %%lods "no load: ", %1, ", lodsb"
    mov esi, ebx
    expect_fault %%lods, GP, 0, %2 lodsb
    %strcat %%esi "no load: ", %1, ", lodsb keeps esi"
    expect_eq %%esi, esi, ebx
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    mov ebx, 16
    mov dword [SCRATCH + 16], 0x600d
    set_descriptor SEL0, SCRATCH, 0xfffff, DATA_RO, BIG | PAGES
    set_descriptor SEL1, SCRATCH, 0xfffff, CODE_RX, BIG | PAGES
    set_descriptor SEL2, SCRATCH, 0xfffff, CODE_XO, BIG | PAGES
    load_segment fs, SEL0
    load_segment gs, SEL1
    mov eax, [fs:ebx]
    expect_eq "read-only loads", eax, 0x600d
    mov eax, [gs:ebx]
    expect_eq "readable code loads", eax, 0x600d
    stores "read-only", fs
    stores "code", gs
    load_segment fs, 0
    load_segment gs, 3
    stores "null", fs
    loads "null", fs
    loads "null with RPL 3", gs

    ; CS: stores through it never work; loads do when it is readable
    mov eax, [cs:SCRATCH + 16]
    push eax
    mov ebx, SCRATCH + 0x100
    stores "cs", cs
    mov dword [SCRATCH + 0x200], 0x600d
    ; in an execute-only CS, constants cannot be read
    set_descriptor SEL3, 0, 0xfffff, CODE_XO, BIG | PAGES
    mov dword [SCRATCH + 0x100], 0
    jmp SEL3:.execute_only
.execute_only:
    expect_fault "no load: execute-only, mov", GP, 0, mov eax, [cs:SCRATCH]
    jmp SEL3:.again
.again:
    expect_fault "no load: execute-only, cmp", GP, 0, cmp dword [cs:SCRATCH], 1
    jmp SEL3:.once_more
.once_more:
    mov eax, [SCRATCH + 0x200]          ; but DS is another matter
    expect_eq "load through ds in execute-only code", eax, 0x600d
    jmp KCS:.back
.back:
    ; read-modify-write through a read-only segment: the load alone would be fine
    load_segment fs, SEL0
    mov ebx, 16
    mov dword [SCRATCH + 16], 0
    expect_fault "no store: or with zero", GP, 0, or dword [fs:ebx], 0
    expect_no_fault "cmp only loads", cmp dword [fs:ebx], 0
    expect_no_fault "test only loads", test dword [fs:ebx], 1
    expect_no_fault "bt only loads", bt dword [fs:ebx], 1
    ; ES of a string store, read-only, then null
    mov edi, 0
    mov ecx, 1
    try .stos
    load_segment es, SEL0
    rep stosd
.stos:
    expect_eq "no store: rep stosd", [exc_vector], GP
    load_segment es, KDS
    try .stos_zero
    load_segment es, 0
    mov ecx, 0
    rep stosd                           ; no iteration, no access, no fault
.stos_zero:
    mov dword [resume_eip], 0
    expect_eq "rep stosd of zero through null", [exc_vector], NO_EXCEPTION
    load_segment es, KDS
    ; a descriptor made writable takes effect when it is loaded again
    or byte [gdt + SEL0 + 5], 2
    expect_fault "no store: until the reload", GP, 0, mov dword [fs:ebx], 5
    load_segment fs, SEL0
    expect_no_fault "store after the reload", mov dword [fs:ebx], 5
    finish
