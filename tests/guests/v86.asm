; Virtual-8086 mode: entry and return, the frame of an exception, what IOPL decides, the I/O
; permission bitmap, privileged and protected-mode instructions, limits and faults, and CR4.VME and
; CR4.PVI.
;
; expect: exit 33
; deviates: qemu "limit:*": its TCG checks no segment limits
; deviates: qemu "rf": a fault's frame has RF set (volume 3, 17.3.1.1)
; deviates: qemu "a gate into ring 1": the code segment's DPL must be 0 (volume 3, 20.3.1), which is looked
;   at before the stack of the new ring
; deviates: qemu "vme: cli, sti and pushf", "vme: vif shows as if", "vme: cli", "vme: popf",
;   "vme: popf sets vif", "vme: int n stays*", "vme: the handler's flags",
;   "vme: with iopl 3 the handler has if clear", "pvi:*": its TCG has neither VME nor PVI
%include "include/guest.inc"

V86_TOP equ 0x1000
VIF equ 1 << 19
VIP equ 1 << 20
CR4_VME equ 1 << 0
CR4_PVI equ 1 << 1
REAL_SEGMENT equ 0x1000
REAL_STACK   equ 0x2000
REAL_DATA    equ 0x3000
REAL_MORE    equ 0x4000

; v86 flags, label: goes there with DS = ES = REAL_DATA, FS = REAL_MORE, GS = 0x1234. Preceded by
; `try`: only an exception comes back.
%macro v86 2
    push dword 0x1234
    push dword REAL_MORE
    push dword REAL_DATA
    push dword REAL_DATA
    push dword REAL_STACK
    push dword V86_TOP
    push dword VM | (%1)
    push dword REAL_SEGMENT
    push dword AT(%2)
    iretd
%endmacro
; v86_begin "name", flags: what follows, up to v86_end, runs in V86 mode.
; v86_end: a HLT ends it. v86_end vector, error, label: an exception with that place does.
%macro v86_begin 2
    %push v86
    %define %$name %1
    try %$done
    v86 %2, %$start
    [section .v86]
bits 16
%$start:
%endmacro
%macro v86_end 0-3
%$after:
    hlt
bits 32
section .text
%$done:
    %if %0 == 0
    expect_exception %$name, GP, 0, AT(%$after)
    %elif %0 == 2
    expect_exception %$name, %1, %2, AT(%$after)
    %else
    expect_exception %$name, %1, %2, AT(%3)
    %endif
    %pop
%endmacro
; One instruction: in_v86_fault "name", flags, vector, error, instruction; in_v86_trap likewise, with
; the place behind it; in_v86 "name", flags, instruction.
%macro in_v86_fault 5+
    v86_begin %1, %2
    %5
    v86_end %3, %4, %$start
%endmacro
%macro in_v86_trap 5+
    v86_begin %1, %2
    %5
    v86_end %3, %4
%endmacro
%macro in_v86 3+
    v86_begin %1, %2
    %3
    v86_end
%endmacro
PIECES equ 0
%define AT(label) ((label) - v86_pieces + PIECES)
IOPL3 equ 0x3000

section .v86 align=16
v86_pieces:
section .text

main:
    call copy_pieces
    call build_bitmap

    ; --- there and back ---
    v86_begin "there and back", IOPL3 | IF | CF | 2
    mov ax, ds
    mov bx, fs
    mov cx, gs
    mov dx, ss
    mov si, cs
    mov di, sp
    mov word [0x10], 0x4321
    v86_end
    expect_eq "cs", [exc_cs], REAL_SEGMENT
    mov eax, [exc_eflags]
    and eax, VM | IOPL3 | IF | CF
    expect_eq "flags", eax, VM | IOPL3 | IF | CF
    mov eax, [exc_eflags]
    and eax, RF
    expect_eq "rf", eax, RF
    expect_eq "data segments are null", [exc_ds], 0
    movzx eax, word [exc_eax]
    expect_eq "ds", eax, REAL_DATA
    movzx eax, word [exc_ebx]
    expect_eq "fs", eax, REAL_MORE
    movzx eax, word [exc_ecx]
    expect_eq "gs", eax, 0x1234
    movzx eax, word [exc_edx]
    expect_eq "ss", eax, REAL_STACK
    movzx eax, word [exc_esi]
    expect_eq "cs in a register", eax, REAL_SEGMENT
    movzx eax, word [exc_edi]
    expect_eq "sp", eax, V86_TOP
    movzx eax, word [REAL_DATA * 16 + 0x10]
    expect_eq "a store", eax, 0x4321
    mov esi, [exc_frame]
    expect_eq "frame: esp", [esi + 16], V86_TOP
    expect_eq "frame: ss", [esi + 20], REAL_STACK
    expect_eq "frame: es", [esi + 24], REAL_DATA
    expect_eq "frame: ds", [esi + 28], REAL_DATA
    expect_eq "frame: fs", [esi + 32], REAL_MORE
    expect_eq "frame: gs", [esi + 36], 0x1234
    mov eax, fs
    expect_eq "fs is null", eax, 0
    mov eax, gs
    expect_eq "gs is null", eax, 0

    ; --- IOPL ---
    in_v86 "cli with iopl 3", IOPL3 | IF, cli
    mov eax, [exc_eflags]
    and eax, IF
    expect_eq "cli clears if", eax, 0
    v86_begin "sti with iopl 3", IOPL3
    sti
    nop
    v86_end
    mov eax, [exc_eflags]
    and eax, IF
    expect_eq "sti sets if", eax, IF
    in_v86 "pushf with iopl 3", IOPL3, pushf
    v86_begin "pushfd with iopl 3", IOPL3
    pushfd
    pop eax
    v86_end
    mov eax, [exc_eax]
    and eax, VM | IOPL3 | RF
    expect_eq "pushfd hides vm", eax, IOPL3
    v86_begin "popf with iopl 3", IOPL3
    push word 0x4201
    popf
    v86_end
    mov eax, [exc_eflags]
    and eax, VM | IOPL3 | IF | CF | NT
    expect_eq "popf keeps vm and iopl", eax, VM | IOPL3 | IF | CF | NT
    v86_begin "popfd with iopl 3", IOPL3
    push dword 0x201
    popfd
    v86_end
    mov eax, [exc_eflags]
    and eax, VM | IOPL3 | IF | CF
    expect_eq "popfd keeps vm and iopl", eax, VM | IOPL3 | IF | CF
    v86_begin "iret with iopl 3", IOPL3
    push word 0x0201
    push cs
    push word AT(%$after)
    iret
    ud2
    v86_end
    v86_begin "iretd with iopl 3", IOPL3
    push dword 0x0201
    push dword REAL_SEGMENT
    push dword AT(%$after)
    iretd
    ud2
    v86_end
    in_v86_trap "int n with iopl 3", IOPL3 | IF, SYS, 0, int SYS
    mov eax, [exc_eflags]
    and eax, VM | IOPL3 | IF | RF
    expect_eq "int n: flags", eax, VM | IOPL3 | IF
    in_v86_fault "cli with iopl 0", IF, GP, 0, cli
    in_v86_fault "sti with iopl 2", 0x2000, GP, 0, sti
    in_v86_fault "pushf with iopl 0", 0, GP, 0, pushf
    in_v86_fault "pushfd with iopl 0", 0, GP, 0, pushfd
    in_v86_fault "popf with iopl 0", 0, GP, 0, popf
    in_v86_fault "popfd with iopl 0", 0, GP, 0, popfd
    in_v86_fault "iret with iopl 0", 0, GP, 0, iret
    in_v86_fault "iretd with iopl 0", 0, GP, 0, iretd
    in_v86_fault "int n with iopl 0", 0, GP, 0, int SYS
    in_v86_trap "int3 with iopl 0", 0, BP_, 0, int3
    in_v86_trap "into with iopl 0", OF, OF_, 0, into
    in_v86_fault "int n with a gate of ring 0", IOPL3, GP, 8 * 0x81 + 2, int 0x81
    in_v86_fault "hlt with iopl 3", IOPL3, GP, 0, hlt

    ; --- gates ---
    set_idt_gate 0x90, RING1_CS, start, INT_GATE | DPL3
    in_v86_fault "a gate into ring 1", IOPL3, GP, RING1_CS & ~3, int 0x90
    set_descriptor SEL0, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    set_idt_gate 0x90, SEL0, start, INT_GATE | DPL3
    in_v86_fault "a gate into conforming code", IOPL3, GP, SEL0, int 0x90
    ; A handler that returns: three times over
    mov dword [exc_count], 0
    set_idt_gate 0x90, KCS, service, TRAP_GATE | DPL3
    v86_begin "service", IOPL3
    mov cx, 1000
    mov ax, 1
.again:
    int 0x90
    loop .again
    v86_end
    movzx eax, word [exc_eax]
    expect_eq "service: ax", eax, 1001

    ; --- instructions ---
    in_v86_fault "mov to cr0", IOPL3, GP, 0, mov cr0, eax
    in_v86_fault "mov from cr0", IOPL3, GP, 0, mov eax, cr0
    in_v86_fault "mov from dr0", IOPL3, GP, 0, mov eax, dr0
    in_v86_fault "clts", IOPL3, GP, 0, clts
    in_v86_fault "lmsw", IOPL3, GP, 0, lmsw ax
    in_v86_fault "lgdt", IOPL3, GP, 0, lgdt [0]
    in_v86_fault "invlpg", IOPL3, GP, 0, invlpg [0]
    in_v86 "smsw", IOPL3, smsw ax
    in_v86 "sgdt", IOPL3, sgdt [0x20]
    in_v86_fault "lldt", IOPL3, UD, 0, lldt ax
    in_v86_fault "ltr", IOPL3, UD, 0, ltr ax
    in_v86_fault "sldt", IOPL3, UD, 0, sldt ax
    in_v86_fault "str", IOPL3, UD, 0, str ax
    in_v86_fault "verr", IOPL3, UD, 0, verr ax
    in_v86_fault "lar", IOPL3, UD, 0, lar ax, bx
    in_v86_fault "lsl", IOPL3, UD, 0, lsl ax, bx
    in_v86_fault "arpl", IOPL3, UD, 0, arpl ax, bx
    in_v86_fault "ud2", IOPL3, UD, 0, ud2
    v86_begin "div", IOPL3
    xor cl, cl
.div:
    div cl
    v86_end DE, 0, .div

    v86_begin "limit: a word over the end", IOPL3
    mov bx, 0xffff
.over:
    mov ax, [bx]
    v86_end GP, 0, .over
    v86_begin "limit: the stack over the end", IOPL3
    mov bp, 0xffff
.over_ss:
    mov ax, [bp]
    v86_end SS_, 0, .over_ss
    v86_begin "limit: 32-bit addresses", IOPL3
    mov ebx, 0x10000
.wide:
    mov ax, [ebx]
    v86_end GP, 0, .wide
    v86_begin "above 1 MiB", IOPL3
    mov ax, 0xffff
    mov ds, ax
    mov eax, [0x10]
    v86_end
    expect_eq "above 1 MiB: what is there", [exc_eax], MULTIBOOT_MAGIC
    v86_begin "far transfers", IOPL3
    call REAL_SEGMENT - 1:AT(.far) + 16
    jmp .over_far
.far:
    mov ax, cs
    retf
.over_far:
    push ds
    mov bx, 0x1111
    mov es, bx
    mov dword [0x30], 0x22223333
    lds si, [0x30]
    mov cx, ds
    pop ds
    mov dx, es
    v86_end
    movzx eax, word [exc_eax]
    expect_eq "far call: cs", eax, REAL_SEGMENT - 1
    movzx eax, word [exc_ecx]
    expect_eq "lds", eax, 0x2222
    movzx eax, word [exc_edx]
    expect_eq "mov es", eax, 0x1111
    v86_begin "limit: a far jump beyond the limit", IOPL3
    jmp dword REAL_SEGMENT:0x10000
    v86_end GP, 0, %$start
    mov dword [steps], 0
    hook step
    v86_begin "single steps", IOPL3 | TF
    nop
    mov ax, ss
    mov ss, ax
    nop
    xor ax, ax
    v86_end
    hook 0
    expect_eq "single steps: how many", [steps], 4

    ; --- ports ---
    in_v86 "an allowed port", 0, in al, 0x80
    in_v86_fault "a port that is not, with iopl 3", IOPL3, GP, 0, in al, 0x81
    in_v86_fault "a word of ports", IOPL3, GP, 0, in ax, 0x80
    in_v86_fault "out", IOPL3, GP, 0, out 0x81, al
    v86_begin "ins", IOPL3
    mov dx, 0x81
.ins:
    insb
    v86_end GP, 0, .ins
    v86_begin "a port beyond the bitmap", IOPL3
    mov dx, 0xffff
.beyond:
    in al, dx
    v86_end GP, 0, .beyond

    ; --- paging ---
    call paging_identity
    change_cr0 0, CR0_PG
    and dword [PAGE_TABLES + (REAL_DATA >> 8) * 4], ~U
    v86_begin "a page of the supervisor", IOPL3
.page:
    mov [0x123], al
    v86_end PF_, PFE_P | PFE_W | PFE_U, .page
    expect_eq "a page of the supervisor: cr2", [exc_cr2], REAL_DATA * 16 + 0x123
    or dword [PAGE_TABLES + (REAL_DATA >> 8) * 4], U
    change_cr0 CR0_PG, 0

    ; --- CR4.VME ---
    change_cr4 0, CR4_VME
    v86_begin "vme: cli, sti and pushf", VIF
    pushf
    pop ax
    cli
    pushf
    pop bx
    sti
    v86_end
    movzx eax, word [exc_eax]
    and eax, IF | IOPL
    expect_eq "vme: vif shows as if", eax, IF | IOPL
    movzx eax, word [exc_ebx]
    and eax, IF | IOPL
    expect_eq "vme: cli", eax, IOPL
    mov eax, [exc_eflags]
    and eax, VIF | IF | IOPL
    expect_eq "vme: sti", eax, VIF
    v86_begin "vme: popf", IF
    push word IF
    popf
    v86_end
    mov eax, [exc_eflags]
    and eax, VIF | IF
    expect_eq "vme: popf sets vif", eax, VIF | IF
    v86_begin "vme: popf with tf", 0
    push word TF
.popf:
    popf
    v86_end GP, 0, .popf
    v86_begin "vme: popf with vip", VIP
    push word IF
.popf_vip:
    popf
    v86_end GP, 0, .popf_vip
    in_v86_fault "vme: sti with vip", VIP, GP, 0, sti
    in_v86_fault "vme: pushfd", 0, GP, 0, pushfd
    in_v86_fault "vme: popfd", 0, GP, 0, popfd
    in_v86_fault "vme: iretd", 0, GP, 0, iretd
    in_v86 "vme: cli with iopl 3", IOPL3 | IF | VIF, cli
    mov eax, [exc_eflags]
    and eax, VIF | IF
    expect_eq "vme: cli with iopl 3 clears if", eax, VIF
    ; redirected interrupts
    mov dword [0x21 * 4], REAL_SEGMENT << 16 | AT(vme_handler)
    v86_begin "vme: int n stays", VIF
    mov cx, 0
    int 0x21
    v86_end
    movzx eax, word [exc_ecx]
    expect_eq "vme: the handler's flags", eax, IOPL
    movzx eax, word [exc_edx]
    and eax, IF | IOPL
    expect_eq "vme: flags that it is given", eax, IF | IOPL
    mov eax, [exc_eflags]
    and eax, VIF | IF
    expect_eq "vme: iret brings vif back", eax, VIF
    v86_begin "vme: int n stays, with iopl 3", IOPL3 | IF
    int 0x21
    v86_end
    movzx eax, word [exc_ecx]
    expect_eq "vme: with iopl 3 the handler has if clear", eax, IOPL
    in_v86_fault "vme: int n that does not", VIF, GP, 0, int SYS
    in_v86_trap "vme: int n that does not, with iopl 3", IOPL3, SYS, 0, int SYS
    in_v86_trap "vme: int3 is never redirected", 0, BP_, 0, int3
    change_cr4 CR4_VME, 0

    ; --- CR4.PVI: ring 3 of protected mode ---
    mov dword [user_eflags], 2 | VIF
    expect_ring_fault 3, "cli without pvi", GP, 0, cli
    change_cr4 0, CR4_PVI
    expect_ring_ok 3, "pvi: cli", cli
    mov eax, [exc_eflags]
    and eax, VIF | IF
    expect_eq "pvi: cli clears vif", eax, 0
    mov dword [user_eflags], 2
    expect_ring_ok 3, "pvi: sti", sti
    mov eax, [exc_eflags]
    and eax, VIF | IF
    expect_eq "pvi: sti sets vif", eax, VIF
    mov dword [user_eflags], 2 | VIP
    expect_ring_fault 3, "pvi: sti with vip", GP, 0, sti
    mov dword [user_eflags], 2 | VIF
    try .pvi
    enter_ring 3, .pushf
.pushf:
    pushfd
    pop eax
    int SYS
.pvi:
    expect_exception "pvi: pushf", SYS, 0, .pvi
    mov eax, [exc_eax]
    and eax, VIF | IF | IOPL
    expect_eq "pvi: pushf shows what is", eax, VIF
    change_cr4 CR4_PVI, 0
    finish

service:
    inc eax
    iretd

step:
    cmp dword [exc_vector], DB_
    jne .other
    inc dword [steps]
    ret
.other:                                 ; HLT: once more, without the hook
    and dword [ebp + FRAME_EFLAGS], ~TF
    mov dword [exception_hook], 0
    ret

[section .v86]
bits 16
vme_handler:
    mov bp, sp
    mov dx, [bp + 4]
    pushf
    pop cx
    and cx, IF | IOPL
    iret
bits 32
section .text

; The pieces to REAL_SEGMENT, and real-mode vectors that lead to a HLT.
copy_pieces:
    mov esi, v86_pieces
    mov edi, REAL_SEGMENT * 16
    mov ecx, 0x1000
    rep movsb
    ret

; A TSS with a bitmap of 256 ports, of which 0x80 alone is allowed; redirection of INT 0x21 alone.
build_bitmap:
    mov edi, big_tss + 104
    mov ecx, 32 + 32 + 1
    mov al, 0xff
    rep stosb
    mov dword [big_tss + 4], RING0_STACK
    mov dword [big_tss + 8], KDS
    mov word [big_tss + 102], 104 + 32
    and byte [big_tss + 104 + 0x21 / 8], ~(1 << (0x21 & 7)) & 0xff
    and byte [big_tss + 104 + 32 + 0x80 / 8], ~(1 << (0x80 & 7)) & 0xff
    mov eax, big_tss
    mov word [gdt + TSS_SEL], 104 + 64
    mov [gdt + TSS_SEL + 2], ax
    shr eax, 16
    mov [gdt + TSS_SEL + 4], al
    mov byte [gdt + TSS_SEL + 5], TSS_TYPE
    mov [gdt + TSS_SEL + 7], ah
    mov eax, TSS_SEL
    ltr ax
    ret

section .data
align 16
big_tss: times 104 + 65 db 0
steps: dd 0
