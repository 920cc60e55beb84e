; How programs find out that they run on a Pentium: flags that stick, shift counts, PUSH SP, what is no
; instruction any more, coprocessors.
;
; expect: exit 33
; options: --cpu pentium
; qemu: options -cpu pentium
; deviates: qemu "vif and vip": IRET loads both in ring 0 where the processor has them (SDM volume 2, IRET)
; bochs: cpu pentium
%include "include/guest.inc"
%include "include/real_mode.inc"
HAS_VIRTUAL_INTERRUPTS equ 1
%include "include/detection.inc"

detect 5
