; Single steps as a real-mode debugger makes them: where each trap is reported, over INT, faults,
; REP, stack switches, branches, IRET and POPF, what is pushed and what DR6 says.
;
; expect: exit 33
; deviates: qemu "int1", "int1: traps", "int1: .int1": #UD there; INT1 is an instruction (volume 2, INT
;   n/INTO/INT3/INT1)
; deviates: qemu "stacks: traps", "stacks: .sti", "stacks: .cli", "stacks: .pushed", "stacks: .off",
;   "lss: traps", "lss: .lss", "lss: .pushed2", "lss: .off2": only MOV SS and POP SS hold a debug
;   exception back (volume 3, 6.8.3); in QEMU, STI and LSS do
%include "include/guest.inc"
%include "include/real_mode.inc"

LOG    equ 0x100                        ; twice the number of traps, then the IP of each
FLAGS  equ LOG + 0x40                   ; the flags that each pushed
REASON equ LOG + 0x80                   ; DR6 at the last one

main:
    call prepare_real
    run_real plain
    run_real interrupts
    skip_on_qemu "int1", .without_int1
    run_real int1
.without_int1:
    run_real repeated
    run_real stacks
    run_real branches
    run_real returns
    call check_notes
    finish

real_begin
real_support

; "name", then where a trap was reported, in order
%macro traps_are 2-*
    %strcat %%count %1, ": traps"
    note16 %%count, [LOG], 2 * (%0 - 1)
    %assign %%i 0
    %define %%name %1
    %rep %0 - 1
    %rotate 1
    %defstr %%label %1
    %strcat %%each %%name, ": ", %%label
    note16 %%each, [LOG + 2 + 2 * %%i], AT(%1)
    %assign %%i %%i + 1
    %endrep
    mov word [LOG], 0
%endmacro

%macro step_on 0
    push word TF | 2
    popf
%endmacro

plain:
    call install
    mov ax, 1
    step_on
    inc ax
.first:
    inc ax
.second:
    push word 2
.third:
    popf
.fourth:
    inc ax
    note16 "plain: result", ax, 4
    mov bx, [FLAGS]
    and bx, TF | IF
    note16 "plain: pushed flags", bx, TF
    mov bx, [FLAGS + 6]
    and bx, TF | IF
    note16 "plain: pushed behind popf", bx, 0
    mov bx, [REASON]
    and bx, 0xe00f
    note16 "plain: dr6", bx, 0x4000
    traps_are "plain", .first, .second, .third, .fourth
    ; POPFD sets it, too
    push dword TF | 2
    popfd
    mov cx, ax
.wide:
    push dword 2
.wide2:
    popfd
.wide3:
    traps_are "popfd", .wide, .wide2, .wide3
    real_done

; The handler is entered without TF, and IRET brings it back: no trap between INT and the
; instruction behind it.
interrupts:
    call install
    step_on
    int 0x60
    inc ax
.int:
    int3
    inc ax
.int3:
    into
.into:
    push word 2
.pushed:
    popf
.off:
    traps_are "int", .int, .int3, .into, .pushed, .off
    note16 "int: flags in the handler", [LOG + 0xc0], 0
    ; a fault, whose handler goes on behind the instruction
    xor cx, cx
    step_on
    nop
.before:
    div cx
    nop
.fault:
    push word 2
.fault2:
    popf
.fault3:
    traps_are "fault", .before, .fault, .fault2, .fault3
    real_done

; One exception of vector 1.
int1:
    call install
    db 0xf1
.int1:
    nop
    traps_are "int1", .int1
    real_done

; One trap for each iteration; all but the last are reported at the instruction itself.
repeated:
    call install
    cld
    mov si, 0x200
    mov di, 0x300
    mov cx, 3
    step_on
.rep:
    rep movsb
.done:
    push word 2
.pushed:
    popf
.off:
    traps_are "rep movsb", .rep, .rep, .done, .pushed, .off
    note16 "rep movsb: cx", cx, 0
    ; none to do
    step_on
    rep movsb
.none:
    push word 2
.pushed2:
    popf
.off2:
    traps_are "rep movsb of nothing", .none, .pushed2, .off2
    ; the comparison ends it
    mov byte [0x400], 1
    mov byte [0x401], 2
    mov di, 0x400
    mov al, 1
    mov cx, 5
    step_on
.scan:
    repe scasb
.scanned:
    push word 2
.pushed3:
    popf
.off3:
    note16 "repe scasb: cx", cx, 3
    traps_are "repe scasb", .scan, .scanned, .pushed3, .off3
    real_done

; MOV SS and POP SS hold the trap back until the next instruction is through; LSS and STI do not.
stacks:
    call install
    mov ax, ss
    step_on
    mov ss, ax
    nop
.mov:
    push ss
.push:
    pop ss
    nop
.pop:
    sti
.sti:
    cli
.cli:
    push word 2
.pushed:
    popf
.off:
    traps_are "stacks", .mov, .push, .pop, .sti, .cli, .pushed, .off
    mov [0x500], sp
    mov [0x502], ss
    step_on
    lss sp, [0x500]
.lss:
    push word 2
.pushed2:
    popf
.off2:
    traps_are "lss", .lss, .pushed2, .off2
    real_done

branches:
    call install
    mov cx, 2
    step_on
.loop:
    loop .loop
.looped:
    jmp short .there
    nop
.there:
    jcxz .taken
    nop
.taken:
    call .near
.back:
    call REAL_SEGMENT + 0x10:AT(.far) - 0x100
.back2:
    push word 2
.pushed:
    popf
.off:
    note16 "branches: traps", [LOG], 2 * 10
    note16 "branches: loop again", [LOG + 2], AT(.loop)
    note16 "branches: loop ends", [LOG + 4], AT(.looped)
    note16 "branches: jmp", [LOG + 6], AT(.there)
    note16 "branches: jcxz", [LOG + 8], AT(.taken)
    note16 "branches: call", [LOG + 10], AT(.near)
    note16 "branches: ret", [LOG + 12], AT(.back)
    note16 "branches: far call", [LOG + 14], AT(.far) - 0x100
    note16 "branches: far ret", [LOG + 16], AT(.back2)
    note16 "branches: push", [LOG + 18], AT(.pushed)
    note16 "branches: popf", [LOG + 20], AT(.off)
    real_done
.near:
    ret
.far:
    retf

; IRET that sets TF: the first trap comes behind the instruction that it returns to. One that clears
; it is still followed by a trap.
returns:
    call install
    push word TF | 2
    push cs
    push word AT(.to)
    iret
.to:
    nop
.first:
    push word 2
.a:
    push cs
.b:
    push word AT(.end)
.c:
    iret
    nop
.end:
    traps_are "iret", .first, .a, .b, .c, .end
    real_done

step_handler:
    push bp
    mov bp, sp
    push ds
    push bx
    push eax
    mov ax, REAL_DATA
    mov ds, ax
    mov bx, [LOG]
    mov ax, [bp + 2]
    mov [LOG + 2 + bx], ax
    mov ax, [bp + 6]
    mov [FLAGS + bx], ax
    mov eax, dr6
    mov [REASON], ax
    xor eax, eax
    mov dr6, eax
    add word [LOG], 2
    pop eax
    pop bx
    pop ds
    pop bp
    iret

plain_handler:
    pushf
    pop word [LOG + 0xc0]
    and word [LOG + 0xc0], TF | IF
    iret

; Goes on behind an instruction of two bytes.
skip_handler:
    push bp
    mov bp, sp
    add word [bp + 2], 2
    pop bp
    iret

install:
    push es
    xor ax, ax
    mov es, ax
    mov dr6, eax
%macro route 2
    mov word [es:4 * %1], AT(%2)
    mov word [es:4 * %1 + 2], REAL_SEGMENT
%endmacro
    route 0, skip_handler
    route 1, step_handler
    route 3, plain_handler
    route 0x60, plain_handler
    pop es
    mov word [LOG], 0
    ret

real_end
