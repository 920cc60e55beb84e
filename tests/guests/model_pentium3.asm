; The Pentium III: CMOV, MMX, FXSR, SSE, SYSENTER, PAE, PGE; #UD for SSE2; no NX.
;
; expect: exit 33
; options: --cpu pentium3
; qemu: options -cpu pentium3
; deviates: qemu "needs: addpd", "needs: addsd", "needs: movapd", "needs: movdqa", "needs: pxor",
;   "needs: paddq mm", "needs: pmuludq mm", "needs: cvtps2pd", "needs: cvtdq2ps", "needs:
;   lfence", "rdmsr of EFER": an instruction that the processor lacks is #UD (SDM volume 3, 6.15,
;   "Interrupt 6"); QEMU knows fewer models.
; deviates: qemu "ldmxcsr with DAZ", "ldmxcsr with DAZ in ring 3", "mxcsr mask": what the mask of FXSAVE says
;   to be reserved is #GP (SDM volume 1, 11.6.6)
; bochs: cpu p3_katmai
; deviates: bochs "tsc, upper half": processors before family 15 clear it (SDM volume 3, 17.17.3); Bochs writes it
%define MODEL FEATURES_KNOWN & ~(FEATURE_SSE2 | FEATURE_CLFLUSH)
%include "include/guest.inc"
%include "include/models.inc"

main:
    check_model
    control_bit FEATURE_PAE, "cr4.pae", CR4_PAE
    control_bit FEATURE_PGE, "cr4.pge", CR4_PGE
    control_bit FEATURE_FXSR, "cr4.osfxsr", CR4_OSFXSR
    expect_no_fault "nopl", {db 0x0f, 0x1f, 0x00}
    expect_no_fault "nopw with memory beyond everything", {db 0x66, 0x0f, 0x1f, 0x80, 0, 0, 0, 0xf0}
    ; no denormals-are-zeros
    change_cr4 0, CR4_OSFXSR
    expect_fault "ldmxcsr with DAZ", GP, 0, ldmxcsr [.daz]
    expect_ring_fault 3, "ldmxcsr with DAZ in ring 3", GP, 0, ldmxcsr [.daz]
    expect_no_fault "ldmxcsr", ldmxcsr [.mxcsr]
    fxsave [SCRATCH]
    expect_eq "mxcsr mask", [SCRATCH + 28], 0xffbf
    expect_eq "mxcsr", [SCRATCH + 24], 0x9fbf
    ; no NX: EFER is unknown
    mov ecx, 0xc0000080
    expect_fault "rdmsr of EFER", GP, 0, rdmsr
    ; the counter: its upper half cannot be written, and is cleared
    mov ecx, 0x10
    mov eax, 0x1000
    mov edx, 0x1234
    wrmsr
    rdmsr
    expect_eq "tsc, upper half", edx, 0
    finish

align 4
.daz: dd 0x1fc0
.mxcsr: dd 0x9fbf
