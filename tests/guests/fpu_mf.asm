; #MF with CR0.NE: an unmasked exception is reported by the next waiting x87 instruction, by WAIT
; and by MMX, not by FN- instructions; operands of the faulting one; sticky and summary bits.
;
; expect: exit 33
; deviates: qemu "store beyond a limit": QEMU does not check limits.
; deviates: qemu "ES, B and ZE, before the pop", "unmasked overflow stores nothing",
;   "suppressed store: no pop": an unmasked
;   exception keeps the operands, the destination and the stack (SDM volume 1, 8.5.3 and 8.5.4).
; deviates: qemu "fld1", "fst", "fldcw", "mmx", "emms", "the next one faults", "one fault", "in ring 3",
;   "after a push":
;   every waiting x87 instruction and MMX report a pending exception (SDM volume 1, 8.6; volume 3,
;   12.4); QEMU does in WAIT only.
; deviates: qemu "armed": FLDCW that unmasks a flagged exception sets ES (SDM volume 2, FLDCW).
%include "include/guest.inc"

main:
    change_cr0 CR0_MP, CR0_NE
    fninit
    fldcw [unmask_zero_divide]
    fld1
    fldz
    expect_no_fault "the dividing one itself", fdivp
    fnstsw ax
    and eax, 0xb884
    expect_eq "ES, B and ZE, before the pop", eax, 0xb084
    expect_no_fault "fnstcw does not wait", fnstcw [SCRATCH]
    expect_fault "fld1", MF, 0, fld1
    expect_fault "fst", MF, 0, fst qword [SCRATCH]
    expect_fault "wait", MF, 0, wait
    expect_fault "fldcw", MF, 0, fldcw [mask_all]
    expect_fault "mmx", MF, 0, pxor mm0, mm0
    expect_fault "emms", MF, 0, emms
    expect_fault "fnop", MF, 0, fnop
    fnclex
    expect_no_fault "after fnclex", fld1
    fnstsw ax
    and eax, 0x80ff
    expect_eq "fnclex clears", eax, 0

    ; the masked way
    fninit
    fld1
    fldz
    fdivp
    fnstsw ax
    and eax, 0x8084
    expect_eq "masked: ZE alone", eax, 0x04
    expect_no_fault "masked: no fault", wait
    ; unmasking afterwards arms it
    expect_no_fault "fldcw that unmasks", fldcw [unmask_zero_divide]
    fnstsw ax
    and eax, 0x8080
    expect_eq "armed", eax, 0x8080
    expect_fault "the next one faults", MF, 0, fldz
    fninit
    expect_no_fault "fninit disarms", fldz

    ; invalid operation: the operands stay
    fninit
    fldcw [unmask_invalid]
    fld1
    fchs
    fsqrt
    fnstsw ax
    and eax, 0x8081
    expect_eq "invalid", eax, 0x8081
    fnstenv [SCRATCH]
    fninit
    expect_no_fault "fninit", nop

    ; overflow into memory: nothing is stored when unmasked
    fldcw [unmask_overflow]
    fld tword [huge]
    mov dword [SCRATCH], 0x12345678
    fst dword [SCRATCH]
    expect_eq "unmasked overflow stores nothing", [SCRATCH], 0x12345678
    expect_fault "and is pending", MF, 0, wait
    fnclex
    fninit
    fld tword [huge]
    fst dword [SCRATCH]
    expect_eq "masked overflow stores infinity", [SCRATCH], 0x7f800000

    ; nor is the operand looked at, wherever it is
    set_descriptor SEL4, SCRATCH, 0xff, DATA_RW, BIG
    fninit
    fldcw [unmask_overflow]
    fld tword [huge]
    load_segment es, SEL4
    expect_no_fault "suppressed store beyond a limit", fst dword [es:0x100]
    push ss
    pop es
    fnstsw ax
    and eax, 0xb888
    expect_eq "suppressed store: overflow", eax, 0xb888
    expect_fault "suppressed store: pending", MF, 0, wait
    fnclex
    load_segment es, SEL4
    expect_no_fault "suppressed store with pop", fstp qword [es:0x100]
    push ss
    pop es
    fnclex
    fnstsw ax
    expect_eq "suppressed store: no pop", eax, 0x3800
    fldcw [mask_all]
    load_segment es, SEL4
    expect_fault "store beyond a limit", GP, 0, fst dword [es:0x100]
    ; the handler repairs and returns to the waiting instruction
    fninit
    fldcw [unmask_zero_divide]
    fld1
    fldz
    fdivp
    hook repair
    mov dword [faults], 0
    fld1
    hook 0
    expect_eq "one fault", [faults], 1
    fninit
    ; a fault in ring 3
    fldcw [unmask_zero_divide]
    fld1
    fldz
    fdivp
    expect_ring_fault 3, "in ring 3", MF, 0, fld1
    ; ESP when the instruction before it has pushed, at the end of a translated block: what follows
    ; cannot be decoded
    mov ebp, esp
    try .pushed
    push eax
.after_push:
    fld1
    db 0x0f, 0x04
.pushed:
    expect_exception "after a push", MF, 0, .after_push
    sub ebp, [exc_esp]
    expect_eq "after a push: esp", ebp, 4
    ; FNSAVE saves the pending state and clears it; FRSTOR brings it back
    fnsave [SCRATCH + 64]
    expect_no_fault "fnsave disarms", wait
    expect_no_fault "frstor itself", frstor [SCRATCH + 64]
    expect_fault "frstor arms again", MF, 0, wait
    fninit
    finish

repair:
    cmp dword [exc_vector], MF
    jne stray_exception
    fnclex
    inc dword [faults]
    ret

section .data
align 8
huge: dt 1.0e4000
unmask_zero_divide: dw 0x37b
unmask_invalid: dw 0x37e
unmask_overflow: dw 0x377
mask_all: dw 0x37f
faults: dd 0
