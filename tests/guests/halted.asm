; HLT with interrupts off ends the machine.
;
; expect: exit halted
; expect: output "before"
; qemu: skip a processor that is halted with interrupts off waits for ever
; bochs: skip a processor that is halted with interrupts off waits for ever
%include "include/guest.inc"

main:
    print "before"
    cli
    hlt
    print "not reached"
    finish
