; Triple fault: an exception while a double fault is delivered. The machine shuts down.
;
; expect: exit triple-fault
; expect: output "before"
%include "include/guest.inc"

main:
    print "before"
    mov word [idt_pointer], 0
    lidt [idt_pointer]
    ud2                                 ; beyond the limit: #GP, #DF, shutdown
    print "not reached"
    finish
