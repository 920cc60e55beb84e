; Entry stubs of the 32 exceptions, for those that a benchmark does not take itself. They end in
; unexpected_exception(frame), which does not return.
bits 32

extern unexpected_exception
global exception_stubs

section .text
%assign vector 0
%rep 32
entry %+ vector:
  %if vector != 8 && (vector < 10 || vector > 14) && vector != 17
        push    dword 0                 ; in the error code's place
  %endif
        push    dword vector
        jmp     report
  %assign vector vector + 1
%endrep

report:
        pushad
        push    esp
        call    unexpected_exception

section .rodata
exception_stubs:
%assign vector 0
%rep 32
        dd      entry %+ vector
  %assign vector vector + 1
%endrep
