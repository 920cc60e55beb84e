; The Pentium: TSC, MSR, CX8, PSE and CR4; #UD for CMOV, MMX, FXSR, SSE, SYSENTER; #GP(0) for the
; bits of CR4 that came later.
;
; expect: exit 33
; options: --cpu pentium
; qemu: options -cpu pentium
; deviates: qemu "features", "needs: paddb", "needs: movq store", "needs: movd", "needs: psllw
;   immediate", "needs: emms", "needs: pshufw", "needs: pavgb", "needs: pmovmskb", "needs:
;   movntq", "needs: prefetcht0", "needs: paddq mm", "needs: pmuludq mm", "sysenter", "nopl",
;   "cr4 bits that came later": an instruction that the processor lacks is #UD (SDM volume 3,
;   6.15, "Interrupt 6"); QEMU knows fewer models.
; bochs: cpu pentium
; deviates: bochs "nopl": 0F 1F is undefined before family 6 (SDM volume 2, NOP); Bochs decodes it always.
%define MODEL FEATURE_FPU | FEATURE_PSE | FEATURE_TSC | FEATURE_MSR | FEATURE_CX8
%include "include/guest.inc"
%include "include/models.inc"

main:
    check_model
    control_bit FEATURE_PSE, "cr4.pse", CR4_PSE
    expect_no_fault "cr4 to itself", mov cr4, eax
    expect_fault "sysenter", UD, 0, sysenter
    expect_fault "rdpmc", UD, 0, rdpmc
    expect_fault "nopl", UD, 0, {db 0x0f, 0x1f, 0x00}
    skip_on_qemu "cr4 bits that came later", .end
    control_bit FEATURE_PAE, "cr4.pae", CR4_PAE
    control_bit FEATURE_PGE, "cr4.pge", CR4_PGE
    control_bit FEATURE_FXSR, "cr4.osfxsr", CR4_OSFXSR
.end:
    finish
