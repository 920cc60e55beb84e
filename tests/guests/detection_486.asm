; How programs find out that they run on a 486: flags that stick, shift counts, PUSH SP, what is no
; instruction any more, coprocessors.
;
; expect: exit 33
; options: --cpu 486
; qemu: options -cpu 486
; bochs: skip it has no CPU model of a 486
%include "include/guest.inc"
%include "include/real_mode.inc"
HAS_VIRTUAL_INTERRUPTS equ 0
%include "include/detection.inc"

detect 4
