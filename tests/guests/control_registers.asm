; CR0, CR2, CR3, CR4: what can be set, combinations that are #GP(0), reserved bits, LMSW, SMSW,
; CLTS, other rings.
;
; expect: exit 33
; deviates: qemu "reserved bits of cr0 read as zero": they stay clear (SDM volume 2, MOV to and from
;   control registers); QEMU keeps what is written.
; deviates: qemu "reserved bits of cr4": #GP(0) (SDM volume 2, MOV to and from control registers);
;   QEMU 7 hangs.
; deviates: qemu "PG without PE", "NW without CD": #GP(0) (SDM volume 2, MOV to control registers);
;   QEMU takes them.
%include "include/guest.inc"

main:
    mov eax, cr0
    and eax, CR0_PE | CR0_PG
    expect_eq "protected mode without paging", eax, CR0_PE
    ; bits that stick
    change_cr0 0, CR0_MP | CR0_NE | CR0_WP | CR0_AM
    mov eax, cr0
    and eax, CR0_MP | CR0_NE | CR0_WP | CR0_AM
    expect_eq "MP, NE, WP, AM", eax, CR0_MP | CR0_NE | CR0_WP | CR0_AM
    change_cr0 CR0_MP | CR0_NE | CR0_WP | CR0_AM, 0
    mov eax, cr0
    and eax, CR0_MP | CR0_NE | CR0_WP | CR0_AM
    expect_eq "and can be cleared", eax, 0
    mov eax, cr0
    and eax, ~0x10
    mov cr0, eax
    mov eax, cr0
    and eax, 0x10
    expect_eq "ET is always one", eax, 0x10
    skip_on_qemu "reserved bits of cr0 read as zero", .combinations
    mov eax, cr0
    or eax, 0x0e80fc0                   ; reserved bits are ignored in CR0
    and eax, ~(CR0_WP | CR0_AM)
    mov cr0, eax
    mov eax, cr0
    and eax, 0x0e80fc0
    expect_eq "reserved bits of cr0 read as zero", eax, 0

.combinations:
    mov ebx, cr0
    mov eax, ebx
    or eax, CR0_PG
    and eax, ~CR0_PE
    skip_on_qemu "PG without PE", .nw
    expect_fault "PG without PE", GP, 0, mov cr0, eax
.nw:
    mov eax, ebx
    or eax, 1 << 29
    and eax, ~(1 << 30)
    expect_fault "NW without CD", GP, 0, mov cr0, eax
    mov cr0, ebx
    or eax, 1 << 30
    expect_no_fault "NW with CD", mov cr0, eax
    mov cr0, ebx

    ; CR2 and CR3 keep what is written
    mov eax, 0x12345678
    mov cr2, eax
    mov ecx, cr2
    expect_eq "cr2", ecx, 0x12345678
    mov eax, 0x00200018
    mov cr3, eax
    mov ecx, cr3
    expect_eq "cr3 with PCD and PWT", ecx, 0x00200018
    xor eax, eax
    mov cr3, eax

    ; CR4: unknown bits are #GP(0)
    skip_on_qemu "reserved bits of cr4", .known
    mov eax, 1 << 31
    expect_fault "cr4 bit 31", GP, 0, mov cr4, eax
    mov eax, 1 << 15
    expect_fault "cr4 bit 15", GP, 0, mov cr4, eax
.known:
    mov eax, CR4_PSE | CR4_PGE | CR4_PAE | CR4_TSD | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT
    expect_no_fault "known bits", mov cr4, eax
    mov ecx, cr4
    expect_eq "cr4 reads back", ecx, eax
    xor eax, eax
    mov cr4, eax

    ; LMSW sets PE, MP, EM, TS; it clears PE never
    mov eax, cr0
    or eax, CR0_TS | CR0_MP
    and eax, ~CR0_PE
    lmsw ax
    mov eax, cr0
    and eax, CR0_PE | CR0_TS | CR0_MP | CR0_EM
    expect_eq "lmsw", eax, CR0_PE | CR0_TS | CR0_MP
    mov word [SCRATCH], CR0_EM
    lmsw [SCRATCH]
    mov eax, cr0
    and eax, CR0_PE | CR0_TS | CR0_MP | CR0_EM
    expect_eq "lmsw from memory", eax, CR0_PE | CR0_EM
    mov eax, 0xffff0000 | CR0_NE
    lmsw ax
    mov eax, cr0
    and eax, CR0_PE | CR0_TS | CR0_MP | CR0_EM | CR0_NE
    expect_eq "lmsw sets no more than four", eax, CR0_PE
    mov ebx, 0x11111111
    smsw bx
    and ebx, 0xffff000f
    expect_eq "smsw of 16 bits", ebx, 0x11110001
    mov dword [SCRATCH], 0x22222222
    smsw [SCRATCH]
    and dword [SCRATCH], 0xffff000f
    expect_eq "smsw to memory writes 16 bits", [SCRATCH], 0x22220001
    change_cr0 0, CR0_TS
    clts
    mov eax, cr0
    and eax, CR0_TS
    expect_eq "clts", eax, 0

    ; the mod field of MOV to and from CR is ignored
    mov eax, 0x77
    mov cr2, eax
    db 0x0f, 0x20, 0x13                 ; mov ebx, cr2 with mod 0
    expect_eq "mod is ignored", ebx, 0x77
    ; outside ring 0
    expect_ring_fault 1, "mov from cr0 in ring 1", GP, 0, mov eax, cr0
    expect_ring_fault 2, "mov to cr2 in ring 2", GP, 0, mov cr2, eax
    expect_ring_fault 3, "mov from cr4 in ring 3", GP, 0, mov eax, cr4
    expect_ring_fault 3, "mov to cr0 in ring 3", GP, 0, mov cr0, eax
    expect_ring_fault 1, "clts in ring 1", GP, 0, clts
    expect_ring_fault 3, "lmsw in ring 3", GP, 0, lmsw ax
    expect_ring_ok 3, "smsw in ring 3", smsw eax

    ; debug registers read and write in ring 0 alone
    mov eax, 0x1234
    mov dr0, eax
    mov ecx, dr0
    expect_eq "dr0", ecx, 0x1234
    expect_ring_fault 3, "mov from dr0 in ring 3", GP, 0, mov eax, dr0
    xor eax, eax
    mov dr0, eax
    mov ecx, dr4                        ; an alias of DR6 without CR4.DE
    change_cr4 0, CR4_DE
    expect_fault "dr4 with DE", UD, 0, mov ecx, dr4
    expect_fault "dr5 with DE", UD, 0, mov dr5, eax
    change_cr4 CR4_DE, 0
    ; SGDT, SIDT, LGDT, LIDT
    sgdt [SCRATCH]
    movzx eax, word [SCRATCH]
    expect_eq "sgdt limit", eax, GDT_ENTRIES * 8 - 1
    expect_eq "sgdt base", [SCRATCH + 2], gdt
    sidt [SCRATCH]
    expect_eq "sidt base", [SCRATCH + 2], idt
    ; no descriptor may be loaded while the GDT is elsewhere
    mov word [SCRATCH], 0x7fff
    mov dword [SCRATCH + 2], gdt + 0xff000000
    lgdt [SCRATCH]
    sgdt [SCRATCH + 8]
    o16 lgdt [SCRATCH]
    sgdt [SCRATCH + 16]
    lgdt [gdt_pointer]
    expect_eq "lgdt of 32 bits", [SCRATCH + 10], gdt + 0xff000000
    expect_eq "lgdt of 24 bits", [SCRATCH + 18], gdt
    finish
