; RDMSR, WRMSR: known registers, #GP(0) for unknown ones and in ring 3. RDTSC: it advances, and
; CR4.TSD keeps it for ring 0.
;
; expect: exit 33
; deviates: qemu "rdmsr of*", "wrmsr of*", "its e*": an unknown MSR is #GP(0) (SDM volume 2, RDMSR and
;   WRMSR); QEMU ignores it.
; deviates: qemu "written counter", "read as an MSR": WRMSR sets the counter (SDM volume 3, 17.17);
;   QEMU's stays.
%include "include/guest.inc"

SYSENTER_CS equ 0x174
SYSENTER_ESP equ 0x175
SYSENTER_EIP equ 0x176

main:
    mov ecx, SYSENTER_ESP
    mov eax, 0x89abcdef
    mov edx, 0
    wrmsr
    mov eax, 0
    mov edx, -1
    rdmsr
    expect_eq "rdmsr low", eax, 0x89abcdef
    expect_eq "rdmsr high", edx, 0
    expect_eq "rdmsr keeps ecx", ecx, SYSENTER_ESP
    mov ecx, 0x12345678
    mov eax, 1
    mov edx, 2
    expect_fault "rdmsr of an unknown one", GP, 0, rdmsr
    expect_fault "wrmsr of an unknown one", GP, 0, wrmsr
    expect_eq "its eax", eax, 1
    expect_eq "its edx", edx, 2
    mov ecx, 0x277                      ; PAT
    rdmsr
    expect_eq "PAT low", eax, 0x00070406
    expect_eq "PAT high", edx, 0x00070406
    mov ecx, SYSENTER_EIP
    expect_ring_fault 3, "rdmsr in ring 3", GP, 0, rdmsr
    expect_ring_fault 3, "wrmsr in ring 3", GP, 0, wrmsr
    expect_ring_fault 1, "rdmsr in ring 1", GP, 0, rdmsr

    ; the time-stamp counter
    rdtsc
    mov esi, eax
    mov edi, edx
    mov ecx, 100000
.wait:
    loop .wait
    rdtsc
    sub eax, esi
    sbb edx, edi
    mov [SCRATCH], eax
    expect_eq "it advanced: high", edx, 0
    test eax, eax
    expect_flags "it advanced: low", ZF, 0
    mov ecx, 100
    rdtsc
    mov esi, eax
    mov edi, edx
.monotone:
    rdtsc
    mov ebx, eax
    mov ebp, edx
    sub ebx, esi
    sbb ebp, edi
    js .backwards
    mov esi, eax
    mov edi, edx
    loop .monotone
.backwards:
    expect_eq "never backwards", ecx, 0
    ; as an MSR; writes move it
    mov ecx, 0x10
    mov eax, 0
    mov edx, 0x1000
    wrmsr
    rdtsc
    expect_eq "written counter", edx, 0x1000
    mov ecx, 0x10
    rdmsr
    expect_eq "read as an MSR", edx, 0x1000

    expect_ring_ok 3, "rdtsc in ring 3", rdtsc
    change_cr4 0, CR4_TSD
    expect_ring_fault 3, "rdtsc in ring 3 with TSD", GP, 0, rdtsc
    expect_ring_fault 1, "rdtsc in ring 1 with TSD", GP, 0, rdtsc
    expect_no_fault "rdtsc in ring 0 with TSD", rdtsc
    change_cr4 CR4_TSD, 0
    finish
