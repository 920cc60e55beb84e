; Triple fault by an absent ring 0 stack with paging on: page faults all the way.
;
; expect: exit triple-fault
; expect: output "before"
%include "include/guest.inc"

main:
    call paging_identity
    change_cr0 0, CR0_PG
    set_pte SCRATCH, 0
    invlpg [SCRATCH]
    print "before"
    mov esp, SCRATCH + 0x1000
    push eax
    finish
