; A reset by the keyboard controller's pulse command.
;
; expect: exit 0
; expect: output "before"
; expect: output "still there"
; options: --no-reboot
%include "include/guest.inc"

main:
    print "before"
    mov al, 0xff                        ; pulses no line
    out 0x64, al
    print "still there"
    mov al, 0xfe
    out 0x64, al
.wait:
    pause
    jmp .wait
