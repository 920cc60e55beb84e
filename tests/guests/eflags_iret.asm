; EFLAGS through POPF and IRET in ring 0: every bit, both operand sizes, ID, AC, NT, RF, and IRET
; within ring 0.
;
; expect: exit 33
; deviates: qemu "iret beyond the limit": #GP(0) (SDM volume 2, IRET); QEMU does not compare.
%include "include/guest.inc"

%macro set_flags 1
    push dword %1
    popfd
%endmacro

main:
    set_flags 0xffffffff & ~(TF | VM)
    pushfd
    set_flags 2
    pop eax
    and eax, ~(3 << 19)                 ; VIF and VIP are the models' business
    expect_eq "all bits", eax, ARITHMETIC | IF | DF | IOPL | NT | AC | ID | 2
    set_flags 0
    pushfd
    pop eax
    expect_eq "no bits", eax, 2
    set_flags 2 | ID
    expect_flags "ID", ID, ID
    set_flags 2 | AC
    expect_flags "AC", AC, AC
    set_flags 2 | NT
    expect_flags "NT", NT, NT
    set_flags 2 | RF
    expect_flags "popf clears RF", RF, 0
    set_flags 2 | VM
    expect_flags "popf ignores VM", VM, 0
    set_flags 2 | AC | ID
    push word 2 | CF
    popfw
    expect_flags "popfw keeps AC and ID", AC | ID | CF, AC | ID | CF
    set_flags 2

    ; IRET in ring 0: EIP, CS, EFLAGS; ESP moves by 12
    mov edi, esp
    push dword 2 | CF | ZF | DF | IF | AC | ID
    push dword KCS
    push dword .first
    iretd
.first:
    expect_flags "iret", CF | ZF | DF | IF | AC | ID, CF | ZF | DF | IF | AC | ID
    set_flags 2
    expect_eq "iret: esp", esp, edi
    set_descriptor SEL0, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    push dword 2 | RF
    push dword SEL0
    push dword .second
    iretd
.second:
    mov eax, cs
    expect_eq "iret to another code segment", eax, SEL0
    push dword 2
    push dword KCS
    push dword .third
    iretd
.third:
    ; 16 bits: three words, EIP cut, upper flags kept
    mov dword [0x9000], 0x77b39090      ; nop; nop; mov bl, 0x77
    mov byte [0x9004], 0xc3
    set_flags 2 | AC
    push dword .fourth
    xor ebx, ebx
    push word 2 | CF
    push word KCS
    push word 0x9000
    iretw
.fourth:
    expect_flags "iretw", CF | AC, CF | AC
    set_flags 2
    expect_eq "iretw: went there", ebx, 0x77
    expect_eq "iretw: esp", esp, edi

    ; its faults in ring 0
    push dword 2
    push dword 0
    push dword .stray
    expect_fault "iret to null", GP, 0, iretd
    mov dword [esp + 4], KDS
    expect_fault "iret to data", GP, KDS, iretd
    mov dword [esp + 4], GDT_ENTRIES * 8
    expect_fault "iret beyond the GDT", GP, GDT_ENTRIES * 8, iretd
    set_descriptor SEL1, 0, 0xfffff, CODE_RX ^ NOT_PRESENT, BIG | PAGES
    mov dword [esp + 4], SEL1
    expect_fault "iret to an absent segment", NP, SEL1, iretd
    mov dword [esp + 4], UCS & ~3
    expect_fault "iret to DPL 3 with RPL 0", GP, UCS & ~3, iretd
    mov eax, [esp]
    expect_eq "faults keep the frame", eax, .stray
    set_descriptor SEL2, 0, 0xfff, CODE_RX, BIG
    mov dword [esp + 4], SEL2
    expect_fault "iret beyond the limit", GP, 0, iretd
    mov esp, edi
    finish
.stray:
    int SYS
