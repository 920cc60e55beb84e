; Breakpoints for data of each length, kind and alignment against accesses of each size around them; several met by
; one instruction; in REP, at ports, with INS and OUTS; the guard of each debug register; behind MOV SS; INT1 from
; outer rings.
;
; expect: exit 33
; deviates: qemu "kind, length, place, offset of the access and which", "how often": the address is taken as aligned to
;   the length (SDM volume 3, 17.2.5)
; deviates: qemu "a store into three: dr6", "a load of two: dr6", "movsb from one to another: dr6", "cmpsd of two: dr6",
;   "insb: *", "outsb: *": one exception names all breakpoints that the instruction met (volume 3, 17.2.3)
; deviates: qemu "rep outsb: *": a trap comes behind each iteration that met the breakpoint (volume 3, 17.3.1.2)
; deviates: qemu "guard: *": DR7.GD makes any access to a debug register a #DB and is cleared by it (volume 3, 17.2.4)
; deviates: qemu "mov ss, int n: in the handler", "pop ss: after the next one", "mov ss: no breakpoint at the next one":
;   a load of SS holds debug exceptions back until the next instruction is through (volume 3, 6.8.3 and 17.3.1.1)
; deviates: qemu "int1 in ring 3": INT1 is an instruction (volume 2, INT n/INTO/INT3/INT1)
; deviates: bochs "guard: ring 3", "guard: it still is set": the manual orders DR7.GD and the check of the CPL nowhere;
;   processors check the CPL of privileged instructions first.
; deviates: bochs "mov ss, int n: *": what MOV SS holds back comes when the INT n is through, in its handler (volume 3,
;   6.8.3); Bochs forgets it.
%include "include/guest.inc"
%include "include/debug.inc"

WATCHED equ SCRATCH + 0x1000            ; so that accesses around it are on both sides of a page's end

main:
    watch_nothing
    ; --- every length, kind and place of a breakpoint, every size and place of an access ---
    hook count_debug
    mov dword [kind], 1
.kind:
    mov dword [length], 1
.length:
    mov dword [place], 0
.place:
    call arm_by_table
    mov dword [offset], -6
.offset:
    xor ebx, ebx
.access:
    mov esi, [offset]
    add esi, WATCHED
    mov dword [debug_count], 0
    call [accesses + 8 * ebx]
    call expected_count
    cmp eax, [debug_count]
    je .right
    mov edx, eax
    mov eax, [kind]
    shl eax, 4
    or eax, [length]
    shl eax, 4
    or eax, [place]
    shl eax, 8
    mov al, [offset]
    shl eax, 4
    or eax, ebx
    expect_eq "kind, length, place, offset of the access and which", eax, 0
    expect_eq "how often", [debug_count], edx
.right:
    inc ebx
    cmp ebx, 6
    jb .access
    inc dword [offset]
    cmp dword [offset], 9
    jl .offset
    inc dword [place]
    cmp dword [place], 4
    jb .place
    shl dword [length], 1
    cmp dword [length], 8
    jb .length
    add dword [kind], 2
    cmp dword [kind], 5
    jb .kind
    hook 0
    watch_nothing
    expect_eq "cases", [cases], 2 * 3 * 4 * 15 * 6

    ; --- several at once ---
    watch 0, 1, 1, WATCHED - 1
    watch 1, 3, 1, WATCHED
    watch 2, 1, 4, WATCHED
    watch 3, 1, 1, WATCHED + 4
    traps "a store into three", 7, mov [WATCHED - 1], eax
    watch 0, 1, 1, WATCHED - 1
    watch 1, 3, 1, WATCHED
    watch 2, 3, 2, WATCHED + 2
    traps "a load of two", 6, mov eax, [WATCHED - 1]
    watch 0, 3, 1, WATCHED
    watch 3, 1, 1, WATCHED + 0x100
    mov esi, WATCHED
    mov edi, WATCHED + 0x100
    traps "movsb from one to another", 9, movsb
    watch 0, 3, 4, WATCHED
    watch 2, 3, 4, WATCHED + 0x100
    mov esi, WATCHED + 3
    mov edi, WATCHED + 0x103
    traps "cmpsd of two", 5, cmpsd
    watch 1, 3, 1, WATCHED + 7
    traps "the last byte of a quadword", 2, fild qword [WATCHED]
    watch 1, 1, 1, WATCHED + 9
    fninit
    fldz
    traps "the last byte of ten", 2, fstp tword [WATCHED]
    watch 1, 1, 1, WATCHED + 10
    fldz
    passes "behind ten bytes", fstp tword [WATCHED]
    watch 1, 1, 4, WATCHED + 4
    xor eax, eax
    xor edx, edx
    traps "cmpxchg8b's upper half", 2, cmpxchg8b [WATCHED]
    watch 0, 3, 1, WATCHED + 64
    mov eax, 64 * 8
    traps "bt far from its address", 1, bt dword [WATCHED], eax
    watch 0, 1, 4, WATCHED + 64
    mov eax, 64 * 8
    passes "bt stores nothing", bt dword [WATCHED], eax
    watch 0, 3, 1, WATCHED + 0x42
    mov ebx, WATCHED
    mov eax, 0x42
    traps "xlat", 1, xlatb
    mov word [WATCHED + 4], KDS
    watch 0, 3, 1, WATCHED + 5
    traps "les: the selector", 1, {les eax, [WATCHED]}
    watch 0, 3, 1, WATCHED
    passes "lea", lea eax, [WATCHED]
    watch 0, 3, 1, WATCHED
    passes "nop with an operand", nop dword [WATCHED]
    watch 0, 3, 1, WATCHED
    traps "test reads", 1, test byte [WATCHED], 1
    watch 0, 1, 1, WATCHED
    passes "test writes nothing", test byte [WATCHED], 1

    ; --- REP: after the element that met it, and goes on from there ---
    mov dword [debug_count], 0
    hook count_debug
    watch 0, 1, 1, WATCHED + 6
    std
    mov edi, WATCHED + 16
    mov ecx, 8
    rep stosd
    cld
    expect_eq "rep stosd, downward: once", [debug_count], 1
    expect_eq "rep stosd, downward: ecx", [debug_ecx], 8 - 4
    expect_eq "rep stosd, downward: edi", [debug_edi], WATCHED
    expect_eq "rep stosd, downward: through", ecx, 0
    watch_nothing
    mov dword [debug_count], 0
    watch 1, 3, 4, WATCHED + 8
    mov esi, WATCHED + 2
    mov ecx, 6
    rep lodsw
    expect_eq "rep lodsw: three of them", [debug_count], 2
    expect_eq "rep lodsw: ecx at the last", [debug_ecx], 6 - 5
    watch_nothing
    mov dword [debug_count], 0
    mov edi, WATCHED
    mov ecx, 8
    xor eax, eax
    rep stosd
    mov byte [WATCHED + 9], 1
    watch 2, 3, 1, WATCHED + 9
    xor eax, eax
    mov edi, WATCHED + 4
    mov ecx, 20
    repe scasb
    expect_eq "repe scasb that ends there: once", [debug_count], 1
    expect_eq "repe scasb that ends there: ecx", ecx, 20 - 6
    hook 0
    watch_nothing

    ; --- ports ---
    change_cr4 0, CR4_DE
    watch 0, 2, 2, 0x82
    mov edx, 0x81
    traps "a word into two ports", 1, in ax, dx
    watch 0, 2, 2, 0x82
    mov edx, 0x81
    passes "a byte before them", in al, dx
    watch 0, 2, 2, 0x82
    mov edx, 0x83
    traps "the second of them", 1, out dx, al
    watch 0, 2, 2, 0x82
    mov edx, 0x84
    passes "a byte behind them", in al, dx
    watch 0, 2, 4, 0x84
    mov edx, 0x87
    traps "the last of four", 1, in al, dx
    watch 0, 2, 1, 0x84
    traps "an immediate port", 1, in al, 0x84
    watch 0, 2, 1, 0x84
    passes "memory of the same number", mov al, [0x84]
    watch 0, 2, 1, 0x84
    watch 3, 1, 1, WATCHED
    mov edx, 0x84
    mov edi, WATCHED
    traps "insb: the port and the memory", 9, insb
    watch 0, 2, 1, 0x84
    watch 3, 3, 1, WATCHED
    mov edx, 0x84
    mov esi, WATCHED
    traps "outsb: the port and the memory", 9, outsb
    mov dword [debug_count], 0
    hook count_debug
    watch 1, 2, 1, 0x84
    mov edx, 0x84
    mov esi, WATCHED
    mov ecx, 3
    rep outsb
    expect_eq "rep outsb: at each", [debug_count], 3
    expect_eq "rep outsb: ecx at the last", [debug_ecx], 0
    hook 0
    watch_nothing
    change_cr4 CR4_DE, 0

    ; --- the guard: of each register, both ways; never in ring 3 ---
%macro guarded 2+
    mov eax, 0x2400
    mov dr7, eax
    xor eax, eax
    expect_fault %1, DB_, 0, %2
    mov eax, dr7
    expect_eq %1, eax, 0x400
    met %1, 1 << 13
%endmacro
    guarded "guard: read dr0", mov eax, dr0
    guarded "guard: read dr3", mov eax, dr3
    guarded "guard: read dr6", mov eax, dr6
    guarded "guard: read dr7", mov eax, dr7
    guarded "guard: write dr1", mov dr1, eax
    guarded "guard: write dr2", mov dr2, eax
    guarded "guard: write dr6", mov dr6, eax
    guarded "guard: write dr7", mov dr7, eax
    guarded "guard: read dr4", {db 0x0f, 0x21, 0xe0}
    mov eax, 0x2400
    mov dr7, eax
    expect_ring_fault 3, "guard: ring 3", GP, 0, mov eax, dr7
    expect_fault "guard: it still is set", DB_, 0, mov eax, dr7
    watch_nothing

    ; --- any debug exception lifts the guard ---
%macro guard 0
    mov eax, dr7
    or eax, 0x2000
    mov dr7, eax
%endmacro
    guard
    pushfd
    or dword [esp], TF
    try .stepped
    popfd
    nop
.stepped:
    expect_exception "guard lifted by a step", DB_, 0, .stepped
    expect_no_fault "guard lifted by a step: dr7", mov eax, dr7
    watch 0, 1, 4, WATCHED
    guard
    expect_trap "guard lifted by a store", DB_, 0, mov [WATCHED], eax
    expect_no_fault "guard lifted by a store: dr7", mov eax, dr7
    watch_nothing
    watch 0, 0, 1, .executed
    guard
    try .lifted
.executed:
    nop
.lifted:
    expect_exception "guard lifted by a breakpoint", DB_, 0, .executed
    expect_no_fault "guard lifted by a breakpoint: dr7", mov eax, dr7
    watch_nothing

    ; --- MOV SS: holds debug exceptions back until the next instruction is through, and that meets no breakpoint ---
    mov word [WATCHED], KDS
    watch 0, 3, 2, WATCHED
    try .inhibited
    mov ss, [WATCHED]
    int SYS
.inhibited:
    expect_exception "mov ss, int n: in the handler", DB_, 0, exception_stubs + SYS * STUB_SIZE
    met "mov ss, int n: dr6", 1
    mov dword [WATCHED], KDS
    watch 0, 3, 4, WATCHED
    mov edx, esp
    try .popped
    mov esp, WATCHED
    pop ss
    mov esp, edx
.popped:
    expect_exception "pop ss: after the next one", DB_, 0, .popped
    met "pop ss: dr6", 1
    mov edx, ss
    watch 0, 0, 1, .missed
    try .behind
    mov ss, edx
.missed:
    nop
.behind:
    expect_exception "mov ss: no breakpoint at the next one", NO_EXCEPTION, 0, 0
    watch_nothing

    ; --- INT1 is no INT n: the gate's DPL does not matter ---
    try .int1
    enter_ring 3, .user
.user:
    db 0xf1
.user_behind:
    int SYS
.int1:
    expect_exception "int1 in ring 3", DB_, 0, .user_behind
    met "int1 in ring 3: dr6", 0
    expect_ring_fault 3, "int 1 in ring 3", GP, 1 * 8 + 2, int 1
    finish

; Counts debug exceptions, with some registers of the last.
count_debug:
    inc dword [debug_count]
    mov eax, [exc_ecx]
    mov [debug_ecx], eax
    mov eax, [exc_edi]
    mov [debug_edi], eax
    ret

; DR0 as kind, length and place say.
arm_by_table:
    mov eax, WATCHED
    add eax, [place]
    mov dr0, eax
    mov eax, [length]
    dec eax
    shl eax, 2
    or eax, [kind]
    shl eax, 16
    or eax, 0x402
    mov dr7, eax
    ret

; EAX: how often access EBX at the offset meets it.
expected_count:
    inc dword [cases]
    mov edx, [length]
    neg edx
    and edx, [place]                    ; the breakpoint begins at a multiple of its length
    mov eax, [offset]
    mov ecx, [accesses + 8 * ebx + 4]
    and ecx, 7                          ; bytes
    add ecx, eax
    cmp ecx, edx
    jle .no
    add edx, [length]
    cmp eax, edx
    jge .no
    test byte [accesses + 8 * ebx + 4], STORES
    jnz .yes
    cmp dword [kind], 3
    jne .no
.yes:
    mov eax, 1
    ret
.no:
    xor eax, eax
    ret

load1:
    mov al, [esi]
    ret
load2:
    mov ax, [esi]
    ret
load4:
    mov eax, [esi]
    ret
store1:
    mov [esi], al
    ret
store2:
    mov [esi], ax
    ret
store4:
    mov [esi], eax
    ret

section .data
align 4
STORES equ 0x10
accesses:
    dd load1, 1, load2, 2, load4, 4, store1, 1 | STORES, store2, 2 | STORES, store4, 4 | STORES
kind: dd 0
length: dd 0
place: dd 0
offset: dd 0
cases: dd 0
debug_count: dd 0
debug_ecx: dd 0
debug_edi: dd 0
