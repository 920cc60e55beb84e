; Call gates: to inner rings with a stack switch and parameters, to the same ring, through
; conforming code; JMP through gates; the checks of gate, target and new stack.
;
; expect: exit 33
; deviates: qemu "conforming: cs": the CPL stays, and so CS gets it as RPL (SDM volume 3, 5.8.1.2);
;   QEMU gives the DPL.
; deviates: qemu "absent stack": #SS with the selector (SDM volume 2, CALL); QEMU raises #TS.
%include "include/guest.inc"

main:
    set_call_gate SEL0, KCS, service, 3, CALL_GATE | DPL3
    set_call_gate SEL1, KCS, service, 0, CALL_GATE          ; DPL 0
    set_call_gate SEL2, KCS, service, 0, (CALL_GATE | DPL3) ^ NOT_PRESENT
    set_call_gate SEL3, KDS, service, 0, CALL_GATE | DPL3   ; data as target
    set_call_gate SEL4, 0, service, 0, CALL_GATE | DPL3
    set_call_gate SEL5, SEL6, service, 0, CALL_GATE | DPL3
    set_descriptor SEL6, 0, 0xfffff, CODE_RX ^ NOT_PRESENT, BIG | PAGES
    set_call_gate SEL7, RING1_CS & ~3, ring1_service, 2, CALL_GATE | DPL3
    set_call_gate SEL8, SEL9, conforming_service, 4, CALL_GATE | DPL3
    set_descriptor SEL9, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES

    ; from ring 3 to ring 0
    mov edi, esp
    try .done
    enter_ring 3, .user
.user:
    push dword 0x1111
    push dword 0x2222
    push dword 0x3333
    mov eax, 0xaaaa
    mov ebp, 0x5a5a
.call:
    call SEL0:0xdeadbeef                ; the offset does not matter
.after:
    mov esi, esp
    int SYS
.done:
    expect_exception "back in ring 3", SYS, 0, .done
    expect_eq "cs", [exc_cs], UCS
    expect_eq "ss", [exc_ss], UDS
    expect_eq "retf 12 releases the parameters", esi, USER_STACK
    expect_eq "eax goes through", [seen_eax], 0xaaaa
    expect_eq "new cs", [seen_cs], KCS
    expect_eq "new ss", [seen_ss], KDS
    expect_eq "new esp", [seen_esp], RING0_STACK - 28
    expect_eq "return eip", [seen_frame], .after
    expect_eq "return cs", [seen_frame + 4], UCS
    expect_eq "parameter 1", [seen_frame + 8], 0x3333
    expect_eq "parameter 2", [seen_frame + 12], 0x2222
    expect_eq "parameter 3", [seen_frame + 16], 0x1111
    expect_eq "old esp", [seen_frame + 20], USER_STACK - 12
    expect_eq "old ss", [seen_frame + 24], UDS
    expect_eq "flags are not touched", [seen_flags], 2

    ; from ring 3 to ring 1, on ring 1's stack
    try .done1
    enter_ring 3, .user1
.user1:
    push dword 5
    push dword 6
    call SEL7:0
    int SYS
.done1:
    expect_exception "back from ring 1", SYS, 0, .done1
    expect_eq "ring 1: cs", eax, RING1_CS
    expect_eq "ring 1: ss", ebx, RING1_DS
    expect_eq "ring 1: esp", ecx, RING1_STACK - 24
    expect_eq "ring 1: sum", edx, 11

    ; a conforming target: no switch, no parameters
    try .done2
    enter_ring 3, .user2
.user2:
    call SEL8:0
    int SYS
.done2:
    expect_exception "back from conforming", SYS, 0, .done2
    expect_eq "conforming: cs", eax, SEL9 | 3
    expect_eq "conforming: esp", ecx, USER_STACK - 8

    ; from ring 0: the same ring, no switch
    mov esp, edi
    sub esp, 12
    call SEL0:0
    expect_eq "same ring: esp", [seen_esp], KERNEL_STACK - 20
    expect_eq "same ring: retf 12", esp, edi

    ; JMP through a gate: same ring only
    jmp SEL1:0
service_jumped:
    expect_eq "jmp through a gate", [seen_cs], KCS
    expect_ring_fault 3, "jmp through a gate inwards", GP, KCS, jmp SEL0:0
    try .jumped
    enter_ring 3, .user3
.user3:
    push dword UCS                      ; conforming_service returns far
    push dword .user3_back
    jmp SEL8:0
.user3_back:
    int SYS
.jumped:
    expect_eq "jmp through a gate to conforming", eax, SEL9 | 3
    mov esp, edi

    ; checks
    expect_ring_fault 3, "gate of DPL 0", GP, SEL1, call SEL1:0
    expect_ring_fault 3, "absent gate", NP, SEL2, call SEL2:0
    expect_ring_fault 3, "gate to data", GP, KDS, call SEL3:0
    expect_ring_fault 3, "gate to null", GP, 0, call SEL4:0
    expect_ring_fault 3, "gate to an absent segment", NP, SEL6, call SEL5:0
    set_call_gate SEL5, KCS, service, 0, CALL_GATE | DPL1
    expect_ring_fault 3, "CPL above the gate's DPL", GP, SEL5, call SEL5:0
    set_call_gate SEL5, KCS, service, 0, CALL_GATE | DPL2
    expect_ring_fault 2, "RPL above the gate's DPL", GP, SEL5, call (SEL5 | 3):0
    set_call_gate SEL5, GDT_ENTRIES * 8, service, 0, CALL_GATE | DPL3
    expect_ring_fault 3, "target beyond the GDT", GP, GDT_ENTRIES * 8, call SEL5:0
    set_call_gate SEL5, UCS & ~3, service, 0, CALL_GATE | DPL3
    mov ebx, esp
    expect_fault "outwards from ring 0", GP, UCS & ~3, call SEL5:0

    ; the new stack: #TS with the selector when it cannot be one, #SS when absent
    set_descriptor SEL6, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    mov dword [tss_ss1], RING2_DS
    expect_ring_fault 3, "stack of the wrong DPL", TS_, RING2_DS & ~3, call SEL7:0
    mov dword [tss_ss1], RING1_DS & ~3
    expect_ring_fault 3, "stack of the wrong RPL", TS_, RING1_DS & ~3, call SEL7:0
    mov dword [tss_ss1], 0
    expect_ring_fault 3, "null stack", TS_, 0, call SEL7:0
    mov dword [tss_ss1], RING1_CS
    expect_ring_fault 3, "code as stack", TS_, RING1_CS & ~3, call SEL7:0
    set_descriptor SEL6, 0, 0xfffff, (DATA_RW | DPL1) ^ NOT_PRESENT, BIG | PAGES
    mov dword [tss_ss1], SEL6 | 1
    expect_ring_fault 3, "absent stack", SS_, SEL6, call SEL7:0
    mov dword [tss_ss1], GDT_ENTRIES * 8 | 1
    expect_ring_fault 3, "stack beyond the GDT", TS_, GDT_ENTRIES * 8, call SEL7:0
    mov dword [tss_ss1], RING1_DS
    expect_eq "esp in the end", esp, edi
    finish

service:
    mov [seen_eax], eax
    pushfd
    pop dword [seen_flags]
    mov eax, cs
    mov [seen_cs], eax
    mov eax, ss
    mov [seen_ss], eax
    mov [seen_esp], esp
    mov esi, esp
    push edi
    mov edi, seen_frame
    mov ecx, 7
    rep movsd
    pop edi
    cmp esp, KERNEL_STACK
    je service_jumped
    retf 12

ring1_service:
    mov eax, cs
    mov ebx, ss
    mov ecx, esp
    mov edx, [esp + 8]
    add edx, [esp + 12]
    retf 8

conforming_service:
    mov eax, cs
    mov ecx, esp
    retf

section .data
align 4
seen_eax: dd 0
seen_cs: dd 0
seen_ss: dd 0
seen_esp: dd 0
seen_flags: dd 0
seen_frame: times 7 dd 0
