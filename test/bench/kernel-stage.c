// The reference of zeroize-kernel: for each line `delete NAME` the interface is deleted by one rtnetlink message (RTM_DELLINK) that was
// built beforehand. It answers with the microseconds from the message to the kernel's acknowledgement.
#define _GNU_SOURCE
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double micros(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

int main(void) {
  char line[64], name[33], answer[4096];
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("rtnetlink");
  while (fgets(line, sizeof line, stdin) != NULL && sscanf(line, "delete %32s", name) == 1) {
    struct {
      struct nlmsghdr header;
      struct ifinfomsg link;
    } message = {
        .header = {.nlmsg_len = sizeof message, .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .link = {.ifi_index = (int)if_nametoindex(name)},
    };
    if (message.link.ifi_index == 0) fail(name);
    double began = micros();
    if (send(fd, &message, sizeof message, 0) != sizeof message) fail("send");
    if (recv(fd, answer, sizeof answer, 0) < (ssize_t)sizeof(struct nlmsghdr)) fail("receive");
    double ended = micros();
    struct nlmsghdr *header = (struct nlmsghdr *)answer;
    if (header->nlmsg_type != NLMSG_ERROR || ((struct nlmsgerr *)NLMSG_DATA(header))->error != 0) fail("delete");
    printf("%.3f\n", ended - began);
    fflush(stdout);
  }
  return 0;
}
