; A reset by port 0xCF9, which only the rise of its bit 2 causes.
;
; expect: exit 0
; expect: output "before"
; expect: output "still there"
; options: --no-reboot
%include "include/guest.inc"

main:
    print "before"
    mov dx, 0xcf9
    mov al, 2
    out dx, al
    print "still there"
    mov al, 6
    out dx, al
.wait:
    pause
    jmp .wait
