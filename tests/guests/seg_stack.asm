; The stack segment: #SS(0) beyond its limit by each kind of stack access, ESP as before; 16-bit
; stacks (B clear) use SP alone; a stack segment with a base.
;
; expect: exit 33
; deviates: qemu "beyond*": a stack access outside SS's limit is #SS(0) (SDM volume 3, 6.15,
;   "Interrupt 12"); QEMU compares no data access with a limit.
%include "include/guest.inc"

BASE equ SCRATCH + 0x10000

; with_stack selector, esp, label: goes to ring 3 with that stack. ESP must be loaded again there: a
; return to a 16-bit stack may leave its upper half alone.
%macro with_stack 3
    push dword %1
    push dword %2
    push dword 2
    push dword UCS
    push dword %3
    load_segment ds, UDS
    load_segment es, UDS
    iretd
%endmacro

; stack_fault "name", esp, instruction: #SS(0) at the instruction, ESP unchanged
%macro stack_fault 3+
    skip_on_qemu %1, %%skip
    try %%done
    with_stack SEL0 | 3, %2, %%start
%%start:
    mov esp, %2
%%instruction:
    %3
    int SYS
%%done:
    expect_exception %1, SS_, 0, %%instruction
    %strcat %%esp %1, ": esp"
    expect_eq %%esp, [exc_esp], %2
%%skip:
%endmacro
%macro stack_ok 4+                      ; "name", esp, esp after, instruction
    try %%done
    with_stack SEL0 | 3, %2, %%start
%%start:
    mov esp, %2
%%instruction:
    %4
    int SYS
%%done:
    expect_exception %1, SYS, 0, %%done
    %strcat %%esp %1, ": esp"
    expect_eq %%esp, [exc_esp], %3
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    set_descriptor SEL0, BASE, 0xfff, DATA_RW | DPL3, BIG
    mov ebp, 0x1000
    mov ebx, SCRATCH
    stack_ok "push at the top", 0x1000, 0xffc, push eax
    stack_fault "beyond: push above the top", 0x1004, push eax
    stack_fault "beyond: push at 3", 3, push eax
    stack_fault "beyond: push at 0", 0, push eax
    stack_fault "beyond: pop at the top", 0x1000, pop eax
    stack_fault "beyond: pop into memory", 0xffe, pop dword [SCRATCH]
    stack_fault "beyond: push memory", 2, push dword [SCRATCH]
    stack_fault "beyond: pushad", 16, pushad
    stack_fault "beyond: popad", 0xff0, popad
    stack_fault "beyond: pushfd", 0, pushfd
    stack_fault "beyond: popfd", 0xffd, popfd
    stack_fault "beyond: call", 0, call ebx
    stack_fault "beyond: ret", 0xffd, ret
    stack_fault "beyond: leave", 0x800, leave
    stack_fault "beyond: enter", 2, enter 8, 0
    stack_fault "beyond: [ebp]", 0x800, mov eax, [ebp]
    stack_fault "beyond: [ebp] store", 0x800, mov [ebp - 2], eax
    stack_fault "beyond: [esp+d]", 0x800, mov eax, [esp + 0x7fd]
    stack_fault "beyond: ss override", 0x800, mov al, [ss:0x1000]
    stack_fault "beyond: movups", 0x800, movups xmm0, [ebp - 8]
    stack_fault "beyond: iretd", 0xff8, iretd
    stack_fault "beyond: retf", 0xffc, retf
    expect_eq "ebp stays", ebp, 0x1000
    mov ebp, 0x800
    stack_ok "[ebp]", 0x800, 0x800, mov eax, [ebp]
    stack_ok "leave", 0x100, 0x804, leave
    stack_ok "ds override of ebp", 0x800, 0x800, {mov eax, [ds:ebp + SCRATCH]}

    ; B clear: SP wraps inside 64 KiB, ESP's upper half is ignored and kept
    set_descriptor SEL0, BASE, 0xffff, DATA_RW | DPL3, 0
    mov eax, 0x12345678
    stack_ok "16-bit push", 0xabcd0010, 0xabcd000c, push eax
    expect_eq "16-bit push stores", [BASE + 0xc], 0x12345678
    stack_ok "16-bit push wraps", 0xabcd0000, 0xabcdfffc, push eax
    expect_eq "16-bit push wraps to the top", [BASE + 0xfffc], 0x12345678
    stack_ok "16-bit pop wraps", 0xabcdfffc, 0xabcd0000, pop ecx
    stack_ok "16-bit call", 0x55550100, 0x555500fc, {call $ + 5}
    mov ebp, 0x77770200
    stack_ok "16-bit enter", 0x55550100, 0x555500ec, enter 16, 0
    expect_eq "16-bit enter: ebp", [exc_ebp], 0x555500fc
    mov ebp, 0x77770200
    stack_ok "16-bit leave", 0x55550100, 0x55550204, leave
    stack_ok "16-bit pushad", 0x99990100, 0x999900e0, pushad
    ; addressing by [esp] or [ebp] is by address size, not by B
    mov ebp, 0x100
    mov dword [BASE + 0x104], 0x600dda7a
    stack_ok "[ebp] in a 16-bit stack", 0x100, 0x100, mov eax, [ebp + 4]
    expect_eq "[ebp] in a 16-bit stack: value", [exc_eax], 0x600dda7a

    ; ring 0 on a stack with a base: the handler copes as well
    set_descriptor SEL1, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    mov edx, esp
    push dword SEL1
    pop ss
    mov esp, 0x8000
    push dword 0x12121212
    call .near
.near:
    pop ecx
    pop eax
    mov bx, KDS
    mov ss, bx
    mov esp, edx
    expect_eq "stack with a base: return address", ecx, .near
    expect_eq "stack with a base: memory", [SCRATCH + 0x7ffc], 0x12121212
    try .fault
    push dword SEL1
    pop ss
    mov esp, 0x8000
.ud:
    ud2
.fault:
    expect_exception "fault on a stack with a base", UD, 0, .ud
    expect_eq "its esp", [exc_esp], 0x8000
    expect_eq "its ss", [exc_ss], SEL1
    expect_eq "its frame", [SCRATCH + 0x8000 - 12], .ud
    finish
