; x87 errors as DOS programs meet them: CR0.NE clear, real mode, INT 75h, and from ring 3. Where IRQ 13 is reported, what the two
; 8259s say, that a write to port 0xF0 lets waiting instructions pass until the error is cleared, and handlers
; that clear it in several ways or not at all.
;
; expect: exit 33
; host: x87 pointers
; qemu: skip it aborts on an assertion of its own when WAIT raises IRQ 13
; deviates: bochs "fclex in the handler: once", "fldcw in the handler: once", "fldcw in the handler: the next
;   error", "fldpi: before it", "frstor waits: before it", "frstor: before it", "fstenv in the handler: once",
;   "fstenv in the handler: status", "not cleared: once", "ring 3: before it", "ring 3: five", "the next error is
;   reported", "unmasked: before it", "wait: before it": the processor freezes before the waiting instruction until
;   the interrupt comes, and a write to port 0xF0 lets its handler go on (SDM volume 1, D.2.1); Bochs executes the
;   instruction and raises IRQ 13 anew with each one.
%include "include/guest.inc"
%include "include/float_exceptions.inc"
%include "include/pc.inc"
%include "include/real_mode.inc"

DOS_PIC1 equ 0x08
DOS_PIC2 equ 0x70
ES_ equ 0x80

main:
    change_cr0 CR0_NE | CR0_EM | CR0_TS, CR0_MP
    call in_ring3
    call prepare_real
    write_port PIC1, 0x11
    write_port PIC2, 0x11
    write_port PIC1 + 1, DOS_PIC1
    write_port PIC2 + 1, DOS_PIC2
    write_port PIC1 + 1, 1 << 2
    write_port PIC2 + 1, 2
    write_port PIC1 + 1, 1
    write_port PIC2 + 1, 1
    write_port PIC1 + 1, ~(1 << 2) & 0xff
    write_port PIC2 + 1, ~(1 << 5) & 0xff
    run_real cases
    write_port PIC1 + 1, 0xff
    write_port PIC2 + 1, 0xff
    call check_notes
    finish

; The same in ring 3 of protected mode, several times.
in_ring3:
    push dword 1 << 13 | 1 << 2
    call program_pics
    hook clear_waiting
    mov dword [user_eflags], IF | 2
    try .done
    enter_ring 3, .user
.user:
    fninit
    fldcw [unmask_zero_divide]
    mov ecx, 5
.again:
    fld1
    fldz
    fdivp
.wait:
    wait
    ffree st0
    fincstp
    loop .again
    int SYS
.end:
.done:
    expect_exception "ring 3", SYS, 0, .end
    expect_eq "ring 3: five", [reports], 5
    expect_eq "ring 3: before it", [report_eip], .wait
    mov dword [user_eflags], 2
    ret

; A hook: what is not IRQ 13 is an exception like any other.
clear_waiting:
    cmp dword [exc_vector], PIC_VECTORS + 13
    je .error
    hook 0
    add esp, 4
    jmp record_exception.no_hook
.error:
    inc dword [reports]
    mov eax, [exc_eip]
    mov [report_eip], eax
    write_port 0xf0, 0
    fclex
    write_port PIC2, PIC_EOI
    write_port PIC1, PIC_EOI
    ret

section .data
align 4
reports: dd 0
report_eip: dd 0
unmask_zero_divide: dd 0x37b
section .text

; handle_by label: INT 75h leads there, and has not come yet
%macro handle_by 1
    mov word [gs:0x75 * 4], AT(%1)
    mov word [gs:0x75 * 4 + 2], REAL_SEGMENT
    mov word [cs:AT(count)], 0
%endmacro
; divide_by_zero: an error that nothing has reported yet
%macro divide_by_zero 0
    fninit
    fldcw [cs:AT(unmask_all)]
    fld1
    fldz
    fdivp
%endmacro
%macro status_is 3
    fnstsw ax
    and ax, %2
    note16 %1, ax, %3
%endmacro

real_begin
real_support

unmask_all: dw 0x340
mask_all: dw 0x37f
count: dw 0
reported_ip: dw 0
reported_status: dw 0
in_service: dw 0                        ; of both 8259s

cases:
    ; --- the one that everybody writes ---
    handle_by clears
    divide_by_zero
    sti
    nop
    nop
    note16 "none before an instruction that waits", [cs:AT(count)], 0
.wait:
    wait
    cli
    note16 "wait: once", [cs:AT(count)], 1
    note16 "wait: before it", [cs:AT(reported_ip)], AT(.wait)
    note16 "wait: status in the handler", [cs:AT(reported_status)], ES_ | ZE
    note16 "wait: in service", [cs:AT(in_service)], 1 << 5 << 8 | 1 << 2
    status_is "wait: cleared", 0xff, 0

    ; any waiting instruction, and it is run when the handler is through
    handle_by clears
    divide_by_zero
    sti
.load:
    fldpi
    cli
    note16 "fldpi: once", [cs:AT(count)], 1
    note16 "fldpi: before it", [cs:AT(reported_ip)], AT(.load)
    fstp dword [0]
    note "fldpi: pi", [0], 0x40490fdb

    ; --- instructions that do not wait ---
    handle_by clears
    divide_by_zero
    sti
    fnstsw ax
    fnstcw [0]
    nop
    fnstenv [0]
    nop
    fnclex
    wait
    cli
    note16 "none by those that do not wait", [cs:AT(count)], 0
    handle_by clears
    divide_by_zero
    sti
    fninit
    wait
    cli
    note16 "none after fninit", [cs:AT(count)], 0

    ; --- FNSAVE takes it along, FRSTOR brings it back ---
    handle_by clears
    divide_by_zero
    sti
    fnsave [0]
    wait
    note16 "none after fnsave", [cs:AT(count)], 0
    frstor [0]
.restored:
    wait
    cli
    note16 "frstor: once", [cs:AT(count)], 1
    note16 "frstor: before it", [cs:AT(reported_ip)], AT(.restored)

    handle_by clears
    fninit
    fldpi
    fnsave [0]
    divide_by_zero
    sti
.restore:
    frstor [0]
    cli
    note16 "frstor waits: once", [cs:AT(count)], 1
    note16 "frstor waits: before it", [cs:AT(reported_ip)], AT(.restore)
    fstp dword [0]
    note "frstor waits: pi", [0], 0x40490fdb

    ; --- after the write to port 0xF0 waiting instructions run in the handler ---
    handle_by clears_waiting
    divide_by_zero
    sti
.waiting:
    wait
    cli
    note16 "fclex in the handler: once", [cs:AT(count)], 1
    status_is "fclex in the handler: cleared", 0xff, 0
    handle_by stores_environment
    divide_by_zero
.error equ $ - 2
    sti
    wait
    cli
    note16 "fstenv in the handler: once", [cs:AT(count)], 1
    note16 "fstenv in the handler: status", [2], ES_ | ZE | 0x8000 | 0x3000
    note16 "fstenv in the handler: instruction", [6], REAL_SEGMENT * 16 + AT(.error) - 0x10000
    mov ax, [8]
    and ax, 0xf7ff
    note16 "fstenv in the handler: instruction's upper bits and opcode", ax, 0x1000 | 0x6f9
    status_is "fstenv in the handler: cleared", 0xff, 0

    handle_by masks
    divide_by_zero
    sti
    wait
    cli
    note16 "fldcw in the handler: once", [cs:AT(count)], 1
    status_is "fldcw in the handler: status", 0xff, ZE
    fnstcw [0]
    note16 "fldcw in the handler: control", [0], 0x37f
    divide_by_zero
    sti
    wait
    cli
    note16 "fldcw in the handler: the next error", [cs:AT(count)], 2

    ; --- and behind it, until the error is cleared ---
    handle_by clears_nothing
    divide_by_zero
    sti
    wait
    fld1
    wait
    cli
    note16 "not cleared: once", [cs:AT(count)], 1
    status_is "not cleared: status", 0xff, ES_ | ZE
    fnstcw [4]
    note16 "not cleared: control", [4], 0x340
    fstp dword [0]
    note "not cleared: executed", [0], 0x3f800000
    fnclex
    fld1
    fldz
    fdivp
    sti
    wait
    cli
    note16 "the next error is reported", [cs:AT(count)], 2
    fnclex

    ; --- a write to port 0xF0 without an error has no effect on the next one ---
    handle_by clears
    fninit
    xor al, al
    out 0xf0, al
    out 0xf1, al
    divide_by_zero
    sti
    wait
    cli
    note16 "written before: once", [cs:AT(count)], 1

    ; --- unmasked later: FLDCW makes an error of a flag ---
    handle_by clears
    fninit
    fld1
    fldz
    fdivp
    sti
    wait
    note16 "masked", [cs:AT(count)], 0
    fldcw [cs:AT(unmask_all)]
.unmasked:
    wait
    cli
    note16 "unmasked: once", [cs:AT(count)], 1
    note16 "unmasked: before it", [cs:AT(reported_ip)], AT(.unmasked)
    fninit
    real_done

note_report:
    inc word [cs:AT(count)]
    fnstsw ax
    and ax, ES_ | 0x3f
    mov [cs:AT(reported_status)], ax
    push bp
    mov bp, sp
    mov ax, [bp + 6]                    ; behind BP, the caller and AX
    mov [cs:AT(reported_ip)], ax
    pop bp
    mov al, 0x0b
    out PIC1, al
    in al, PIC1
    mov [cs:AT(in_service)], al
    mov al, 0x0b
    out PIC2, al
    in al, PIC2
    mov [cs:AT(in_service) + 1], al
    ret
end_interrupt:
    mov al, PIC_EOI
    out PIC2, al
    out PIC1, al
    ret
clears:
    push ax
    call note_report
    xor al, al
    out 0xf0, al
    call end_interrupt
    fnclex
    pop ax
    iret
clears_waiting:
    push ax
    call note_report
    xor al, al
    out 0xf0, al
    fclex
    call end_interrupt
    pop ax
    iret
masks:
    push ax
    call note_report
    xor al, al
    out 0xf0, al
    fldcw [cs:AT(mask_all)]
    call end_interrupt
    pop ax
    iret
clears_nothing:
    push ax
    call note_report
    xor al, al
    out 0xf0, al
    call end_interrupt
    pop ax
    iret
stores_environment:
    push ax
    call note_report
    xor al, al
    out 0xf0, al
    call end_interrupt
    fstenv [0]
    push word [2]
    and word [2], 0x7f00
    fldenv [0]
    pop word [2]
    pop ax
    iret

real_end
