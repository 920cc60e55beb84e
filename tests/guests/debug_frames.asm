; Breakpoints for data against what interrupts, exceptions and returns do to the stack, against pages that are not
; there, and against a frame that has two addresses.
;
; expect: exit 33
; qemu: skip it aborts on an assertion of its own when an interrupt's frame meets a breakpoint
; deviates: bochs "an interrupt's frame: in the handler": a trap comes before the next instruction, which is the
;   handler's first (volume 3, 17.3.1.2); Bochs executes that one.
%include "include/guest.inc"
%include "include/pc.inc"
%include "include/debug.inc"

WATCHED equ SCRATCH + 0x1000

; settle: nothing is watched any more, and `seen` is what DR6 was; without using the stack
%macro settle 0
    mov eax, dr6
    and eax, CONDITIONS
    mov [seen], eax
    watch_nothing
%endmacro

main:
    watch_nothing
    ; --- what an interrupt stores in its frame ---
    mov eax, esp
    sub eax, 12
    watch 0, 1, 4, eax
    try .framed
    int SYS
.framed:
    settle
    expect_exception "int n's own frame: in the handler", DB_, 0, exception_stubs + SYS * STUB_SIZE
    expect_eq "int n's own frame: dr6", [seen], 1
    mov eax, RING0_STACK - 8
    watch 0, 1, 4, eax
    try .switched
    enter_ring 3, .ring3
.ring3:
    int SYS
.switched:
    settle
    expect_exception "the frame on an inner stack: in the handler", DB_, 0, exception_stubs + SYS * STUB_SIZE
    expect_eq "the frame on an inner stack: dr6", [seen], 1
    mov eax, RING0_STACK - 20
    watch 0, 1, 4, eax
    try .faulted
    enter_ring 3, .fault
.fault:
    hlt
.faulted:
    settle
    expect_exception "a fault's frame: in the handler", DB_, 0, exception_stubs + GP * STUB_SIZE
    expect_eq "a fault's frame: dr6", [seen], 1
    set_call_gate SEL0, KCS, .inside, 0, CALL_GATE | DPL3
    mov eax, RING0_STACK - 16
    watch 0, 1, 4, eax
    try .called
    enter_ring 3, .call
.call:
    call SEL0 | 3:0
.inside:
    nop
.called:
    settle
    expect_exception "a call gate's frame", DB_, 0, .inside
    expect_eq "a call gate's frame: dr6", [seen], 1
    ; what comes from outside does it before its handler's first instruction
    push dword 1
    call program_pics
    write_port PIT_CONTROL, 0x30
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    mov eax, esp
    sub eax, 8
    watch 0, 1, 4, eax
    try .interrupted
    mov eax, PIT_KHZ >> 8
    out PIT_CHANNEL0, al
    sti
    jmp $
.interrupted:
    settle
    expect_exception "an interrupt's frame: in the handler", DB_, 0, exception_stubs + PIC_VECTORS * STUB_SIZE
    expect_eq "an interrupt's frame: dr6", [seen], 1
    write_port PIC1, PIC_EOI
    write_port PIC1 + 1, 0xff
    ; the exception behind IRET puts its frame where that was
    push dword 2
    push dword KCS
    push dword .returned
    mov eax, esp
    watch 0, 3, 4, eax
    mov dword [exc_vector], NO_EXCEPTION
    mov dword [resume_eip], .trapped
    add esp, 12
    mov [resume_esp], esp
    sub esp, 12
    iretd
.returned:
    nop
.trapped:
    settle
    expect_exception "iret's own frame", DB_, 0, exception_stubs + DB_ * STUB_SIZE
    expect_eq "iret's own frame: dr6", [seen], 1

    ; --- by linear address, and only when the access is done ---
    call paging_identity
    set_pte FREE_FRAMES, WATCHED | P | W
    set_pte FREE_FRAMES + 0x1000, 0
    change_cr0 0, CR0_PG
    watch 0, 3, 4, WATCHED
    passes "the same frame at another address", mov eax, [FREE_FRAMES]
    watch 0, 3, 4, FREE_FRAMES
    traps "that address", 1, mov eax, [FREE_FRAMES]
    watch 0, 3, 4, FREE_FRAMES + 0x1000
    expect_fault "an absent page", PF_, 0, mov eax, [FREE_FRAMES + 0x1000]
    met "an absent page: dr6", 0
    watch 0, 3, 4, FREE_FRAMES + 0xffc
    expect_fault "half of it on an absent page", PF_, 0, mov eax, [FREE_FRAMES + 0xffe]
    met "half of it on an absent page: dr6", 0
    watch 0, 3, 4, FREE_FRAMES + 0xffc
    expect_fault "a store, half of it on an absent page", PF_, PFE_W, mov [FREE_FRAMES + 0xffe], eax
    met "a store, half of it on an absent page: dr6", 0
    set_pte FREE_FRAMES + 0x1000, FREE_FRAMES | P | W
    invlpg [FREE_FRAMES + 0x1000]
    watch 0, 3, 4, FREE_FRAMES + 0x1000
    traps "across two pages, the second half", 1, mov [FREE_FRAMES + 0xffd], eax
    watch 0, 3, 1, FREE_FRAMES + 0xfff
    traps "across two pages, the first half", 1, mov eax, [FREE_FRAMES + 0xffd]
    change_cr0 CR0_PG, 0
    finish

section .data
align 4
seen: dd 0
