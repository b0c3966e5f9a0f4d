// The reference of carrier-loss-to-wipe: what the interlock's watcher does, in C. Hears of carrier changes by rtnetlink
// (linux/rtnetlink.h, linux/if_link.h), compares the counters, asks for them each millisecond as a backstop, and overwrites a
// locked arena of ARENA bytes with explicit_bzero. For each line `arm NAME` it answers `armed`, and once wiped the times of the
// detection and of the end of the wipe.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MILLISECONDS = 1 };

static char buffer[65536];
static int events, queries, watched_index;
static int carrier;
static unsigned down_count;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int open_netlink(unsigned groups) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
  int size = 1 << 20;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("rtnetlink");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  return fd;
}

// Whether a message tells of a carrier loss, or of the interface's removal; keeps what it says otherwise.
static int lost(struct nlmsghdr *message) {
  struct ifinfomsg *link = NLMSG_DATA(message);
  if (message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) return 0;
  if (link->ifi_index != watched_index) return 0;
  if (message->nlmsg_type == RTM_DELLINK) return 1;
  int seen_carrier = -1;
  unsigned seen_down = down_count;
  int left = IFLA_PAYLOAD(message);
  for (struct rtattr *a = IFLA_RTA(link); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
    if (a->rta_type == IFLA_CARRIER) seen_carrier = *(unsigned char *)RTA_DATA(a);
    if (a->rta_type == IFLA_CARRIER_DOWN_COUNT) memcpy(&seen_down, RTA_DATA(a), sizeof seen_down);
  }
  if (seen_down != down_count || (carrier == 1 && seen_carrier == 0)) return 1;
  carrier = seen_carrier;
  return 0;
}

// Reads what is queued; 1 when it tells of a loss, or when messages went missing.
static int drain(int fd) {
  for (;;) {
    ssize_t received = recv(fd, buffer, sizeof buffer, 0);
    if (received < 0) return errno != EAGAIN;
    int left = (int)received;
    for (struct nlmsghdr *m = (struct nlmsghdr *)buffer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
      if (lost(m)) return 1;
    }
  }
}

static int ask_for_counters(void) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg link;
  } query = {
      .header = {.nlmsg_len = sizeof query, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
      .link = {.ifi_index = watched_index},
  };
  if (send(queries, &query, sizeof query, 0) != sizeof query) return 1;
  return drain(queries);
}

static void read_baseline(void) {
  carrier = 0; // Nothing is lost by asking: the first answer is the baseline.
  down_count = 0;
  char path[128], name[IF_NAMESIZE];
  if (if_indextoname(watched_index, name) == NULL) fail("interface");
  snprintf(path, sizeof path, "/sys/class/net/%s/carrier_down_count", name);
  FILE *file = fopen(path, "r");
  if (file == NULL || fscanf(file, "%u", &down_count) != 1) fail(path);
  fclose(file);
  if (ask_for_counters()) fail("baseline");
}

static void wait_for_loss(void) {
  struct pollfd ready = {.fd = events, .events = POLLIN};
  for (;;) {
    int count = poll(&ready, 1, POLL_MILLISECONDS);
    if (count > 0 ? drain(events) : ask_for_counters()) return;
  }
}

int main(void) {
  char line[64], name[33];
  char *arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (arena == MAP_FAILED || mlock(arena, ARENA) != 0 || madvise(arena, ARENA, MADV_DONTDUMP) != 0) fail("arena");
  queries = open_netlink(0);
  while (fgets(line, sizeof line, stdin) != NULL && sscanf(line, "arm %32s", name) == 1) {
    watched_index = (int)if_nametoindex(name);
    events = open_netlink(RTMGRP_LINK);
    read_baseline();
    memset(arena, 0xa5, ARENA);
    puts("armed");
    fflush(stdout);
    wait_for_loss();
    struct timespec detected, wiped;
    clock_gettime(CLOCK_MONOTONIC, &detected);
    explicit_bzero(arena, ARENA);
    clock_gettime(CLOCK_MONOTONIC, &wiped);
    close(events);
    printf("%.3f %.3f\n", detected.tv_sec * 1e6 + detected.tv_nsec / 1e3, wiped.tv_sec * 1e6 + wiped.tv_nsec / 1e3);
    fflush(stdout);
  }
  return 0;
}
