; The smallest program: it prints and leaves.
;
; expect: exit 33
; expect: output "hello"
%include "include/guest.inc"

main:
    print "hello"
    expect_eq "one", 1, 1
    finish
