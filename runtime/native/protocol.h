/* What Trapline and a container's program agree on: the pages that they share, and where a
 * container has them. Read by C, C++ and the assembler.
 *
 *   commands   Trapline writes them, the container can only read them
 *   status     the mapper writes it through its file descriptor; the container can only read it
 *   mailbox    both write it, so nothing in it can be believed
 */
#ifndef TRAPLINE_RUNTIME_NATIVE_PROTOCOL_H
#define TRAPLINE_RUNTIME_NATIVE_PROTOCOL_H

#define TRAPLINE_COMMANDS_ADDRESS 0x300000000000
#define TRAPLINE_STATUS_ADDRESS 0x300000002000
#define TRAPLINE_MAILBOX_ADDRESS 0x300000004000

/* Offsets in the shared file. */
#define TRAPLINE_COMMANDS_OFFSET 0
#define TRAPLINE_COMMANDS_BYTES 0x2000
#define TRAPLINE_STATUS_OFFSET 0x2000
#define TRAPLINE_STATUS_BYTES 0x1000
#define TRAPLINE_MAILBOX_OFFSET 0x3000
#define TRAPLINE_MAILBOX_BYTES 0x1000
#define TRAPLINE_SHARED_BYTES 0x4000

/* The file descriptors that the program is started with. */
#define TRAPLINE_CONTROL_FILE 3
#define TRAPLINE_RAM_FILE 4

/* What the mapper does: NativeCommand.operation. */
#define TRAPLINE_MAP 1        /* length bytes of RAM from offset, at address */
#define TRAPLINE_UNMAP 2      /* length bytes at address */
#define TRAPLINE_PROTECT 3    /* length bytes at address */
#define TRAPLINE_DESCRIPTOR 4 /* the struct user_desc that lies at NativeCommand.address */

/* Whether the mapper lets the guest run when it is through: NativeCommands.starts. */
#define TRAPLINE_STARTS_NOTHING 0
#define TRAPLINE_STARTS_GUEST 1
#define TRAPLINE_STARTS_GUEST_AND_TELLS 2 /* And wakes who waits for it, unlike the last. */

#define TRAPLINE_COMMAND_SIZE 32
#define TRAPLINE_MAX_COMMANDS 200

/* Offsets in the pages, for the assembler. */
#define TRAPLINE_SEQUENCE 0
#define TRAPLINE_COUNT 4
#define TRAPLINE_TRAPLINE_PID 8
#define TRAPLINE_ONE 12
#define TRAPLINE_STARTS 20
#define TRAPLINE_TICKET 24
#define TRAPLINE_COMMAND 64
#define TRAPLINE_DONE 0
#define TRAPLINE_FAILED 4
#define TRAPLINE_GO 0
#define TRAPLINE_STOPPED 4
#define TRAPLINE_REGISTERS 80
/* And in the registers. */
#define TRAPLINE_EIP 32
#define TRAPLINE_EFLAGS 36
#define TRAPLINE_CS 40
#define TRAPLINE_SS 42
#define TRAPLINE_DS 44
#define TRAPLINE_ES 46
#define TRAPLINE_FS 48
#define TRAPLINE_GS 50
#define TRAPLINE_FPU 64

/* NativeMailbox.signal, where it is none: the container has started. */
#define TRAPLINE_READY 0x100

/* NativeMailbox.trap, where it is none of the processor's numbers: an address that is watched. */
#define TRAPLINE_WATCHED 0x100

/* The kick. */
#define TRAPLINE_KICK_SIGNAL 10 /* SIGUSR1 */

#define TRAPLINE_FLAT_CS 0x23
#define TRAPLINE_FLAT_DATA 0x2b

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

struct NativeCommand {
  uint32_t operation;
  uint32_t protection;
  uint64_t address;
  uint64_t length;
  uint64_t offset;
};

struct NativeCommands {
  uint32_t sequence; /* A new value: there is something to do. A futex. */
  uint32_t count;
  uint32_t trapline_pid;
  uint32_t one;        /* 1, to be written from. */
  uint32_t unconfined; /* For tests of the confinement: there is none. */
  uint32_t starts;     /* When the mapper is through it may let the guest run, */
  uint32_t ticket;     /* by this value of `go`; of `stopped`, when something has failed. */
  uint32_t reserved[9];
  struct NativeCommand command[TRAPLINE_MAX_COMMANDS];
};

struct NativeStatus {
  uint32_t done; /* The sequence number of the last commands that were carried out. A futex. */
  uint32_t failed;
};

struct NativeRegisters {
  uint32_t gpr[8]; /* In the order of their numbers. */
  uint32_t eip;
  uint32_t eflags;
  uint16_t cs, ss, ds, es, fs, gs;
  uint32_t reserved[3];
  uint8_t fpu[512]; /* As FXSAVE stores it, which wants it aligned to 16 bytes. */
};

struct NativeMailbox {
  uint32_t go;      /* A new value: the guest runs. A futex. */
  uint32_t stopped; /* The value of `go` that came to its end. A futex. */
  uint32_t trapline_waits;
  uint32_t container_waits;
  uint32_t looks; /* How long to look before sleeping, in ticks of the time stamp counter. */
  uint32_t mapper_pid;
  uint32_t cpuid_faults; /* CPUID is #GP for guest code. */
  uint32_t signal;       /* What ended it. */
  uint32_t trap;
  uint64_t deadline; /* Guest code is to stop by itself then, by CLOCK_MONOTONIC; 0: never. */
  uint64_t began;    /* By the time stamp counter: guest code goes on (0: not yet), */
  uint64_t ended;    /* and stopped. */
  uint64_t error;
  uint64_t address; /* Of a page fault. */
  struct NativeRegisters registers;
};

#ifdef __cplusplus
#define TRAPLINE_PROTOCOL_ASSERT static_assert
#else
#define TRAPLINE_PROTOCOL_ASSERT _Static_assert
#endif
/* What the assembler takes for granted. */
#define TRAPLINE_LIES_AT(type, field, offset) \
  TRAPLINE_PROTOCOL_ASSERT(offsetof(struct type, field) == (offset), #type)
TRAPLINE_LIES_AT(NativeCommands, sequence, TRAPLINE_SEQUENCE);
TRAPLINE_LIES_AT(NativeCommands, count, TRAPLINE_COUNT);
TRAPLINE_LIES_AT(NativeCommands, trapline_pid, TRAPLINE_TRAPLINE_PID);
TRAPLINE_LIES_AT(NativeCommands, one, TRAPLINE_ONE);
TRAPLINE_LIES_AT(NativeCommands, starts, TRAPLINE_STARTS);
TRAPLINE_LIES_AT(NativeCommands, ticket, TRAPLINE_TICKET);
TRAPLINE_LIES_AT(NativeCommands, command, TRAPLINE_COMMAND);
TRAPLINE_LIES_AT(NativeStatus, done, TRAPLINE_DONE);
TRAPLINE_LIES_AT(NativeStatus, failed, TRAPLINE_FAILED);
TRAPLINE_LIES_AT(NativeMailbox, go, TRAPLINE_GO);
TRAPLINE_LIES_AT(NativeMailbox, stopped, TRAPLINE_STOPPED);
TRAPLINE_LIES_AT(NativeMailbox, registers, TRAPLINE_REGISTERS);
TRAPLINE_LIES_AT(NativeRegisters, gpr, 0);
TRAPLINE_LIES_AT(NativeRegisters, eip, TRAPLINE_EIP);
TRAPLINE_LIES_AT(NativeRegisters, eflags, TRAPLINE_EFLAGS);
TRAPLINE_LIES_AT(NativeRegisters, cs, TRAPLINE_CS);
TRAPLINE_LIES_AT(NativeRegisters, ss, TRAPLINE_SS);
TRAPLINE_LIES_AT(NativeRegisters, ds, TRAPLINE_DS);
TRAPLINE_LIES_AT(NativeRegisters, es, TRAPLINE_ES);
TRAPLINE_LIES_AT(NativeRegisters, fs, TRAPLINE_FS);
TRAPLINE_LIES_AT(NativeRegisters, gs, TRAPLINE_GS);
TRAPLINE_LIES_AT(NativeRegisters, fpu, TRAPLINE_FPU);
TRAPLINE_PROTOCOL_ASSERT(sizeof(struct NativeCommand) == TRAPLINE_COMMAND_SIZE, "the mapper steps");
TRAPLINE_PROTOCOL_ASSERT((TRAPLINE_REGISTERS + TRAPLINE_FPU) % 16 == 0, "FXRSTOR");
TRAPLINE_PROTOCOL_ASSERT(sizeof(struct NativeCommands) <= TRAPLINE_COMMANDS_BYTES, "two pages");
TRAPLINE_PROTOCOL_ASSERT(sizeof(struct NativeMailbox) <= TRAPLINE_MAILBOX_BYTES, "one page");

#endif
#endif
