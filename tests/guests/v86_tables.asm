; Virtual-8086 mode by the manual's lists: which instructions IOPL decides about, which are undefined and which privileged
; there, ports by the bitmap alone, addresses and limits, and what goes in and out through IRET, gates of 16 and 32 bits and
; task gates.
;
; expect: exit 33
; deviates: qemu "vm in ring 3": IRET sets VM at CPL 0 alone (SDM volume 2, IRET); QEMU does in ring 3.
; deviates: qemu "int1": INT1 is an instruction (volume 2, INT n/INTO/INT3/INT1)
; deviates: qemu "iopl 3: iretd beyond the limit", "a word at the segment's end", "a dword at the stack segment's end", "a
;   32-bit address beyond the limit", "push at sp 1", "a far jump beyond the limit", "over the end": segments have a limit
;   of 64 KiB (volume 3, 20.2.1 and 20.1.1); QEMU checks none.
; deviates: bochs "iopl 3: iretd beyond the limit": #GP(0) of the IRET itself (volume 2, IRET); Bochs goes there first.
%include "include/guest.inc"

CODE_SEGMENT equ 0xffff                 ; the image's first 64 KiB, at 1 MiB: offset 0x10 on
STACK_SEGMENT equ 0x3000
DATA_SEGMENT equ 0x4000
STACK_TOP equ 0x1000
STACK equ STACK_SEGMENT * 16
DATA equ DATA_SEGMENT * 16
IOPL3 equ 3 << 12
IOPL2 equ 2 << 12
RESERVED1 equ 2
TASK equ SCRATCH + 0x1000               ; a TSS with a bitmap
BITMAP equ TASK + 104
TASK_LIMIT equ 104 + 64 - 1             ; ports 0 to 0x1f7; the last byte is the one of ones
OTHER_TASK equ SCRATCH + 0x2000

%define AT(label) ((label) - image + 0x10)

; in_v86 flags [, SP [, code offset]]: what follows, up to one of the ends, runs there with those flags
%macro in_v86 1-2 STACK_TOP
    %push v86
    try %$back
    push dword 0x6666                   ; gs
    push dword 0x7777                   ; fs
    push dword DATA_SEGMENT             ; ds
    push dword 0x5555                   ; es
    push dword STACK_SEGMENT
    push dword %2
    push dword VM | RESERVED1 | (%1)
    push dword CODE_SEGMENT
    push dword AT(%$code)
    iretd
bits 16
%$code:
%endmacro
; through "name": all of it ran
%macro through 1
%$end:
    hlt
bits 32
%$back:
    expect_exception %1, GP, 0, AT(%$end)
    %pop
%endmacro
; out_at "name", vector, error code, label of this piece
%macro out_at 4
bits 32
%$back:
    expect_exception %1, %2, %3, AT(%4)
    %pop
%endmacro
; v86_fault "name", flags, vector, error code, instruction; v86_ok "name", flags, instruction
%macro v86_fault 5+
    in_v86 %2
    %5
    hlt
    out_at %1, %3, %4, %$code
%endmacro
%macro v86_ok 3+
    in_v86 %2
    %3
    through %1
%endmacro
; v86_vector "name", flags, vector, instruction: through its gate, with what follows it
%macro v86_vector 4+
    in_v86 %2
    %4
%$after:
    hlt
    out_at %1, %3, 0, %$after
%endmacro
; what the exception brought: "name", bits of EFLAGS, values
%macro flags_seen 3
    mov eax, [exc_eflags]
    and eax, %2
    expect_eq %1, eax, %3
%endmacro
; the stack when it came, with an error code
%macro sp_seen 2
    mov eax, [exc_frame]
    movzx eax, word [eax + 16]
    expect_eq %1, eax, %2
%endmacro

main:
    xor eax, eax
    mov edi, STACK
    mov ecx, 0x20000 / 4
    rep stosd
    ; a TSS with a bitmap: ports 0x80 to 0x87 and 0x89, 0x8a are free
    mov esi, tss
    mov edi, TASK
    mov ecx, 26
    rep movsd
    mov edi, BITMAP
    mov eax, -1
    mov ecx, 16
    rep stosd
    mov byte [BITMAP + 0x10], 0
    mov byte [BITMAP + 0x11], ~6 & 0xff
    mov word [TASK + 102], 104
    set_descriptor SEL0, TASK, TASK_LIMIT, TSS_TYPE, 0
    mov eax, SEL0
    ltr ax

    ; --- in and out ---
    in_v86 IF | CF
    mov ax, cs
    mov [0], ax
    mov [2], ss
    mov [4], ds
    mov [6], es
    mov [8], fs
    mov [10], gs
    mov [12], sp
    through "iret enters"
    expect_eq "cs and ss", [DATA], STACK_SEGMENT << 16 | CODE_SEGMENT
    expect_eq "ds and es", [DATA + 4], 0x5555 << 16 | DATA_SEGMENT
    expect_eq "fs and gs", [DATA + 8], 0x6666 << 16 | 0x7777
    flags_seen "flags of the frame", -1 & ~RF, VM | IF | CF | RESERVED1
    mov ebx, [exc_frame]
    expect_eq "the frame's place", ebx, RING0_STACK - 40
    expect_eq "frame: cs", [ebx + 8], CODE_SEGMENT
    expect_eq "frame: esp", [ebx + 16], STACK_TOP
    movzx eax, word [ebx + 20]
    expect_eq "frame: ss", eax, STACK_SEGMENT
    movzx eax, word [ebx + 24]
    expect_eq "frame: es", eax, 0x5555
    movzx eax, word [ebx + 28]
    expect_eq "frame: ds", eax, DATA_SEGMENT
    movzx eax, word [ebx + 32]
    expect_eq "frame: fs", eax, 0x7777
    movzx eax, word [ebx + 36]
    expect_eq "frame: gs", eax, 0x6666
    expect_eq "ds is null in the handler", [exc_ds], 0
    expect_eq "es is null in the handler", [exc_es], 0
    mov eax, fs
    expect_eq "fs is null in the handler", eax, 0
    mov eax, gs
    expect_eq "gs is null in the handler", eax, 0
    ; by a gate with its vector, and flags in the handler
    hook .look
    in_v86 IF | IOPL3
    int SYS
    mov byte [0], 0x5a
    through "an interrupt returns to virtual-8086 mode"
    jmp .looked
.look:
    cmp dword [exc_vector], SYS
    jne .no
    pushfd
    pop eax
    mov [OTHER_TASK], eax
    ret
.no:
    mov dword [exception_hook], 0
    add esp, 4
    jmp record_exception.no_hook
.looked:
    mov eax, [OTHER_TASK]
    and eax, VM | IF | TF | NT | RF | IOPL3
    expect_eq "flags in the handler", eax, IOPL3
    movzx eax, byte [DATA]
    expect_eq "it went on", eax, 0x5a

    ; VM comes by IRET in ring 0 alone
    try .ring3
    mov dword [user_eflags], RESERVED1
    enter_ring 3, .in3
.in3:
    pushfd
    or dword [esp], VM
    popfd
    pushfd
    pop eax
    pushfd
    or dword [esp], VM
    push cs
    push dword .back3
    iretd
.back3:
    pushfd
    pop ecx
    int SYS
.ring3:
    expect_exception "vm in ring 3", SYS, 0, .ring3
    mov eax, [exc_eax]
    or eax, [exc_ecx]
    and eax, VM
    expect_eq "popfd and iretd do not set vm in ring 3", eax, 0
    pushfd
    or dword [esp], VM
    popfd
    pushfd
    pop eax
    and eax, VM
    expect_eq "popfd does not set vm in ring 0", eax, 0

    ; --- IOPL ---
%assign level 0
%rep 3
    v86_fault "cli, sti, pushf, popf, int n, iret: cli", level << 12, GP, 0, cli
    v86_fault "sti", level << 12, GP, 0, sti
    v86_fault "pushf", level << 12, GP, 0, pushf
    sp_seen "pushf: sp", STACK_TOP
    v86_fault "pushfd", level << 12, GP, 0, pushfd
    v86_fault "popf", level << 12, GP, 0, popf
    v86_fault "popfd", level << 12, GP, 0, popfd
    v86_fault "iret", level << 12, GP, 0, iret
    v86_fault "iretd", level << 12, GP, 0, iretd
    v86_fault "int n", level << 12, GP, 0, int SYS
    v86_vector "int3", level << 12, BP_, int3
    v86_vector "into", level << 12 | OF, OF_, into
    v86_ok "into without of", level << 12, into
    v86_vector "int1", level << 12, DB_, {db 0xf1}
    v86_ok "in of a free port", level << 12, in al, 0x80
    v86_fault "in of another", level << 12, GP, 0, in al, 0x88
    %assign level level + 1
%endrep
    v86_fault "int 3 with two bytes", IOPL2, GP, 0, {db 0xcd, 3}
    in_v86 IOPL3 | IF
    cli
    through "iopl 3: cli"
    flags_seen "iopl 3: cli: if", IF, 0
    in_v86 IOPL3
    sti
    nop
    through "iopl 3: sti"
    flags_seen "iopl 3: sti: if", IF, IF
    in_v86 IOPL3 | IF | NT | DF | AC
    pushf
    pushfd
    pop dword [0]
    pop word [4]
    through "iopl 3: pushf"
    mov eax, [DATA]
    expect_eq "iopl 3: pushfd: image without vm", eax, IOPL3 | IF | NT | DF | AC | RESERVED1
    movzx eax, word [DATA + 4]
    expect_eq "iopl 3: pushf: image", eax, IOPL3 | IF | NT | DF | RESERVED1
    in_v86 IOPL3
    push word IF | NT | CF
    popf
    through "iopl 3: popf"
    flags_seen "iopl 3: popf: iopl stays", IOPL3 | IF | NT | CF | VM, IOPL3 | IF | NT | CF | VM
    in_v86 IOPL3
    push dword AC | ID | IF
    popfd
    through "iopl 3: popfd"
    flags_seen "iopl 3: popfd: vm and iopl stay", IOPL3 | IF | AC | ID | VM, IOPL3 | IF | AC | ID | VM
    in_v86 IOPL3
    push word IF | ZF
    push word DATA_SEGMENT
    push word 0x100
    mov byte [0x100], 0xf4
    iret
    out_at "iopl 3: iret", GP, 0, image + 0xf0
    expect_eq "iopl 3: iret: cs", [exc_cs], DATA_SEGMENT
    flags_seen "iopl 3: iret: flags", IOPL3 | IF | ZF | VM, IOPL3 | IF | ZF | VM
    in_v86 IOPL3
    push dword IF | AC
    push dword DATA_SEGMENT
    push dword 0x100
    iretd
    out_at "iopl 3: iretd", GP, 0, image + 0xf0
    flags_seen "iopl 3: iretd: flags", IOPL3 | IF | AC | VM, IOPL3 | IF | AC | VM
    in_v86 IOPL3
    push dword 0
    push dword DATA_SEGMENT
    push dword 0x10000
%$bad:
    iretd
    hlt
    out_at "iopl 3: iretd beyond the limit", GP, 0, %$bad
    v86_vector "iopl 3: int n", IOPL3, SYS, int SYS
    v86_fault "iopl 3: int n of a gate of ring 0", IOPL3, GP, 0x77 * 8 + 2, int 0x77
    v86_vector "iopl 3: int 3 with two bytes", IOPL3, BP_, {db 0xcd, 3}

    ; --- undefined and privileged ---
    v86_fault "sldt", IOPL3, UD, 0, sldt ax
    v86_fault "str", IOPL3, UD, 0, str ax
    v86_fault "lldt", IOPL3, UD, 0, lldt ax
    v86_fault "ltr", IOPL3, UD, 0, ltr ax
    v86_fault "lar", IOPL3, UD, 0, lar ax, ax
    v86_fault "lsl", IOPL3, UD, 0, lsl ax, ax
    v86_fault "verr", IOPL3, UD, 0, verr ax
    v86_fault "verw", IOPL3, UD, 0, verw ax
    v86_fault "arpl", IOPL3, UD, 0, arpl ax, ax
    v86_fault "lgdt", IOPL3, GP, 0, lgdt [0]
    v86_fault "lidt", IOPL3, GP, 0, lidt [0]
    v86_fault "lmsw", IOPL3, GP, 0, lmsw ax
    v86_fault "clts", IOPL3, GP, 0, clts
    v86_fault "mov from cr0", IOPL3, GP, 0, mov eax, cr0
    v86_fault "mov to cr3", IOPL3, GP, 0, mov cr3, eax
    v86_fault "mov from dr7", IOPL3, GP, 0, mov eax, dr7
    v86_fault "invlpg", IOPL3, GP, 0, invlpg [0]
    v86_fault "wbinvd", IOPL3, GP, 0, wbinvd
    v86_fault "rdmsr", IOPL3, GP, 0, rdmsr
    in_v86 0
    smsw ax
    sgdt [0x20]
    sidt [0x28]
    through "smsw, sgdt and sidt"
    expect_eq "sgdt", [DATA + 0x22], gdt
    expect_eq "sidt", [DATA + 0x2a], idt

    ; --- ports: the bitmap, whatever IOPL says ---
    in_v86 0
    in al, 0x80
    out 0x87, al
    in al, 0x89
    through "bytes"
    v86_fault "iopl 3 does not help", IOPL3, GP, 0, in al, 0x21
    v86_fault "a word with a forbidden end", 0, GP, 0, in ax, 0x87
    v86_ok "a word of two free ones", 0, in ax, 0x89
    v86_fault "a dword with a forbidden end", 0, GP, 0, in eax, 0x85
    v86_ok "a dword of free ones", 0, in eax, 0x84
    in_v86 0
    mov dx, 0x1f8                       ; the bitmap's last byte, which stands for no ports
    in al, dx
    hlt
    out_at "beyond the bitmap", GP, 0, %$code + 3
    in_v86 0
    mov dx, 0xffff
    in al, dx
    hlt
    out_at "the last port", GP, 0, %$code + 3
    in_v86 0
    mov dx, 0x80
    mov di, 0x30
    push ds
    pop es
    cld
    insb
    insw
    through "ins of a free port"
    in_v86 0
    mov dx, 0x88
    mov si, 0x30
    outsb
    hlt
    out_at "outs to another", GP, 0, %$code + 6

    ; --- addresses ---
    in_v86 0
    mov ax, 0xf000
    mov ds, ax
    mov ax, 0x1234
    mov es, ax
    mov ax, 0xffff
    mov fs, ax
    mov ebx, [fs:0x10]                  ; 1 MiB: no wrap
    mov [ss:0x800], ebx
    lds si, [cs:AT(pointer)]
    mov [0], ds
    through "segments"
    expect_eq "1 MiB", [STACK + 0x800], MULTIBOOT_MAGIC
    movzx eax, word [DATA]
    expect_eq "lds", eax, DATA_SEGMENT
    in_v86 0
    mov si, 0xffff
    mov al, [si]
    mov ax, [si]
    hlt
    out_at "a word at the segment's end", GP, 0, %$code + 5
    in_v86 0
    mov bp, 0xfffd
    mov eax, [bp]
    hlt
    out_at "a dword at the stack segment's end", SS_, 0, %$code + 3
    in_v86 0
    mov esi, 0x10000
    mov al, [esi]
    hlt
    out_at "a 32-bit address beyond the limit", GP, 0, %$code + 6
    in_v86 0, 1
    push ax
    hlt
    out_at "push at sp 1", SS_, 0, %$code
    in_v86 0, 0
    push word 0x1357
    mov [0], sp
    through "push at sp 0"
    movzx eax, word [STACK + 0xfffe]
    expect_eq "push at sp 0: it wraps", eax, 0x1357
    movzx eax, word [DATA]
    expect_eq "push at sp 0: sp", eax, 0xfffe
    in_v86 0
    jmp dword CODE_SEGMENT:0x10000
    hlt
    out_at "a far jump beyond the limit", GP, 0, %$code
    mov byte [DATA + 0x40], 0xf4
    in_v86 0
    call DATA_SEGMENT:0x40
after_far_call:
    out_at "a far call", GP, 0, image + 0x30
    mov eax, [STACK + STACK_TOP - 4]
    expect_eq "a far call: cs and ip", eax, CODE_SEGMENT << 16 | AT(after_far_call)
    ; code that runs over the end of its segment
    mov byte [DATA + 0xffff], 0x90
    in_v86 0
    jmp DATA_SEGMENT:0xffff
    out_at "over the end", GP, 0, image + 0x10000 - 0x10

    ; --- TF ---
    in_v86 TF
    nop
%$second:
    hlt
    out_at "a step", DB_, 0, %$second
    flags_seen "a step: tf in the frame", TF | VM, TF | VM
    v86_fault "a step of what faults", TF, GP, 0, cli

    ; --- pages: user's ---
    call paging_identity
    set_pte DATA, DATA | P | W
    change_cr0 0, CR0_PG
    v86_fault "a supervisor's page", 0, PF_, PFE_P | PFE_U, mov al, [5]
    expect_eq "a supervisor's page: cr2", [exc_cr2], DATA + 5
    v86_fault "a store", 0, PF_, PFE_P | PFE_U | PFE_W, mov [6], al
    set_pte DATA, 0
    invlpg [DATA]
    v86_fault "an absent page", IOPL3, PF_, PFE_U, mov al, [5]
    change_cr0 CR0_PG, 0

    ; --- gates ---
    set_idt_gate SYS, UCS & ~3, exception_stubs + SYS * STUB_SIZE, INT_GATE | DPL3
    v86_fault "a gate to ring 3", IOPL3, GP, UCS & ~3, int SYS
    set_descriptor SEL1, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    set_idt_gate SYS, SEL1, exception_stubs + SYS * STUB_SIZE, INT_GATE | DPL3
    v86_fault "a gate to a conforming segment", IOPL3, GP, SEL1, int SYS
    set_idt_gate SYS, KCS, exception_stubs + SYS * STUB_SIZE, (INT_GATE | DPL3) ^ NOT_PRESENT
    v86_fault "an absent gate", IOPL3, NP, SYS * 8 + 2, int SYS
    set_idt_gate SYS, KCS, exception_stubs + SYS * STUB_SIZE, TRAP_GATE | DPL3
    in_v86 IOPL3 | IF
    int SYS
%$after:
    hlt
    out_at "a trap gate", SYS, 0, %$after
    ; of 16 bits: words
    set_descriptor SEL1, ADDRESS(small_gate), 0xffff, CODE_RX, 0
    mov dword [idt + 8 * SYS], SEL1 << 16
    mov dword [idt + 8 * SYS + 4], 0x86 << 8 | DPL3 << 8
    in_v86 IOPL3 | IF | ZF
    int SYS
after_small:
    hlt
    out_at "a gate of 16 bits", 0x99, 0, image
    jmp small_done
small_gate:
bits 16
    mov ebp, esp
    jmp dword KCS:small_arrived
bits 32
small_arrived:
    mov eax, KDS
    mov ds, eax
    mov es, eax
    mov dword [exc_vector], 0x99
    mov dword [exc_error], 0
    mov dword [exc_eip], 0x10
    push dword [resume_eip]
    ret
small_done:
    expect_eq "a gate of 16 bits: the frame's place", ebp, RING0_STACK - 18
    expect_eq "a gate of 16 bits: ip and cs", [ebp], CODE_SEGMENT << 16 | AT(after_small)
    movzx eax, word [ebp + 4]
    expect_eq "a gate of 16 bits: flags", eax, IOPL3 | IF | ZF | RESERVED1
    expect_eq "a gate of 16 bits: sp and ss", [ebp + 6], STACK_SEGMENT << 16 | STACK_TOP
    expect_eq "a gate of 16 bits: es and ds", [ebp + 10], DATA_SEGMENT << 16 | 0x5555
    expect_eq "a gate of 16 bits: fs and gs", [ebp + 14], 0x6666 << 16 | 0x7777
    mov esp, [resume_esp]
    ; a task gate, and back
    mov edi, OTHER_TASK
    mov ecx, 26
    xor eax, eax
    rep stosd
    mov dword [OTHER_TASK + 32], monitor
    mov dword [OTHER_TASK + 36], RESERVED1
    mov dword [OTHER_TASK + 56], USER_STACK
    mov dword [OTHER_TASK + 72], KDS
    mov dword [OTHER_TASK + 76], KCS
    mov dword [OTHER_TASK + 80], KDS
    mov dword [OTHER_TASK + 84], KDS
    set_descriptor SEL2, OTHER_TASK, 103, TSS_TYPE, 0
    mov dword [idt + 8 * SYS], SEL2 << 16
    mov dword [idt + 8 * SYS + 4], (TASK_GATE | DPL3) << 8
    in_v86 IOPL3 | CF
    mov ebx, 0x12345678
    int SYS
after_task:
    mov [0], ebx
    mov [4], gs
    through "a task gate"
    expect_eq "back from the task: ebx", [DATA], 0x12345678
    movzx eax, word [DATA + 4]
    expect_eq "back from the task: gs", eax, 0x6666
    flags_seen "back from the task: flags", VM | IOPL3 | CF | NT, VM | IOPL3 | CF
    finish

monitor:
    mov eax, [TASK + 36]
    and eax, VM | IOPL3 | CF | NT
    expect_eq "saved by the switch: flags", eax, VM | IOPL3 | CF
    expect_eq "saved by the switch: eip", [TASK + 32], AT(after_task)
    movzx eax, word [TASK + 76]
    expect_eq "saved by the switch: cs", eax, CODE_SEGMENT
    movzx eax, word [TASK + 92]
    expect_eq "saved by the switch: gs", eax, 0x6666
    iretd

pointer: dw STACK_TOP, DATA_SEGMENT
