; The default model: everything.
;
; expect: exit 33
; options: --cpu max
; qemu: options -cpu Conroe,-sse3,-ssse3
; bochs: cpu athlon64_clawhammer
%define MODEL FEATURES_KNOWN
%include "include/guest.inc"
%include "include/models.inc"

main:
    check_model
    control_bit FEATURE_PAE, "cr4.pae", CR4_PAE
    control_bit FEATURE_PGE, "cr4.pge", CR4_PGE
    control_bit FEATURE_FXSR, "cr4.osxmmexcpt", CR4_OSXMMEXCPT
    expect_no_fault "nopl", {db 0x0f, 0x1f, 0x00}
    mov eax, 0x80000001
    cpuid
    and edx, 1 << 20
    expect_eq "NX", edx, 1 << 20
    mov ecx, 0xc0000080
    expect_no_fault "rdmsr of EFER", rdmsr
    finish
