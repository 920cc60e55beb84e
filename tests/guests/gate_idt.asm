; The IDT: interrupt and trap gates, privilege of INT n, gates to inner and conforming rings, bad
; gates with their error codes and the EXT bit, the IDT's limit, software interrupts of all vectors.
;
; expect: exit 33
; deviates: qemu "offset beyond the target's limit": #GP with EXT alone (SDM volume 2, INT n); QEMU
;   compares only some targets.
; deviates: qemu "exception at*", "exception to*": EXT is set for an exception that was met while
;   another one was delivered (SDM volume 3, 6.13); QEMU leaves it out.
%include "include/guest.inc"

VEC equ 0x60
ERR equ VEC * 8 + 2

main:
    ; an interrupt gate clears IF, a trap gate keeps it; both clear TF and NT
    set_idt_gate VEC, KCS, .flags, INT_GATE | DPL3
    set_idt_gate VEC + 1, KCS, .flags, TRAP_GATE | DPL3
    push dword 2 | IF | NT | DF | CF
    popfd
    int VEC
    expect_flags "iret brings the flags back", IF | DF | CF, IF | DF | CF
    push dword 2
    popfd
    and eax, IF | NT | DF | CF | TF
    expect_eq "interrupt gate", eax, DF | CF
    push dword 2 | IF | DF | CF
    popfd
    int VEC + 1
    push dword 2
    popfd
    and eax, IF | NT | DF | CF | TF
    expect_eq "trap gate", eax, IF | DF | CF
    jmp .privilege
.flags:
    pushfd
    pop eax
    and dword [esp + 8], ~NT
    iretd

    ; INT n needs CPL <= DPL; the same gate taken by a fault does not
.privilege:
    set_idt_gate VEC, KCS, exception_stubs + VEC * STUB_SIZE, INT_GATE | DPL2
    expect_ring_fault 3, "int n above the DPL", GP, ERR, int VEC
    try .ring2
    enter_ring 2, .int_ring2
.int_ring2:
    int VEC
.ring2:
    expect_exception "int n at the DPL", VEC, 0, .ring2
    expect_ring_fault 3, "a fault needs no DPL", UD, 0, ud2
    expect_ring_fault 3, "int 1 of DPL 0", GP, DB_ * 8 + 2, int DB_
    and byte [idt + 8 * BP_ + 5], ~DPL3
    expect_ring_fault 3, "int3 is checked like int n", GP, BP_ * 8 + 2, int3
    or byte [idt + 8 * BP_ + 5], DPL3
    try .int3
    enter_ring 3, .do_int3
.do_int3:
    int3
.int3:
    expect_exception "int3", BP_, 0, .int3
    expect_trap "int 3 of two bytes", BP_, 0, {db 0xcd, 3}

    ; gates that are not good
    set_idt_gate VEC, KCS, exception_stubs, (INT_GATE | DPL3) ^ NOT_PRESENT
    expect_fault "absent gate", NP, ERR, int VEC
    mov byte [idt + 8 * VEC + 5], CALL_GATE
    expect_fault "a call gate in the IDT", GP, ERR, int VEC
    mov byte [idt + 8 * VEC + 5], 0
    expect_fault "no gate at all", GP, ERR, int VEC
    mov byte [idt + 8 * VEC + 5], DATA_RW
    expect_fault "a segment in the IDT", GP, ERR, int VEC
    set_idt_gate VEC, 0, exception_stubs, INT_GATE
    expect_fault "null target", GP, 0, int VEC
    set_idt_gate VEC, KDS, exception_stubs, INT_GATE
    expect_fault "data as target", GP, KDS, int VEC
    set_idt_gate VEC, GDT_ENTRIES * 8, exception_stubs, INT_GATE
    expect_fault "target beyond the GDT", GP, GDT_ENTRIES * 8, int VEC
    set_descriptor SEL0, 0, 0xfffff, CODE_RX ^ NOT_PRESENT, BIG | PAGES
    set_idt_gate VEC, SEL0, exception_stubs, INT_GATE
    expect_fault "absent target", NP, SEL0, int VEC
    set_idt_gate VEC, UCS & ~3, exception_stubs, INT_GATE
    expect_fault "outer target", GP, UCS & ~3, int VEC
    set_descriptor SEL0, 0, 0xff, CODE_RX, BIG
    set_idt_gate VEC, SEL0, exception_stubs, INT_GATE
    expect_fault "offset beyond the target's limit", GP, 0, int VEC

    ; the same met by an exception: EXT is set. #UD's gate is broken for this.
    set_idt_gate UD, KCS, exception_stubs + UD * STUB_SIZE, INT_GATE ^ NOT_PRESENT
    expect_fault "exception at an absent gate", NP, UD * 8 + 3, ud2
    set_idt_gate UD, 0, exception_stubs, INT_GATE
    expect_fault "exception at a null target", GP, 1, ud2
    set_idt_gate UD, KDS, exception_stubs, INT_GATE
    expect_fault "exception at a data target", GP, KDS + 1, ud2
    set_idt_gate UD, KCS, exception_stubs + UD * STUB_SIZE, INT_GATE

    ; the IDT's limit
    mov word [idt_pointer], VEC * 8 + 6
    lidt [idt_pointer]
    expect_fault "gate across the limit", GP, ERR, int VEC
    expect_fault "gate beyond the limit", GP, 0xff * 8 + 2, int 0xff
    mov word [idt_pointer], 256 * 8 - 1
    lidt [idt_pointer]

    ; handlers in ring 1 and in a conforming segment
    set_idt_gate VEC, RING1_CS & ~3, .in_ring1, INT_GATE | DPL3
    try .from_ring1
    enter_ring 3, .user
.user:
    mov esi, 0
    int VEC
    mov esi, esp
    int SYS
.from_ring1:
    expect_exception "handler in ring 1", SYS, 0, .from_ring1
    expect_eq "ring 1 cs", eax, RING1_CS
    expect_eq "ring 1 esp", ebx, RING1_STACK - 20
    expect_eq "back in ring 3", esi, USER_STACK
    jmp .conforming
.in_ring1:
    mov eax, cs
    mov ebx, esp
    iretd
.conforming:
    set_descriptor SEL1, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    set_idt_gate VEC, SEL1, .in_conforming, INT_GATE | DPL3
    try .from_conforming
    enter_ring 3, .user
.in_conforming:
    mov eax, cs
    mov ebx, esp
    iretd
.from_conforming:
    expect_eq "conforming handler: cs", eax, SEL1 | 3
    expect_eq "conforming handler: no switch", ebx, USER_STACK - 12

    ; stacks that are not good: #TS with the selector, EXT only for exceptions
    mov dword [tss_ss1], RING2_DS
    set_idt_gate VEC, RING1_CS & ~3, .in_ring1, INT_GATE | DPL3
    expect_ring_fault 3, "int n to a bad stack", TS_, RING2_DS & ~3, int VEC
    set_idt_gate UD, RING1_CS & ~3, .in_ring1, INT_GATE
    expect_ring_fault 3, "exception to a bad stack", TS_, RING2_DS & ~3 | 1, ud2
    mov dword [tss_ss1], RING1_DS
    set_idt_gate UD, KCS, exception_stubs + UD * STUB_SIZE, INT_GATE

    set_idt_gate VEC, KCS, exception_stubs + VEC * STUB_SIZE, INT_GATE
    set_idt_gate VEC + 1, KCS, exception_stubs + (VEC + 1) * STUB_SIZE, INT_GATE

    ; INT n for every vector: EIP behind it, no error code
    mov ecx, 0
.next:
    mov eax, ecx
    cmp eax, 8
    je .without_error
    cmp eax, 17
    je .without_error
    cmp eax, 10
    jb .plain
    cmp eax, 14
    ja .plain
.without_error:
    mov edx, stub_without_error
    mov [idt + ecx * 8], dx
    shr edx, 16
    mov [idt + ecx * 8 + 6], dx
    mov eax, 0x100
.plain:
    mov [.int_n + 1], cl
    mov edi, eax
    try .caught
.int_n:
    int 0
.caught:
    expect_exception "int n, all vectors", edi, 0, .caught
    expect_eq "int n, all vectors: esp", [exc_esp], KERNEL_STACK
    inc ecx
    cmp ecx, 256
    jne .next
    finish
