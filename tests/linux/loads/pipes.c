// Pipes, sockets and descriptors: bytes come through in order, readers and writers wake each other.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "check.h"

static void write_all(int file, const void* bytes, size_t count) {
  const char* next = bytes;
  while (count > 0) {
    const ssize_t written = write(file, next, count);
    REQUIRE("write", written > 0);
    next += written;
    count -= (size_t)written;
  }
}

// A child sends a random stream in pieces of all sizes; hash it at the other end.
static void stream(const char* name, int reader, int writer) {
  enum { kBytes = 1 << 20 };
  const pid_t child = fork();
  if (child == 0) {
    close(reader);
    uint32_t state = 42;
    static unsigned char piece[20000];
    for (size_t left = kBytes; left > 0;) {
      size_t size = next_random(&state) % sizeof piece + 1;
      if (size > left) size = left;
      for (size_t i = 0; i < size; i++) piece[i] = (unsigned char)next_random(&state);
      write_all(writer, piece, size);
      left -= size;
    }
    _exit(0);
  }
  close(writer);
  uint32_t hash = (uint32_t)kHashStart;
  size_t total = 0;
  static unsigned char buffer[7001];
  for (ssize_t got; (got = read(reader, buffer, sizeof buffer)) > 0; total += (size_t)got)
    hash = hash_bytes(hash, buffer, (size_t)got);
  CHECK("end of stream", total == kBytes);
  report(name, hash);
  close(reader);
  waitpid(child, NULL, 0);
}

static void ping_pong(void) {
  int there[2], back[2];
  REQUIRE("pipes", pipe(there) == 0 && pipe(back) == 0);
  const pid_t child = fork();
  if (child == 0) {
    uint32_t value;
    close(there[1]);
    while (read(there[0], &value, sizeof value) == sizeof value) {
      value = value * 1664525u + 1013904223u;
      write_all(back[1], &value, sizeof value);
    }
    _exit(0);
  }
  uint32_t value = 1;
  for (int i = 0; i < 5000; i++) {
    write_all(there[1], &value, sizeof value);
    REQUIRE("answer", read(back[0], &value, sizeof value) == sizeof value);
  }
  report("ping-pong", value);
  close(there[1]);
  waitpid(child, NULL, 0);
  close(there[0]), close(back[0]), close(back[1]);
}

static volatile sig_atomic_t broken;
static void on_broken(int number) {
  broken = number;
}

static void edges(void) {
  int ends[2];
  REQUIRE("pipe2", pipe2(ends, O_NONBLOCK) == 0);
  static char block[4096];
  CHECK("empty", read(ends[0], block, 1) == -1 && errno == EAGAIN);
  int blocks = 0;
  while (write(ends[1], block, sizeof block) == sizeof block) blocks++;
  CHECK("full", errno == EAGAIN);
  report("capacity", (uint32_t)blocks * 4096);
  struct pollfd polled[] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
  CHECK("poll", poll(polled, 2, 0) == 1 && polled[0].revents == POLLIN);
  close(ends[0]);
  signal(SIGPIPE, on_broken);
  CHECK("EPIPE", write(ends[1], block, 1) == -1 && errno == EPIPE && broken == SIGPIPE);
  close(ends[1]);
}

static void vectors(void) {
  int ends[2];
  REQUIRE("pipe", pipe(ends) == 0);
  struct iovec out[] = {{"scat", 4}, {"", 0}, {"tered", 5}};
  CHECK("writev", writev(ends[1], out, 3) == 9);
  char first[3], second[10] = "";
  struct iovec in[] = {{first, 3}, {second, 9}};
  CHECK("readv", readv(ends[0], in, 2) == 9 && memcmp(first, "sca", 3) == 0 &&
                     strcmp(second, "ttered") == 0);
  CHECK("dup2", dup2(ends[1], 77) == 77 && write(77, "x", 1) == 1 && read(ends[0], first, 3) == 1);
  close(77), close(ends[0]), close(ends[1]);
}

// A descriptor travels through a socket.
static void passed_descriptor(void) {
  int pair[2], ends[2];
  REQUIRE("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0 && pipe(ends) == 0);
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
  char byte = 'd';
  struct iovec data = {&byte, 1};
  struct msghdr message = {NULL, 0, &data, 1, &control, sizeof control, 0};
  CHECK("sendmsg", sendmsg(pair[0], &message, 0) == 1);
  memset(&control, 0, sizeof control);
  CHECK("recvmsg", recvmsg(pair[1], &message, 0) == 1);
  int arrived;
  memcpy(&arrived, CMSG_DATA(&control.header), sizeof arrived);
  char text[4] = "";
  CHECK("passed descriptor",
        write(arrived, "abc", 3) == 3 && read(ends[0], text, 3) == 3 && strcmp(text, "abc") == 0);
  close(arrived), close(ends[0]), close(ends[1]), close(pair[0]), close(pair[1]);
}

static void events(void) {
  const int counter = eventfd(0, EFD_NONBLOCK), set = epoll_create1(0);
  REQUIRE("epoll", counter >= 0 && set >= 0);
  struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = 0x123456789abcdefull}};
  CHECK("epoll_ctl", epoll_ctl(set, EPOLL_CTL_ADD, counter, &event) == 0);
  CHECK("nothing yet", epoll_wait(set, &event, 1, 0) == 0);
  for (uint64_t i = 1; i <= 10; i++) CHECK("eventfd", write(counter, &i, sizeof i) == sizeof i);
  memset(&event, 0, sizeof event);
  CHECK("epoll_wait",
        epoll_wait(set, &event, 1, 1000) == 1 && event.data.u64 == 0x123456789abcdefull);
  uint64_t sum = 0;
  CHECK("sum", read(counter, &sum, sizeof sum) == sizeof sum && sum == 55);
  close(counter), close(set);
}

int main(void) {
  int ends[2];
  REQUIRE("pipe", pipe(ends) == 0);
  stream("pipe", ends[0], ends[1]);
  REQUIRE("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  stream("socket", ends[0], ends[1]);
  ping_pong();
  edges();
  vectors();
  passed_descriptor();
  events();
  return finish();
}
