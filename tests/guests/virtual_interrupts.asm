; Virtual interrupts by the manual's tables: CR4.VME in virtual-8086 mode (CLI, STI, PUSHF, POPF, IRET and INT n
; with each IOPL, VIF and VIP, the bitmap that redirects software interrupts) and CR4.PVI in ring 3.
;
; expect: exit 33
; deviates: qemu "vme:*", "pvi:*": its TCG has neither (volume 3, 20.3 and 20.4; volume 2, CLI, STI, PUSHF, POPF,
;   IRET, INT n)
; deviates: bochs "vme: iopl 3: vif and vip at entry", "without vme: vif and vip at entry", "pvi: iopl 3: vif and vip at
;   entry", "vme: iopl 3: pushfd", "vme: iopl 3: pushfd: image", "vme: iopl 3: iret", "vme: iopl 3: iret: flags":
;   VIF and VIP are looked at where they stand for IF, which is with CR4.VME or CR4.PVI and an IOPL below 3 (volume
;   3, 20.3.2 and 20.4); Bochs raises #GP(0) in all of ring 3 and virtual-8086 mode.
%include "include/guest.inc"
%include "include/pc.inc"

VIF equ 1 << 19
VIP equ 1 << 20
IOPL1 equ 1 << 12
IOPL2 equ 2 << 12
IOPL3 equ 3 << 12
CR4_VME equ 1 << 0
CR4_PVI equ 1 << 1
ALL_VIRTUAL equ VM | VIP | VIF | IOPL3 | IF | TF

CODE_SEGMENT equ 0x1000
STACK_SEGMENT equ 0x2000
STACK_TOP equ 0x1000
STACK equ STACK_SEGMENT * 16
TASK equ SCRATCH + 0x1000
PORTS equ 0x140                         ; where the I/O permission bitmap begins
REDIRECT equ TASK + PORTS - 32
PORTS_ELSEWHERE equ 0x300

%define AT(label) ((label) - pieces)

section .pieces align=16
pieces:
section .text

; Checks below have PREFIX before their names.
%define PREFIX "vme: "

; in_v86 "name", flags [, SP]: what follows, up to one of the ends, runs in V86 mode with those flags.
%macro in_v86 2-3 STACK_TOP
    %push v86
    %strcat %$name PREFIX, %1
    try %$done
    push dword 0
    push dword 0
    push dword 0
    push dword 0
    push dword STACK_SEGMENT
    push dword %3
    push dword VM | 2 | (%2)
    push dword CODE_SEGMENT
    push dword AT(%$start)
    iretd
    [section .pieces]
bits 16
%$start:
%endmacro
; The ends. out_halted: by the HLT that comes here. out_by vector, error: by an exception of the first
; instruction; out_behind: by a trap behind the last one. out_redirected: in the handler that the program's own
; vectors lead to.
%macro out_halted 0
%$end:
    hlt
    out_at GP, 0, %$end
%endmacro
%macro out_by 2
    hlt
    out_at %1, %2, %$start
%endmacro
%macro out_behind 2
%$end:
    hlt
    out_at %1, %2, %$end
%endmacro
%macro out_redirected 0
%$end:
    hlt
    out_at GP, 0, redirected
%endmacro
%macro out_at 3
bits 32
section .text
%$done:
    expect_exception %$name, %1, %2, AT(%3)
    %pop
%endmacro

; flags_then "name", mask, expected: of those that the exception saved
%macro flags_then 3
    %strcat %%name PREFIX, %1
    mov eax, [exc_eflags]
    and eax, %2
    expect_eq %%name, eax, %3
%endmacro
; stack_at "name", expected: ESP at a fault with an error code
; on_stack "name", offset from STACK_TOP, expected: a word
%macro on_stack 3
    %strcat %%name PREFIX, %1
    movzx eax, word [STACK + STACK_TOP + (%2)]
    expect_eq %%name, eax, %3
%endmacro
%macro stack_at 2
    %strcat %%name PREFIX, %1
    mov eax, [exc_frame]
    expect_eq %%name, [eax + 16], %2
%endmacro
; redirect_all value: 0 for the program's handlers, -1 for those of protected mode
%macro redirect_all 1
    mov eax, %1
    mov edi, REDIRECT
    mov ecx, 8
    rep stosd
%endmacro
; one_bit vector: redirected while only its bit is clear, and not while only its bit is set.
%macro one_bit 1
    redirect_all -1
    and byte [REDIRECT + (%1) / 8], ~(1 << ((%1) & 7))
    %defstr %%vector %1
    %strcat %%name %%vector, " clear"
    in_v86 %%name, VIF
    int %1
    out_redirected
    redirect_all 0
    or byte [REDIRECT + (%1) / 8], 1 << ((%1) & 7)
    %strcat %%name %%vector, " set"
    in_v86 %%name, VIF
    int %1
    out_by GP, 0
%endmacro
; in_ring ring, "name", flags: what follows, up to ring_through or ring_fault (of its first instruction), runs there.
%macro in_ring 3
    %push ring
    %strcat %$name PREFIX, %2
    mov dword [user_eflags], (%3) | 2
    try %$done
    enter_ring %1, %$start
%$start:
%endmacro
%macro ring_through 0
    int SYS
%$done:
    mov dword [user_eflags], 2
    expect_exception %$name, SYS, 0, %$done
    %pop
%endmacro
%macro ring_fault 0
    int SYS
%$done:
    mov dword [user_eflags], 2
    expect_exception %$name, GP, 0, %$start
    %pop
%endmacro

main:
    call prepare
    change_cr4 0, CR4_VME
    redirect_all -1

%assign iopl 0
%rep 3
    %if iopl == 0
    %define PREFIX "vme: iopl 0: "
    %elif iopl == IOPL1
    %define PREFIX "vme: iopl 1: "
    %else
    %define PREFIX "vme: iopl 2: "
    %endif
    ; --- CLI and STI ---
    in_v86 "cli", iopl | VIF | IF | CF | ZF
    cli
    out_halted
    flags_then "cli clears vif and no more", ALL_VIRTUAL | CF | ZF, VM | iopl | IF | CF | ZF
    in_v86 "cli while one is pending", iopl | VIP
    cli
    out_halted
    in_v86 "sti", iopl | CF
    sti
    out_halted
    flags_then "sti sets vif and no more", ALL_VIRTUAL | CF, VM | iopl | VIF | CF
    in_v86 "sti while one is pending", iopl | VIP
    sti
    out_by GP, 0
    flags_then "sti while one is pending: flags", ALL_VIRTUAL, VM | iopl | VIP

    ; --- PUSHF ---
    in_v86 "pushf with vif", iopl | VIF | NT | DF | SF
    pushf
    out_halted
    on_stack "pushf with vif: image", -2, IOPL3 | IF | NT | DF | SF | 2
    in_v86 "pushf with if", iopl | IF | VIP
    pushf
    out_halted
    on_stack "pushf with if: image", -2, IOPL3 | 2
    stack_at "pushf: sp", STACK_TOP - 2
    in_v86 "pushfd", iopl
    pushfd
    out_by GP, 0
    stack_at "pushfd: sp", STACK_TOP

    ; --- POPF ---
    in_v86 "popf with if", iopl
    push word IOPL3 | IF | NT | DF | CF
    popf
    out_halted
    flags_then "popf with if: flags", ALL_VIRTUAL | NT | DF | CF | ZF, VM | iopl | VIF | NT | DF | CF
    stack_at "popf: sp", STACK_TOP
    in_v86 "popf without if", iopl | IF | VIF | CF
    push word ZF
    popf
    out_halted
    flags_then "popf without if: flags", ALL_VIRTUAL | CF | ZF, VM | iopl | IF | ZF
    mov word [STACK + STACK_TOP - 2], IF | CF
    in_v86 "popf with if while one is pending", iopl | VIP, STACK_TOP - 2
    popf
    out_by GP, 0
    flags_then "popf with if while one is pending: flags", ALL_VIRTUAL, VM | iopl | VIP
    stack_at "popf with if while one is pending: sp", STACK_TOP - 2
    in_v86 "popf without if while one is pending", iopl | VIP
    push word CF
    popf
    out_halted
    flags_then "popf without if while one is pending: flags", ALL_VIRTUAL | CF, VM | iopl | VIP | CF
    mov word [STACK + STACK_TOP - 2], TF | CF
    in_v86 "popf with tf", iopl, STACK_TOP - 2
    popf
    out_by GP, 0
    flags_then "popf with tf: flags", ALL_VIRTUAL | CF, VM | iopl
    mov dword [STACK + STACK_TOP - 4], 2
    in_v86 "popfd", iopl, STACK_TOP - 4
    popfd
    out_by GP, 0
    stack_at "popfd: sp", STACK_TOP - 4

    ; --- IRET ---
    in_v86 "iret with if", iopl | IF
    push word IOPL3 | CF | IF
    push word CODE_SEGMENT
    push word AT(%$end)
    iret
    out_halted
    flags_then "iret with if: flags", ALL_VIRTUAL | CF, VM | iopl | VIF | IF | CF
    stack_at "iret: sp", STACK_TOP
    in_v86 "iret without if", iopl | VIF | IF
    push word ZF
    push word CODE_SEGMENT
    push word AT(%$end)
    iret
    out_halted
    flags_then "iret without if: flags", ALL_VIRTUAL | ZF, VM | iopl | IF | ZF
    mov dword [STACK + STACK_TOP - 6], CODE_SEGMENT << 16
    mov word [STACK + STACK_TOP - 2], IF
    in_v86 "iret with if while one is pending", iopl | VIP, STACK_TOP - 6
    iret
    out_by GP, 0
    stack_at "iret with if while one is pending: sp", STACK_TOP - 6
    mov word [STACK + STACK_TOP - 2], TF
    in_v86 "iret with tf", iopl, STACK_TOP - 6
    iret
    out_by GP, 0
    in_v86 "iret without if while one is pending", iopl | VIP
    push word 0
    push word CODE_SEGMENT
    push word AT(%$end)
    iret
    out_halted
    in_v86 "iretd", iopl
    iretd
    out_by GP, 0
    stack_at "iretd: sp", STACK_TOP

    ; --- both set ---
    in_v86 "vif and vip at entry", iopl | VIF | VIP
    nop
    out_by GP, 0

    ; --- INT n: method 3, the monitor ---
    redirect_all -1
    in_v86 "int n, bit set", iopl
    int 0x21
    out_by GP, 0
    ; method 6, the program's own handler
    redirect_all 0
    in_v86 "int n, bit clear, vif", iopl | VIF | CF | DF
    int 0x21
    out_redirected
    flags_then "int n, bit clear, vif: flags", ALL_VIRTUAL | CF | DF, VM | iopl | CF | DF
    stack_at "int n, bit clear: sp", STACK_TOP - 6
    on_stack "int n, bit clear, vif: image", -2, IOPL3 | IF | CF | DF | 2
    on_stack "int n, bit clear: cs", -4, CODE_SEGMENT
    in_v86 "int n, bit clear, if", iopl | IF | VIP
    int 0x21
    out_redirected
    flags_then "int n, bit clear, if: flags", ALL_VIRTUAL, VM | iopl | IF | VIP
    on_stack "int n, bit clear, if: image", -2, IOPL3 | 2
    in_v86 "int n, bit clear, tf", iopl | TF
    int 0x21
    out_redirected
    flags_then "int n, bit clear, tf: flags", ALL_VIRTUAL, VM | iopl
    on_stack "int n, bit clear, tf: image", -2, IOPL3 | TF | 2
    ; there and back
    in_v86 "int n and iret", iopl | VIF | IF
    int 0x22
    out_halted
    flags_then "int n and iret: flags", ALL_VIRTUAL | CF, VM | iopl | VIF | IF
    stack_at "int n and iret: sp", STACK_TOP
%assign iopl iopl + IOPL1
%endrep
%define PREFIX "vme: "
    in_v86 "another segment", 0
    int 0x23
    hlt
    out_at GP, 0, redirected + 16
    expect_eq "vme: another segment: cs", [exc_cs], CODE_SEGMENT - 1
    in_v86 "no room for the frame", VIF, 1
    int 0x21
    out_by SS_, 0
    flags_then "no room for the frame: flags", ALL_VIRTUAL, VM | VIF
    in_v86 "the frame at the segment's two ends", 0, 4
    int 0x21
    out_redirected
    stack_at "the frame at the segment's two ends: sp", 0xfffe
    expect_eq "vme: the frame at the segment's two ends: cs", [STACK], IOPL3 << 16 | 2 << 16 | CODE_SEGMENT

    ; --- IOPL 3: as without VIF and VIP ---
%define PREFIX "vme: iopl 3: "
    in_v86 "cli", IOPL3 | IF | VIF
    cli
    out_halted
    flags_then "cli clears if and no more", ALL_VIRTUAL, VM | IOPL3 | VIF
    in_v86 "sti", IOPL3 | VIP
    sti
    nop
    out_halted
    flags_then "sti sets if and no more", ALL_VIRTUAL, VM | IOPL3 | IF | VIP
    in_v86 "vif and vip at entry", IOPL3 | VIF | VIP
    nop
    out_halted
    in_v86 "pushf", IOPL3 | VIF
    pushf
    out_halted
    on_stack "pushf: image", -2, IOPL3 | 2
    in_v86 "pushfd", IOPL3 | VIF | VIP | IF | AC
    pushfd
    out_halted
    expect_eq "vme: iopl 3: pushfd: image", [STACK + STACK_TOP - 4], IOPL3 | VIF | VIP | IF | AC | 2
    in_v86 "popf", IOPL3 | VIP
    push word IF
    popf
    out_halted
    flags_then "popf: flags", ALL_VIRTUAL, VM | IOPL3 | VIP | IF
    in_v86 "popfd", IOPL3 | VIF
    push dword VIP | IF | ID | AC
    popfd
    out_halted
    flags_then "popfd: flags", ALL_VIRTUAL | ID | AC, VM | IOPL3 | VIF | IF | ID | AC
    in_v86 "iret", IOPL3 | VIP | VIF
    push word IF
    push word CODE_SEGMENT
    push word AT(%$end)
    iret
    out_halted
    flags_then "iret: flags", ALL_VIRTUAL, VM | IOPL3 | VIP | VIF | IF
    in_v86 "iretd", IOPL3 | VIF
    push dword IF | VIP
    push dword CODE_SEGMENT
    push dword AT(%$end)
    iretd
    out_halted
    flags_then "iretd: flags", ALL_VIRTUAL, VM | IOPL3 | VIF | IF
    ; method 4, through the IDT
    redirect_all -1
    in_v86 "int n, bit set", IOPL3 | VIF
    int SYS
    out_behind SYS, 0
    flags_then "int n, bit set: flags", ALL_VIRTUAL, VM | IOPL3 | VIF
    in_v86 "int n, bit set, gate of dpl 0", IOPL3
    int 0x21
    out_by GP, 0x21 * 8 + 2
    ; method 5
    redirect_all 0
    in_v86 "int n, bit clear", IOPL3 | VIF | IF | CF
    int 0x21
    out_redirected
    flags_then "int n, bit clear: flags", ALL_VIRTUAL | CF, VM | IOPL3 | VIF | CF
    on_stack "int n, bit clear: image", -2, IOPL3 | IF | CF | 2
    in_v86 "int n, bit clear, vif alone", IOPL3 | VIF
    int 0x21
    out_redirected
    flags_then "int n, bit clear, vif alone: flags", ALL_VIRTUAL, VM | IOPL3 | VIF
    on_stack "int n, bit clear, vif alone: image", -2, IOPL3 | 2

    ; --- which bit is whose ---
%define PREFIX "vme: vector: "
    redirect_all -1
    one_bit 0x00
    one_bit 0x07
    one_bit 0x08
    one_bit 0x1f
    one_bit 0x20
    one_bit 0x7f
    one_bit 0x80
    one_bit 0xff
    ; the map moves with that of the ports
    redirect_all -1
    mov word [TASK + 102], PORTS_ELSEWHERE
    in_v86 "map below another place", 0
    int 0x21
    out_redirected
    mov word [TASK + 102], PORTS

    ; --- what is never redirected ---
%define PREFIX "vme: never: "
    redirect_all 0
    in_v86 "int3", VIF
    int3
    out_behind BP_, 0
    in_v86 "into", VIF | OF
    into
    out_behind OF_, 0
    in_v86 "a fault", VIF
    xor cx, cx
%$div:
    aam 0
    hlt
    out_at DE, 0, %$div
    flags_then "a fault: flags", VM | VIF | IOPL3, VM | VIF
    in_v86 "int 3 in two bytes is", VIF
    db 0xcd, 0x03
    out_redirected
    in_v86 "int 4 in two bytes is", VIF
    int 4
    out_redirected
    in_v86 "int 13 has no error code", VIF
    int 13
    out_redirected
    ; an interrupt comes by IF, whatever VIF is, and leaves VIF as it is
    push dword 1
    call program_pics
    write_port PIT_CONTROL, 0x30
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    in_v86 "an interrupt", IF
%$wait:
    jmp %$wait
    out_at PIC_VECTORS, 0, %$wait
    write_port PIC1, PIC_EOI
    write_port PIC1 + 1, 0xff
    flags_then "an interrupt: flags", VM | VIF | IF, VM | IF

    ; --- the handler's own flags ---
%define PREFIX "vme: handler: "
    hook keep_flags
    in_v86 "fault", VIF | IF
    hlt
    out_by GP, 0
    expect_eq "vme: handler: keeps vif", [kept_flags], VIF
    hook keep_flags
    in_v86 "fault with vip", VIP | IF
    hlt
    out_by GP, 0
    expect_eq "vme: handler: keeps vip", [kept_flags], VIP

    ; --- the TSS is the kernel's alone ---
%define PREFIX "vme: paging: "
    call paging_identity
    set_pte TASK, TASK | P | W
    change_cr0 0, CR0_PG
    redirect_all -1
    btr dword [REDIRECT + 4], 1
    in_v86 "a task of ring 0", VIF
    int 0x21
    out_redirected
    change_cr0 CR0_PG, 0

    ; --- without VME ---
%define PREFIX "without vme: "
    change_cr4 CR4_VME, CR4_PVI
    redirect_all 0
    in_v86 "cli", VIF
    cli
    out_by GP, 0
    in_v86 "sti", 0
    sti
    out_by GP, 0
    in_v86 "pushf", 0
    pushf
    out_by GP, 0
    in_v86 "popf", 0
    popf
    out_by GP, 0
    in_v86 "iret", 0
    iret
    out_by GP, 0
    in_v86 "int n", 0
    int 0x21
    out_by GP, 0
    in_v86 "int n with iopl 3", IOPL3
    int SYS
    out_behind SYS, 0
    in_v86 "vif and vip at entry", VIF | VIP
    nop
    out_halted

    ; --- ring 3 ---
%assign iopl 0
%rep 3
    %if iopl == 0
    %define PREFIX "pvi: iopl 0: "
    %elif iopl == IOPL1
    %define PREFIX "pvi: iopl 1: "
    %else
    %define PREFIX "pvi: iopl 2: "
    %endif
    in_ring 3, "cli", iopl | VIF | IF | CF
    cli
    ring_through
    flags_then "cli clears vif and no more", ALL_VIRTUAL | CF, iopl | IF | CF
    in_ring 3, "cli while one is pending", iopl | VIP
    cli
    ring_through
    in_ring 3, "sti", iopl
    sti
    ring_through
    flags_then "sti sets vif and no more", ALL_VIRTUAL, iopl | VIF
    in_ring 3, "sti while one is pending", iopl | VIP
    sti
    ring_fault
    flags_then "sti while one is pending: flags", ALL_VIRTUAL, iopl | VIP
    in_ring 3, "vif and vip at entry", iopl | VIF | VIP
    nop
    ring_fault
    ; nothing else is changed by it
    in_ring 3, "pushfd", iopl | VIF
    pushfd
    pop eax
    pushf
    pop bx
    ring_through
    expect_eq "pvi: pushfd: image", [exc_eax], iopl | VIF | 2
    movzx eax, word [exc_ebx]
    expect_eq "pvi: pushf: image", eax, iopl | 2
    in_ring 3, "popf", iopl | IF
    push word IOPL3 | CF
    popf
    ring_through
    flags_then "popf: flags", ALL_VIRTUAL | CF, iopl | IF | CF
    in_ring 3, "popfd", iopl | VIF
    push dword IOPL3 | IF | ZF | ID
    popfd
    ring_through
    flags_then "popfd: flags", ALL_VIRTUAL | ZF | ID, iopl | VIF | ZF | ID
    in_ring 3, "popf with if while one is pending", iopl | VIP
    push word IF
    popf
    ring_through
    in_ring 3, "iretd", iopl | IF
    pushfd
    or dword [esp], VIF | VIP | CF
    and dword [esp], ~IF
    push cs
    push dword %$to
    iretd
%$to:
    ring_through
    flags_then "iretd: flags", ALL_VIRTUAL | CF, iopl | IF | CF
%assign iopl iopl + IOPL1
%endrep
%define PREFIX "pvi: iopl 3: "
    in_ring 3, "cli", IOPL3 | IF | VIF
    cli
    ring_through
    flags_then "cli clears if and no more", ALL_VIRTUAL, IOPL3 | VIF
    in_ring 3, "sti", IOPL3 | VIP
    sti
    nop
    ring_through
    flags_then "sti sets if and no more", ALL_VIRTUAL, IOPL3 | IF | VIP
    in_ring 3, "vif and vip at entry", IOPL3 | VIF | VIP
    nop
    ring_through
    ; ring 0 takes no notice of them, and a return that changes no flags brings them along
%define PREFIX "pvi: "
    try .returned
    push dword VIF | VIP | 2
    push dword KCS
    push dword .with_both
    iretd
.with_both:
    nop
    push dword UDS
    push dword USER_STACK
    push dword UCS
    push dword .user
    retf
.user:
    int SYS
.returned:
    expect_exception "pvi: vif and vip by a far return", GP, 0, .user
%define PREFIX "pvi: other rings: "
    in_ring 2, "cli in ring 2", IOPL1 | VIF
    cli
    ring_fault
    in_ring 1, "sti in ring 1", 0
    sti
    ring_fault
    in_ring 2, "both in ring 2", VIF | VIP
    nop
    ring_through
    in_ring 1, "cli in ring 1 with iopl 1", IOPL1 | IF | VIF
    cli
    ring_through
    flags_then "cli in ring 1 with iopl 1: flags", ALL_VIRTUAL, IOPL1 | VIF
    in_ring 2, "sti in ring 2 with iopl 2", IOPL2 | VIP
    sti
    nop
    ring_through
    flags_then "sti in ring 2 with iopl 2: flags", ALL_VIRTUAL, IOPL2 | VIP | IF

    ; CR4.VME does nothing for ring 3
%define PREFIX "without pvi: "
    change_cr4 CR4_PVI, CR4_VME
    redirect_all 0
    in_ring 3, "cli", VIF
    cli
    ring_fault
    in_ring 3, "sti", 0
    sti
    ring_fault
    in_ring 3, "vif and vip at entry", VIF | VIP
    nop
    ring_through
    in_ring 3, "int n", VIF
    ring_through
    finish

; A TSS with both bitmaps, the pieces of code, and the program's interrupt vectors.
prepare:
    mov edi, TASK
    xor eax, eax
    mov ecx, 0x1000 / 4
    rep stosd
    mov dword [TASK + 4], RING0_STACK
    mov dword [TASK + 8], KDS
    mov word [TASK + 102], PORTS
    set_descriptor SEL0, TASK, 0xfff, TSS_TYPE, 0
    mov eax, SEL0
    ltr ax
    mov esi, pieces
    mov edi, CODE_SEGMENT * 16
    mov ecx, pieces_end - pieces
    rep movsb
    xor edi, edi
    mov eax, CODE_SEGMENT << 16 | AT(redirected)
    mov ecx, 256
    rep stosd
    mov dword [0x22 * 4], CODE_SEGMENT << 16 | AT(come_back)
    mov dword [0x23 * 4], (CODE_SEGMENT - 1) << 16 | (AT(redirected) + 16)
    ret

; A hook for once.
keep_flags:
    pushfd
    pop dword [kept_flags]
    and dword [kept_flags], ALL_VIRTUAL
    hook 0
    add esp, 4
    jmp record_exception.no_hook

section .data
align 4
kept_flags: dd 0

section .pieces
bits 16
redirected:
    hlt
come_back:
    cli
    stc
    iret
    align 16
pieces_end:
bits 32
