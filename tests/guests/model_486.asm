; The 486: FPU and CPUID, no CR4, #UD for all that came later; PS in a directory entry means nothing.
;
; expect: exit 33
; options: --cpu 486
; qemu: options -cpu 486
; deviates: qemu "features", "needs: rdtsc", "needs: rdmsr", "needs: paddb", "needs: movq store",
;   "needs: movd", "needs: psllw immediate", "needs: emms", "needs: pshufw", "needs: pavgb",
;   "needs: pmovmskb", "needs: movntq", "needs: prefetcht0", "needs: paddq mm", "needs: pmuludq
;   mm", "mov from cr4", "mov to cr4", "sysenter", "wrmsr", "nopl": an instruction that the
;   processor lacks is #UD (SDM volume 3, 6.15, "Interrupt 6"); QEMU knows fewer models.
; bochs: skip it has no CPU model of a 486
%define MODEL FEATURE_FPU
%include "include/guest.inc"
%include "include/models.inc"

main:
    check_model
    expect_fault "mov from cr4", UD, 0, mov eax, cr4
    expect_fault "mov to cr4", UD, 0, mov cr4, eax
    expect_fault "sysenter", UD, 0, sysenter
    expect_fault "rdpmc", UD, 0, rdpmc
    expect_fault "wrmsr", UD, 0, wrmsr
    expect_fault "nopl", UD, 0, {db 0x0f, 0x1f, 0x00}
    ; a directory entry with PS set points to a table
    call paging_identity
    or dword [PAGE_DIRECTORY + 8], PS
    mov dword [0x800000], 0x1234
    change_cr0 0, CR0_PG
    mov eax, [0x800000]
    expect_eq "PS is ignored", eax, 0x1234
    change_cr0 CR0_PG, 0
    finish
