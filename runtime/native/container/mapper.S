/* The mapper: the process that maps guest memory for a container. It shares the container's memory
 * with guest code that may be hostile, so it believes nothing that can be written there. It has no
 * stack, all its state is in registers, and what it reads (commands, filter, code) is mapped without
 * write permission in an address space where the guest has no system call to change that. Its file
 * descriptors are its own.
 *
 *   rbx command     ebp how many are left         r12 the page of commands
 *   r13d last sequence number                     r14d whether one of the commands has failed
 *   afterwards: ebx the ticket, ebp whether to start the guest by it (TRAPLINE_STARTS_...)
 */
#include <asm/unistd.h>

#include "runtime/native/protocol.h"

#define CLONE_VM 0x100
#define CLONE_PARENT 0x8000
#define PR_SET_PDEATHSIG 1
#define PR_SET_SECCOMP 22
#define SECCOMP_MODE_FILTER 2
#define SIGKILL 9
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define MAP_SHARED_FIXED_POPULATE 0x8011

        .text
        .globl  start_mapper
        .type   start_mapper, @function
/* int start_mapper(const struct sock_fprog*): the mapper's process number, or an error below 0. */
start_mapper:
        push    %rbx
        mov     %rdi, %rbx
        mov     $__NR_clone, %eax
        mov     $(CLONE_VM | CLONE_PARENT), %edi
        xor     %esi, %esi
        xor     %edx, %edx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        syscall
        test    %eax, %eax
        jz      mapper
        pop     %rbx
        ret
        .size   start_mapper, . - start_mapper

        .type   mapper, @function
mapper:
        movabs  $TRAPLINE_COMMANDS_ADDRESS, %r12
        mov     $__NR_prctl, %eax
        mov     $PR_SET_PDEATHSIG, %edi
        mov     $SIGKILL, %esi
        syscall
        mov     $__NR_getppid, %eax
        syscall
        cmp     TRAPLINE_TRAPLINE_PID(%r12), %eax
        jne     .Ldie
        mov     $__NR_prctl, %eax
        mov     $PR_SET_SECCOMP, %edi
        mov     $SECCOMP_MODE_FILTER, %esi
        mov     %rbx, %rdx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        syscall
        test    %eax, %eax
        jnz     .Ldie
        xor     %r13d, %r13d

.Lwait:
        mov     TRAPLINE_SEQUENCE(%r12), %eax
        cmp     %eax, %r13d
        jne     .Lcommands
        mov     $__NR_futex, %eax
        lea     TRAPLINE_SEQUENCE(%r12), %rdi
        mov     $FUTEX_WAIT, %esi
        mov     %r13d, %edx
        xor     %r10d, %r10d
        syscall
        jmp     .Lwait

.Lcommands:
        mov     %eax, %r13d
        xor     %r14d, %r14d
        mov     TRAPLINE_COUNT(%r12), %ebp
        lea     TRAPLINE_COMMAND(%r12), %rbx
.Lnext:
        test    %ebp, %ebp
        jz      .Lacknowledge
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     4(%rbx), %edx
        mov     (%rbx), %eax
        cmp     $TRAPLINE_MAP, %eax
        je      .Lmap
        cmp     $TRAPLINE_UNMAP, %eax
        je      .Lunmap
        cmp     $TRAPLINE_PROTECT, %eax
        je      .Lprotect
        cmp     $TRAPLINE_DESCRIPTOR, %eax
        je      .Ldescriptor
.Ldie:
        mov     $__NR_exit_group, %eax
        mov     $1, %edi
        syscall
        ud2

.Lmap:
        mov     $MAP_SHARED_FIXED_POPULATE, %r10d
        mov     $TRAPLINE_RAM_FILE, %r8d
        mov     24(%rbx), %r9
        mov     $__NR_mmap, %eax
        syscall
        jmp     .Ldone
.Lunmap:
        mov     $__NR_munmap, %eax
        syscall
        jmp     .Ldone
.Lprotect:
        mov     $__NR_mprotect, %eax
        syscall
        jmp     .Ldone
.Ldescriptor:
        mov     $1, %edi
        lea     8(%rbx), %rsi
        mov     $16, %edx
        mov     $__NR_modify_ldt, %eax
        syscall
        mov     %eax, %eax      /* The kernel's result is 32 bits wide. */
        movslq  %eax, %rax
.Ldone:
        cmp     $-4095, %rax
        jb      .Lgood
        mov     $1, %r14d
        mov     $__NR_pwrite64, %eax
        mov     $TRAPLINE_CONTROL_FILE, %edi
        lea     TRAPLINE_ONE(%r12), %rsi
        mov     $4, %edx
        mov     $(TRAPLINE_STATUS_OFFSET + TRAPLINE_FAILED), %r10d
        syscall
.Lgood:
        add     $TRAPLINE_COMMAND_SIZE, %rbx
        dec     %ebp
        jmp     .Lnext

.Lacknowledge:
        mov     TRAPLINE_STARTS(%r12), %ebp     /* Trapline may write them when it has the answer. */
        mov     TRAPLINE_TICKET(%r12), %ebx
        mov     $__NR_pwrite64, %eax
        mov     $TRAPLINE_CONTROL_FILE, %edi
        lea     TRAPLINE_SEQUENCE(%r12), %rsi
        mov     $4, %edx
        mov     $(TRAPLINE_STATUS_OFFSET + TRAPLINE_DONE), %r10d
        syscall
        movabs  $(TRAPLINE_STATUS_ADDRESS + TRAPLINE_DONE), %rdi
        test    %ebp, %ebp
        jz      .Lwake
        movabs  $(TRAPLINE_MAILBOX_ADDRESS + TRAPLINE_GO), %rdi
        test    %r14d, %r14d
        jz      .Lstart
        movabs  $(TRAPLINE_MAILBOX_ADDRESS + TRAPLINE_STOPPED), %rdi
.Lstart:
        mov     %ebx, (%rdi)
.Lwake:
        mov     $__NR_futex, %eax
        mov     $FUTEX_WAKE, %esi
        mov     $1, %edx
        syscall
        cmp     $TRAPLINE_STARTS_GUEST_AND_TELLS, %ebp
        jne     .Lwait
        movabs  $(TRAPLINE_STATUS_ADDRESS + TRAPLINE_DONE), %rdi
        mov     $__NR_futex, %eax
        syscall
        jmp     .Lwait
        .size   mapper, . - mapper

/* Where the program begins, and how a signal handler ends. */
        .globl  _start
        .type   _start, @function
_start:
        xor     %ebp, %ebp
        and     $-16, %rsp
        call    container_main
        ud2
        .size   _start, . - _start

        .globl  restore_context
        .type   restore_context, @function
restore_context:
        mov     $__NR_rt_sigreturn, %eax
        syscall
        .size   restore_context, . - restore_context

        .section .note.GNU-stack, "", @progbits
