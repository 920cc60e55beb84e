; RETF and IRET to outer rings: the stack comes along, data segments that the outer ring may not
; keep become null, and all the checks on the way.
;
; expect: exit 33
; deviates: qemu "absent ss": #SS with the selector (SDM volume 2, RET); QEMU raises #NP.
%include "include/guest.inc"

%macro outer_frame 4                    ; ss, esp, cs, eip
    push dword %1
    push dword %2
    push dword %3
    push dword %4
%endmacro

main:
    set_descriptor SEL0, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_descriptor SEL1, 0, 0xfffff, CODE_RX_CONF, BIG | PAGES
    set_descriptor SEL2, 0, 0xfffff, DATA_RW | DPL1, BIG | PAGES
    set_descriptor SEL3, 0, 0xfffff, CODE_RX | DPL3, BIG | PAGES
    set_descriptor SEL4, 0, 0xfffff, (DATA_RW | DPL3) ^ NOT_PRESENT, BIG | PAGES
    set_descriptor SEL5, 0, 0xfffff, (CODE_RX | DPL3) ^ NOT_PRESENT, BIG | PAGES
    mov edi, esp

    ; to ring 3: DS of DPL 0 becomes null; ES of DPL 3, FS conforming, stay; GS of DPL 1 goes
    try .first
    load_segment es, SEL0
    load_segment fs, SEL1
    load_segment gs, SEL2
    outer_frame UDS, USER_STACK, UCS, .user
    retf
.user:
    mov eax, ds
    mov ebx, es
    mov ecx, fs
    mov edx, gs
    mov esi, esp
    int SYS
.first:
    expect_exception "retf to ring 3", SYS, 0, .first
    expect_eq "ds goes", eax, 0
    expect_eq "es stays", ebx, SEL0
    expect_eq "fs stays, conforming", ecx, SEL1
    expect_eq "gs goes", edx, 0
    expect_eq "esp", esi, USER_STACK
    expect_eq "ss", [exc_ss], UDS
    expect_eq "cs", [exc_cs], UCS

    ; RETF n releases on both stacks
    try .second
    push dword UDS
    push dword USER_STACK - 64
    push dword 0x1111                   ; released here
    push dword 0x2222
    push dword UCS
    push dword .user_two
    retf 8
.user_two:
    mov esi, esp
    int SYS
.second:
    expect_eq "retf 8: esp", esi, USER_STACK - 56

    ; to ring 1 and ring 2, and from 1 to 3
    try .third
    load_segment gs, SEL2
    outer_frame RING1_DS, RING1_STACK - 0x100, RING1_CS, .ring1
    retf
.ring1:
    mov eax, cs
    mov ecx, gs
    outer_frame UDS, USER_STACK, SEL3 | 3, .ring3
    retf
.ring3:
    mov edx, gs
    mov ebx, cs
    int SYS
.third:
    expect_eq "ring 1", eax, RING1_CS
    expect_eq "gs of DPL 1 stays in ring 1", ecx, SEL2
    expect_eq "gs of DPL 1 goes in ring 3", edx, 0
    expect_eq "ring 3", ebx, SEL3 | 3
    load_segment ds, KDS
    load_segment es, KDS
    mov esp, edi

    ; checks of the outer stack segment
    outer_frame KDS, USER_STACK, UCS, .user
    expect_fault "ss of DPL 0", GP, KDS, retf
    mov dword [esp + 12], 0
    expect_fault "null ss", GP, 0, retf
    mov dword [esp + 12], UDS & ~3
    expect_fault "ss with RPL 0", GP, UDS & ~3, retf
    mov dword [esp + 12], SEL3 | 3
    expect_fault "code as ss", GP, SEL3, retf
    mov dword [esp + 12], SEL4 | 3
    expect_fault "absent ss", SS_, SEL4, retf
    mov dword [esp + 12], GDT_ENTRIES * 8 | 3
    expect_fault "ss beyond the GDT", GP, GDT_ENTRIES * 8, retf
    mov dword [esp + 12], UDS
    mov dword [esp + 4], SEL5 | 3
    expect_fault "absent cs", NP, SEL5, retf
    mov dword [esp + 4], KCS | 3
    expect_fault "cs of DPL 0 with RPL 3", GP, KCS, retf
    mov dword [esp + 4], SEL1 | 3
    try .conforming
    retf
.conforming:
    ; .user runs in the conforming segment, at ring 3
    expect_eq "conforming cs of DPL 0 with RPL 3", [exc_cs], SEL1 | 3
    mov esp, edi

    ; the same by IRET, with flags
    push dword UDS
    push dword USER_STACK
    push dword 2 | IF | IOPL | CF | DF
    push dword UCS
    push dword .user_flags
    try .flags
    iretd
.user_flags:
    pushfd
    pop eax
    int SYS
.flags:
    and eax, IF | IOPL | CF | DF
    expect_eq "iret loads all flags", eax, IF | IOPL | CF | DF
    push dword KDS
    push dword USER_STACK
    push dword 2
    push dword UCS
    push dword .user
    mov esi, esp
    expect_fault "iret: ss of DPL 0", GP, KDS, iretd
    expect_eq "iret fault keeps esp", [exc_esp], esi
    mov dword [esp + 4], SEL5 | 3
    expect_fault "iret: absent cs", NP, SEL5, iretd
    mov dword [esp + 4], 0
    expect_fault "iret: null cs", GP, 0, iretd
    mov dword [esp + 4], RING1_CS & ~3
    expect_fault "iret: RPL below DPL", GP, RING1_CS & ~3, iretd
    mov dword [esp + 4], UDS
    expect_fault "iret: data as cs", GP, UDS & ~3, iretd
    mov esp, edi
    try .empty
    enter_ring 3, .push_empty
.push_empty:
    push dword 2
    push dword 0
    push dword 0
.iret_empty:
    iretd
.empty:
    expect_exception "iret to null in ring 3", GP, 0, .iret_empty
    finish
