// Ends one thread of a process, which no signal can: it is stopped by ptrace(2), and its next instruction made the exit(2) of that
// thread alone. `end-thread TID`; the thread must wait in the kernel at times.
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

// Whether the thread stands right behind its call of the kernel; then it is made to call exit(0) instead.
static int redirect(pid_t thread) {
  struct user_regs_struct registers;
  struct iovec all = {.iov_base = &registers, .iov_len = sizeof registers};
  if (ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &all) != 0) fail("registers");
#if defined(__x86_64__)
  unsigned long call = registers.rip - 2;
  if ((ptrace(PTRACE_PEEKTEXT, thread, call, 0) & 0xffff) != 0x050f) return 0;
  registers.rip = call;
  registers.rax = SYS_exit;
  registers.orig_rax = -1; // Nothing is to be restarted.
  registers.rdi = 0;
#elif defined(__aarch64__)
  unsigned long call = registers.pc - 4;
  if ((ptrace(PTRACE_PEEKTEXT, thread, call, 0) & 0xffffffff) != 0xd4000001) return 0;
  registers.pc = call;
  registers.regs[8] = SYS_exit;
  registers.regs[0] = 0;
#else
#error "x86-64 or arm64"
#endif
  if (ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &all) != 0) fail("registers");
  return 1;
}

int main(int count, char **words) {
  pid_t thread = count == 2 ? atoi(words[1]) : 0;
  if (ptrace(PTRACE_SEIZE, thread, 0, 0) != 0) fail("seize");
  for (int tries = 0; tries < 1000; tries++) {
    int status;
    if (ptrace(PTRACE_INTERRUPT, thread, 0, 0) != 0) fail("interrupt");
    if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status)) fail("stop");
    if (redirect(thread)) return ptrace(PTRACE_DETACH, thread, 0, 0) == 0 ? 0 : 1;
    if (ptrace(PTRACE_CONT, thread, 0, 0) != 0) fail("continue");
    usleep(500);
  }
  fputs("The thread never waits in the kernel.\n", stderr);
  return 1;
}
