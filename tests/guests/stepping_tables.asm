; Single steps through all kinds of instructions: the complete list of where traps come, in ring 0 and ring 3, with what is
; in DR6, in the pushed flags and in the handlers of exceptions and interrupts on the way.
;
; expect: exit 33
; deviates: qemu "mov ds, pop es and lss do not delay*": MOV and POP of SS do alone (SDM volume 3, 6.8.3); QEMU's LSS
;   does too.
; deviates: qemu "flags*": STI holds interrupts back, no traps (volume 2, STI); QEMU holds the trap back.
; deviates: qemu "int1*": INT1 is an instruction (volume 2, INT n/INTO/INT3/INT1)
%include "include/guest.inc"

LOG equ SCRATCH                         ; of where each trap was reported
WORK equ SCRATCH + 0x1000
BS equ 1 << 14
STEPS_MARK equ 0x80000000               ; with an interrupt or fault that is no trap

; steps: from the instruction behind this macro on, everything is stepped up to `unstep`
%macro steps 0
    %push steps
    mov dword [logged], 0
    hook log_exception
    pushfd
    or dword [esp], TF
    popfd
%$start:
%endmacro
; unstep "name", addresses...: which traps came; those of `unstep` itself follow
%macro unstep 2+
    pushfd
%$pushed:
    and dword [esp], ~TF
%$cleared:
    popfd
%$popped:
    expect_steps %1, %2, %$pushed, %$cleared, %$popped
    %pop
%endmacro
%macro expect_steps 2-*
    hook 0
    [section .rodata]
    %%name: db %1, 0
    %strcat %%c %1, ": how many"
    %%number: db %%c, 0
    %%list:
    %rotate 1
    %rep %0 - 1
    dd %1
    %rotate 1
    %endrep
    %%list_end:
    __?SECT?__
    push dword (%%list_end - %%list) / 4
    push dword [logged]
    push dword %%number
    call check_equal
    push dword %%list_end - %%list
    push dword %%list
    push dword LOG
    push dword %%name
    call check_bytes
%endmacro

main:
    xor eax, eax
    mov dr6, eax
    mov edi, WORK
    mov esi, WORK + 0x100

    ; --- plain ones, jumps, calls ---
    steps
    nop
.plain1:
    mov eax, [WORK]
.plain2:
    jmp short .plain4
.plain3:
    nop
.plain4:
    test esp, esp
.plain5:
    jz .plain3
.plain6:
    jnz .plain8
.plain7:
    nop
.plain8:
    call .plain_called
.plain9:
    xchg eax, ebx
.plain10:
    unstep "jumps and calls", .plain1, .plain2, .plain4, .plain5, .plain6, .plain8, .plain_called, .plain_returns, .plain9, .plain10
    jmp .plain_done
.plain_called:
    nop
.plain_returns:
    ret
.plain_done:
    mov eax, [seen_dr6]
    and eax, 0xe00f
    expect_eq "dr6", eax, BS
    mov eax, [seen_flags]
    and eax, TF
    expect_eq "tf in the frame", eax, TF
    mov eax, [handler_flags]
    and eax, TF
    expect_eq "tf in the handler", eax, 0

    ; --- strings ---
    mov ecx, 3
    steps
.rep:
    rep movsb
.rep1:
    unstep "rep movsb", .rep, .rep, .rep1
    expect_eq "rep movsb: ecx", ecx, 0
    xor ecx, ecx
    steps
    rep stosd
.rep0:
    unstep "rep with ecx 0", .rep0
    mov dword [WORK], 0x01020304
    mov dword [WORK + 0x100], 0x01990304
    mov edi, WORK
    mov esi, WORK + 0x100
    mov ecx, 4
    steps
.repe:
    repe cmpsb
.repe1:
    unstep "repe cmpsb ends early", .repe, .repe, .repe1
    expect_eq "repe cmpsb: ecx", ecx, 1
    mov ecx, 2
    mov edx, 0x80
    steps
.outs:
    rep outsb
.outs1:
    lodsb
.outs2:
    unstep "rep outsb", .outs, .outs1, .outs2
    mov ecx, 2
    mov edi, WORK
    mov al, [WORK + 1]
    mov byte [WORK], 0xff
    steps
.scas:
    repne scasb
.scas1:
    unstep "repne scasb", .scas, .scas1

    ; --- loads of SS ---
    mov edx, ss
    steps
    mov ss, edx
    nop
.ss1:
    push ss
.ss2:
    pop ss
    nop
.ss3:
    nop
.ss4:
    mov ss, [stack_pointer + 4]
    mov eax, ss
.ss_end:
    unstep "mov ss and pop ss", .ss1, .ss2, .ss3, .ss4, .ss_end
    steps
    mov ds, edx
.ds1:
    push ds
.ds2:
    pop es
.ds3:
    mov [stack_pointer], esp
.ds3b:
    lss esp, [stack_pointer]
.ds4:
    unstep "mov ds, pop es and lss do not delay", .ds1, .ds2, .ds3, .ds3b, .ds4

    ; --- flags ---
    steps
    pushfd
.flags1:
    pop eax
.flags2:
    sti
.flags3:
    cli
.flags4:
    std
.flags5:
    cld
.flags6:
    sahf
.flags7:
    push dword TF | 2
.flags8:
    popfd
.flags9:
    nop
.flags10:
    unstep "flags", .flags1, .flags2, .flags3, .flags4, .flags5, .flags6, .flags7, .flags8, .flags9, .flags10
    and eax, TF
    expect_eq "pushfd shows tf", eax, TF
    ; IRET that keeps TF, and one that clears it
    steps
    pushfd
.iret1:
    push cs
.iret2:
    push dword .iret4
.iret3:
    iretd
.iret4:
    nop
.iret5:
    push dword 2
.iret6:
    push cs
.iret7:
    push dword .iret9
.iret8:
    iretd
.iret9:
    nop
    expect_steps "iret", .iret1, .iret2, .iret3, .iret4, .iret5, .iret6, .iret7, .iret8, .iret9
    %pop

    ; --- interrupts and exceptions ---
    steps
    nop
.int1:
    int SYS
.int2:
    nop
.int3:
    nop
.int4:
    unstep "int n", .int1, .int2 + STEPS_MARK, .int3, .int4
    steps
    int3
.bp1:
    nop
.bp2:
    into
.bp3:
    unstep "int3, and into without of", .bp1 + STEPS_MARK, .bp2, .bp3
    xor ecx, ecx
    steps
    nop
.fault1:
    ud2
.fault2:
    nop
.fault3:
    unstep "a fault whose handler skips it", .fault1, .fault1 + STEPS_MARK, .fault3
    ; one that is repaired: the instruction is restarted, and then its trap comes
    set_descriptor SEL0, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    mov eax, SEL0
    steps
    nop
.np1:
    mov fs, eax
.np2:
    nop
.np3:
    unstep "a fault that is repaired", .np1, .np1 + STEPS_MARK, .np2, .np3
    mov eax, KDS
    mov fs, eax
    steps
    db 0xf1
.ice1:
    nop
.ice2:
    unstep "int1", .ice1, .ice2

    ; --- far transfers and gates ---
    set_call_gate SEL1, KCS, .gate_code, 0, CALL_GATE
    steps
    jmp KCS:.far2
.far1:
    nop
.far2:
    call KCS:.gate_code
.far3:
    call SEL1:0
.far4:
    unstep "far jump, call and call gate", .far2, .gate_code, .gate_second, .far3, .gate_code, .gate_second, .far4
    jmp .far_done
.gate_code:
    nop
.gate_second:
    retf
.far_done:

    ; --- system, x87 and others ---
    steps
    mov eax, cr0
.sys1:
    mov cr0, eax
.sys2:
    clts
.sys3:
    mov ecx, dr7
.sys4:
    sgdt [WORK]
.sys5:
    lgdt [WORK]
.sys6:
    smsw eax
.sys7:
    cpuid
.sys8:
    xor eax, eax
.sys9:
    fninit
.sys10:
    fldpi
.sys11:
    wait
.sys12:
    fnstenv [WORK]
.sys13:
    in al, 0x80
.sys14:
    out 0x80, al
.sys15:
    xlatb
.sys16:
    enter 8, 0
.sys17:
    leave
.sys18:
    pushad
.sys19:
    popad
.sys20:
    aam
.sys21:
    daa
.sys22:
    unstep "system and others", .sys1, .sys2, .sys3, .sys4, .sys5, .sys6, .sys7, .sys8, .sys9, .sys10, .sys11, .sys12, .sys13, .sys14, .sys15, .sys16, .sys17, .sys18, .sys19, .sys20, .sys21, .sys22
    fninit
    mov ecx, 2
    steps
.loop:
    loop .loop
.loop1:
    lock inc dword [WORK]
.loop2:
    unstep "loop", .loop, .loop1, .loop2

    ; --- code that changes what comes next ---
    mov byte [.patched], 0x43           ; inc ebx
    xor ebx, ebx
    steps
    mov byte [.patched], 0x4b           ; dec ebx
.patched:
    inc ebx
.patch2:
    unstep "code that changes the next instruction", .patched, .patch2
    expect_eq "which is the new one", ebx, -1

    ; --- ring 3 ---
    set_call_gate SEL1, KCS, .inner, 0, CALL_GATE | DPL3
    mov dword [logged], 0
    hook log_exception
    mov dword [user_eflags], TF | 2
    enter_ring 3, .user
.user:
    nop
.user1:
    pushfd
.user2:
    pop eax
.user3:
    call SEL1 | 3:0
.user4:
    int SYS
.user5:
    nop
.user6:
    cli                                 ; the hook ends it here
.user_done:
    expect_steps "ring 3", .user1, .user2, .user3, .inner, .inner1, .user4, .user5 + STEPS_MARK, .user6, .user6 + STEPS_MARK
    jmp .finished
.inner:
    nop
.inner1:
    retf
.finished:
    finish

; The hook: notes where, with STEPS_MARK for what is no step.
log_exception:
    mov ecx, [exc_eip]
    mov edx, [exc_vector]
    cmp edx, DB_
    jne .other
    mov eax, dr6
    mov [seen_dr6], eax
    xor eax, eax
    mov dr6, eax
    cmp dword [logged], 0
    jne .later
    mov eax, [ebp + FRAME_EFLAGS]
    mov [seen_flags], eax
.later:
    pushfd
    pop dword [handler_flags]
    jmp .note
.other:
    or ecx, STEPS_MARK
    mov eax, dr6                        ; what is no step leaves it alone
    mov [seen_dr6], eax
.note:
    mov eax, [logged]
    mov [LOG + 4 * eax], ecx
    inc dword [logged]
    cmp edx, UD
    je .skip
    cmp edx, NP
    je .repair
    cmp edx, GP
    je .end
    ret
.skip:
    add dword [ebp + FRAME_EIP], 2
    ret
.repair:
    or byte [gdt + SEL0 + 5], 0x80
    ret
.end:                                   ; of ring 3
    mov eax, KDS
    mov ds, eax
    mov es, eax
    mov esp, KERNEL_STACK
    push dword 2
    popfd
    jmp main.user_done

section .data
align 4
logged: dd 0
seen_dr6: dd 0
seen_flags: dd 0
handler_flags: dd 0
stack_pointer: dd 0, KDS
