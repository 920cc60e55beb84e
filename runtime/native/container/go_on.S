/* How guest code goes on: with the registers of the mailbox, and by the processor alone. The kernel,
 * to which the signal's handler does not return, would do the same after a system call more.
 *
 * No signal is blocked meanwhile. A kick that comes before guest code runs is noted by the handler
 * (main.c), and looked for here at the beginning. One that comes after that look finds this code
 * interrupted, and the handler sends it on to go_on_kicked.
 */
#include "runtime/native/protocol.h"

#define AT(field) (TRAPLINE_REGISTERS + field)(%r8)
#define GPR(number) AT(4 * number)
#define PLAIN_FLAGS 0x2 /* No NT, with which IRET does something else, and no AC. */

        .text
        .hidden kicked, stop_for_kick, signal_stack, signal_stack_end
        .globl  go_on_in_guest
        .type   go_on_in_guest, @function
/* void go_on_in_guest(void), which does not return. */
go_on_in_guest:
        cmpl    $0, kicked(%rip)
        jne     go_on_kicked
        push    $PLAIN_FLAGS
        popfq
        movabs  $TRAPLINE_MAILBOX_ADDRESS, %r8
        fxrstor64 AT(TRAPLINE_FPU)
        mov     AT(TRAPLINE_DS), %ds
        mov     AT(TRAPLINE_ES), %es
        mov     AT(TRAPLINE_FS), %fs
        mov     AT(TRAPLINE_GS), %gs
        movzwl  AT(TRAPLINE_SS), %eax
        push    %rax
        mov     GPR(4), %eax
        push    %rax
        mov     AT(TRAPLINE_EFLAGS), %eax
        push    %rax
        movzwl  AT(TRAPLINE_CS), %eax
        push    %rax
        mov     AT(TRAPLINE_EIP), %eax
        push    %rax
        mov     GPR(0), %eax
        mov     GPR(1), %ecx
        mov     GPR(2), %edx
        mov     GPR(3), %ebx
        mov     GPR(5), %ebp
        mov     GPR(6), %esi
        mov     GPR(7), %edi
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        xor     %r10d, %r10d
        xor     %r11d, %r11d
        xor     %r12d, %r12d
        xor     %r13d, %r13d
        xor     %r14d, %r14d
        xor     %r15d, %r15d
        iretq
        .size   go_on_in_guest, . - go_on_in_guest

        .globl  go_on_kicked
        .type   go_on_kicked, @function
/* The same, where guest code was kicked before it ran. What is on the stack is no longer of use. */
go_on_kicked:
        lea     signal_stack_end(%rip), %rsp
        xor     %ebp, %ebp
        call    stop_for_kick
        ud2
        .size   go_on_kicked, . - go_on_kicked

        .bss
        .globl  signal_stack, signal_stack_end
        .balign 64
signal_stack:
        .zero   0x10000
signal_stack_end:

        .section .note.GNU-stack, "", @progbits
