; Far JMP, CALL and RET inside a ring: direct and through memory, both operand sizes, conforming
; segments, error codes, and no effect when they fault.
;
; expect: exit 33
; deviates: qemu "jmp sets the accessed bit": loading any segment register sets it (SDM volume 3,
;   3.4.5.1); QEMU does not for CS.
%include "include/guest.inc"

main:
    set_descriptor SEL0, 0, 0xfffff, CODE_RX, BIG | PAGES
    set_descriptor SEL1, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    set_descriptor SEL2, 0, 0xfffff, CODE_RX ^ NOT_PRESENT, BIG | PAGES
    set_descriptor SEL3, 0, 0xfffff, CODE_RX | DPL3, BIG | PAGES
    set_descriptor SEL4, 0, 0xfffff, CODE_RX_CONF | DPL3, BIG | PAGES
    set_descriptor SEL5, 0, 0xfffff, DATA_RW, BIG | PAGES

    ; JMP
    jmp SEL0:.jumped
.jumped:
    mov eax, cs
    expect_eq "jmp: cs", eax, SEL0
    test byte [gdt + SEL0 + 5], ACCESSED
    expect_flags "jmp sets the accessed bit", ZF, 0
    mov dword [SCRATCH], .through_memory
    mov word [SCRATCH + 4], KCS
    jmp far [SCRATCH]
.through_memory:
    mov eax, cs
    expect_eq "jmp through memory: cs", eax, KCS
    jmp SEL1:.conforming
.conforming:
    mov eax, cs
    expect_eq "conforming: cs", eax, SEL1
    jmp (SEL1 | 3):.rpl
.rpl:
    mov eax, cs
    expect_eq "conforming with RPL 3: cs has the CPL", eax, SEL1
    jmp KCS:.back
.back:

    ; CALL and RET
    mov edi, esp
    call SEL0:.callee
.next:
    expect_eq "call and ret: eax", eax, SEL0
    mov eax, cs
    expect_eq "ret: cs", eax, KCS
    expect_eq "ret: esp", esp, edi
    jmp .after_callee
.callee:
    mov eax, cs
    mov ebx, [esp]
    movzx ecx, word [esp + 4]
    mov edx, esp
    retf
.after_callee:
    sub edi, edx
    expect_eq "call pushes 8 bytes", edi, 8
    expect_eq "call pushes cs", ecx, KCS
    expect_eq "call pushes the next eip", ebx, .next
    mov edi, esp
    push dword 1
    push dword 2
    mov dword [SCRATCH], .callee_with_two
    mov word [SCRATCH + 4], SEL0
    call far [SCRATCH]
    expect_eq "retf 8", esp, edi
    expect_eq "retf 8: sum", eax, 3
    jmp .sixteen
.callee_with_two:
    mov eax, [esp + 8]
    add eax, [esp + 12]
    retf 8

    ; 16-bit operand size: offsets and frames of 16 bits
.sixteen:
    mov esi, low_code
    mov edi, 0x9000
    mov ecx, low_code_end - low_code
    rep movsb
    mov word [SCRATCH + 8], 0x9000 + low_code.callee - low_code
    mov word [SCRATCH + 10], KCS
    mov edi, esp
    mov ecx, 0
    push dword .low_done                ; for the plain RET at the end
    jmp dword KCS:0x9000
.low_done:
    expect_eq "o16 call pushes 4 bytes", ecx, 4
    expect_eq "o16 retf", esp, edi
    expect_eq "o16 call far through memory", ebx, 0x77

    ; RETF to the same ring loads from the stack; its faults keep everything
    push dword SEL0
    push dword .returned
    retf
.returned:
    mov eax, cs
    expect_eq "retf as a jump", eax, SEL0
    jmp KCS:.errors

    ; errors: the selector is the error code, RPL bits cleared
.errors:
    mov edi, esp
    expect_fault "jmp null", GP, 0, jmp 0:.errors
    expect_fault "jmp null with RPL", GP, 0, jmp 3:.errors
    expect_fault "jmp beyond the GDT", GP, GDT_ENTRIES * 8, {jmp (GDT_ENTRIES * 8 | 1):.errors}
    expect_fault "jmp to data", GP, SEL5, jmp SEL5:.errors
    expect_fault "jmp to an absent segment", NP, SEL2, jmp SEL2:.errors
    expect_fault "jmp to DPL 3", GP, SEL3, jmp SEL3:.errors
    expect_fault "jmp with RPL above CPL", GP, SEL0, jmp (SEL0 | 3):.errors
    expect_fault "jmp to conforming DPL 3", GP, SEL4, jmp SEL4:.errors
    expect_fault "call null", GP, 0, call 0:.errors
    expect_fault "call to an absent segment", NP, SEL2, call SEL2:.errors
    expect_fault "call to data", GP, SEL5, call SEL5:.errors
    expect_fault "call to a TSS type that is busy", GP, TSS_SEL, call TSS_SEL:0
    expect_eq "esp after failed calls", esp, edi
    push dword SEL2
    push dword .errors
    mov ebx, esp
    expect_fault "retf to an absent segment", NP, SEL2, retf
    expect_eq "retf fault keeps esp", [exc_esp], ebx
    mov dword [esp + 4], 0
    expect_fault "retf to null", GP, 0, retf
    mov dword [esp + 4], SEL5
    expect_fault "retf to data", GP, SEL5, retf
    mov dword [esp + 4], SEL3
    expect_fault "retf to DPL 3 with RPL 0", GP, SEL3, retf
    mov esp, edi
    ; from ring 3: inner rings cannot be returned to or jumped to; conforming can
    expect_ring_fault 3, "jmp to ring 0", GP, KCS, jmp KCS:.errors
    expect_ring_fault 3, "call to ring 0", GP, KCS, call KCS:.errors
    try .inward
    enter_ring 3, .inward_user
.inward_user:
    push dword KCS
    push dword .errors
.inward_retf:
    retf
.inward:
    expect_exception "retf inwards", GP, KCS, .inward_retf
    try .from_user
    enter_ring 3, .user
.user:
    jmp SEL1:.user_conforming
.user_conforming:
    mov eax, cs
    call SEL4:.user_four
    int SYS
.user_four:
    mov ebx, cs
    retf
.from_user:
    expect_eq "conforming keeps ring 3", eax, SEL1 | 3
    expect_eq "conforming of DPL 3", ebx, SEL4 | 3
    expect_eq "retf inside ring 3", [exc_cs], SEL1 | 3
    expect_fault "jmp far of a register", UD, 0, {db 0xff, 0xe8}
    expect_fault "call far of a register", UD, 0, {db 0xff, 0xd8}
    finish

; runs at 0x9000
low_code:
    mov eax, esp
    o16 call far [SCRATCH + 8]
    nop
    jmp .after
.callee:
    mov ecx, eax
    sub ecx, esp
    mov ebx, 0x77
    o16 retf
.after:
    ret
low_code_end:
