; The Pentium III: CMOV, MMX, FXSR, SSE, SYSENTER, PAE, PGE; #UD for SSE2; no NX.
;
; expect: exit 33
; options: --cpu pentium3
; qemu: options -cpu pentium3
; deviates: qemu "needs: addpd", "needs: addsd", "needs: movapd", "needs: movdqa", "needs: pxor",
;   "needs: paddq mm", "needs: pmuludq mm", "needs: cvtps2pd", "needs: cvtdq2ps", "needs:
;   lfence", "rdmsr of EFER": an instruction that the processor lacks is #UD (SDM volume 3, 6.15,
;   "Interrupt 6"); QEMU knows fewer models.
; bochs: cpu p3_katmai
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
    ; no NX: EFER is unknown
    mov ecx, 0xc0000080
    expect_fault "rdmsr of EFER", GP, 0, rdmsr
    finish
