; Triple fault through gates that are absent: #UD, #NP, #DF and #NP again. What a program does in
; between, a handled double fault included, does not count.
;
; expect: exit triple-fault
; expect: output "handled"
%include "include/guest.inc"

main:
    xor byte [idt + GP * 8 + 5], NOT_PRESENT
    mov eax, TSS_SEL
    expect_fault "a double fault", DF_, 0, mov gs, eax
    cmp dword [checks_failed], 0
    jne .failed
    print "handled"
    xor byte [idt + DF_ * 8 + 5], NOT_PRESENT
    mov gs, eax
.failed:
    finish
