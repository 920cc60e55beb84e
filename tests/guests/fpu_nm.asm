; #NM: every combination of CR0.EM, TS and MP with x87, WAIT, MMX and SSE; #UD for MMX and SSE under
; EM; CLTS; no state changes.
;
; expect: exit 33
; deviates: qemu "mmx", "mmx store", "sse", "sse load", "sse2": under EM they are #UD whatever TS is
;   (SDM volume 3, 12.1 and 13.1); QEMU looks at TS first.
; deviates: qemu "mmx emms": EMMS is an MMX instruction like the others (SDM volume 2, EMMS); QEMU lets
;   it through.
%include "include/guest.inc"

; with cr0 bits: vectors for x87, WAIT, MMX, SSE
%macro with 5
    change_cr0 CR0_EM | CR0_TS | CR0_MP, %1
    %if (%2) == NO_EXCEPTION
    expect_no_fault "x87", fld1
    %else
    expect_fault "x87", %2, 0, fld1
    expect_fault "x87 fnstsw", %2, 0, fnstsw ax
    expect_fault "x87 fninit", %2, 0, fninit
    expect_fault "x87 fnsave", %2, 0, fnsave [SCRATCH]
    expect_fault "x87 fild from memory", %2, 0, fild dword [SCRATCH]
    expect_ring_fault 3, "x87 in ring 3", %2, 0, fldz
    %endif
    %if (%3) == NO_EXCEPTION
    expect_no_fault "wait", wait
    %else
    expect_fault "wait", %3, 0, wait
    %endif
    %if (%4) == NO_EXCEPTION
    expect_no_fault "mmx", pxor mm0, mm0
    %else
    expect_fault "mmx", %4, 0, pxor mm0, mm0
    expect_fault "mmx emms", %4, 0, emms
    expect_fault "mmx store", %4, 0, movq [SCRATCH], mm0
    %endif
    %if (%5) == NO_EXCEPTION
    expect_no_fault "sse", xorps xmm0, xmm0
    %else
    expect_fault "sse", %5, 0, xorps xmm0, xmm0
    expect_fault "sse load", %5, 0, movups xmm0, [SCRATCH]
    expect_fault "sse2", %5, 0, pxor xmm0, xmm0
    expect_fault "sse ldmxcsr", %5, 0, ldmxcsr [mxcsr]
    %endif
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    with 0, NO_EXCEPTION, NO_EXCEPTION, NO_EXCEPTION, NO_EXCEPTION
    with CR0_MP, NO_EXCEPTION, NO_EXCEPTION, NO_EXCEPTION, NO_EXCEPTION
    with CR0_TS, NM, NO_EXCEPTION, NM, NM
    with CR0_TS | CR0_MP, NM, NM, NM, NM
    with CR0_EM, NM, NO_EXCEPTION, UD, UD
    with CR0_EM | CR0_MP, NM, NO_EXCEPTION, UD, UD
    with CR0_EM | CR0_TS, NM, NO_EXCEPTION, UD, UD
    with CR0_EM | CR0_TS | CR0_MP, NM, NM, UD, UD

    ; TS: not for those that touch no FPU state
    change_cr0 CR0_EM | CR0_MP, CR0_TS
    expect_no_fault "sfence", sfence
    expect_no_fault "prefetch", prefetchnta [SCRATCH]
    expect_no_fault "movnti", movnti [SCRATCH], eax
    expect_fault "fxsave", NM, 0, fxsave [SCRATCH]
    expect_fault "fxrstor", NM, 0, fxrstor [SCRATCH]
    clts
    mov eax, cr0
    and eax, CR0_TS
    expect_eq "clts", eax, 0
    expect_no_fault "after clts", fninit

    ; the lazy switch of an operating system: TS set, the first use gives the registers
    fninit
    fld1
    fldpi
    fnsave [SCRATCH + 0x100]
    fninit
    fldz
    hook lazy
    change_cr0 0, CR0_TS
    fadd st0, st1                       ; on the restored registers
    hook 0
    fistp dword [SCRATCH]
    expect_eq "pi + 1", [SCRATCH], 4
    expect_eq "one #NM", [exc_vector], NM
    ; a loop that crosses it, with the FPU used behind a branch
    mov dword [count], 0
    hook lazy
    mov ecx, 100
    fninit
    fldz
    fnsave [SCRATCH + 0x100]
    frstor [SCRATCH + 0x100]
.loop:
    test ecx, 7
    jnz .no_switch
    fnsave [SCRATCH + 0x100]
    change_cr0 0, CR0_TS
.no_switch:
    fld1
    faddp
    loop .loop
    hook 0
    fistp dword [SCRATCH]
    expect_eq "sum", [SCRATCH], 100
    expect_eq "lazy switches", [count], 12
    ; EM in a ring 3 emulator: the exception comes with the right registers
    change_cr0 0, CR0_EM
    mov eax, 0x1357
    expect_ring_fault 3, "emulation", NM, 0, fst qword [eax * 2]
    expect_eq "emulation: eax", eax, 0x1357
    change_cr0 CR0_EM, 0
    finish

lazy:
    cmp dword [exc_vector], NM
    jne stray_exception
    clts
    frstor [SCRATCH + 0x100]
    inc dword [count]
    ret

section .data
align 4
mxcsr: dd 0x1f80
count: dd 0
