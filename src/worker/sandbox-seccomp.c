/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of allowed calls, compiled to BPF here (libseccomp would be one more library for a page of
 * code). What is not listed fails with ENOSYS, which is what C libraries expect of older kernels
 * and have fall-backs for (clone3 to clone, faccessat2 to faccessat ...). A rule may ask for a
 * value of one argument, whole or under a mask. The kernel answers calls that are allowed
 * unconditionally from a bitmap, so the length of the list costs nothing per call.
 */

#include "worker/sandbox.h"

#include "base/mem.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "add this architecture's AUDIT_ARCH to sandbox-seccomp.c"
#endif

#define ANY \
	(1U << SANDBOX_NETWORK | 1U << SANDBOX_UNPACK | 1U << SANDBOX_ARCHIVE | 1U << SANDBOX_READ)
#define NET (1U << SANDBOX_NETWORK)
#define UNP (1U << SANDBOX_UNPACK)
#define ARC (1U << SANDBOX_ARCHIVE)
#define RDX (1U << SANDBOX_UNPACK | 1U << SANDBOX_READ)

struct rule {
	unsigned phases;
	long nr;
	int arg;       /* 0: allowed with any arguments; else argument arg - 1 ... */
	uint32_t mask; /* ... under this mask ... */
	uint32_t value;
};

#define ALLOW(phases, name)                   \
	{                                     \
		(phases), SYS_##name, 0, 0, 0 \
	}
#define ALLOW_ARG(phases, name, n, value)                          \
	{                                                          \
		(phases), SYS_##name, (n) + 1, UINT32_MAX, (value) \
	}
#define ALLOW_MASK(phases, name, n, mask, value)               \
	{                                                      \
		(phases), SYS_##name, (n) + 1, (mask), (value) \
	}

#define CLONE_NEW_ANY                                                                              \
	(CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	 CLONE_NEWCGROUP)

/* clang-format off */
static const struct rule rules[] = {
	/* memory, threads, time */
	ALLOW(ANY, brk), ALLOW(ANY, mmap), ALLOW(ANY, munmap), ALLOW(ANY, mremap),
	ALLOW(ANY, mprotect), ALLOW(ANY, madvise), ALLOW(ANY, futex), ALLOW(ANY, set_robust_list),
	ALLOW(ANY, rseq), ALLOW(ANY, sched_yield), ALLOW(ANY, sched_getaffinity),
	ALLOW(ANY, gettid), ALLOW(ANY, getpid), ALLOW(ANY, exit), ALLOW(ANY, exit_group),
	ALLOW_MASK(ANY, clone, 0, CLONE_THREAD | CLONE_NEW_ANY, CLONE_THREAD),
	ALLOW(ANY, restart_syscall), ALLOW(ANY, clock_gettime), ALLOW(ANY, clock_nanosleep),
	ALLOW(ANY, nanosleep), ALLOW(ANY, gettimeofday), ALLOW(ANY, getrandom),
	ALLOW_ARG(ANY, prlimit64, 0, 0), ALLOW_ARG(ANY, prctl, 0, PR_SET_NAME),
	ALLOW_ARG(ANY, prctl, 0, PR_GET_NAME), ALLOW(ANY, uname), ALLOW(ANY, getuid),
	ALLOW(ANY, geteuid), ALLOW(ANY, getgid), ALLOW(ANY, getegid),
	/* signals */
	ALLOW(ANY, rt_sigaction), ALLOW(ANY, rt_sigprocmask), ALLOW(ANY, rt_sigreturn),
	ALLOW(ANY, sigaltstack), ALLOW(ANY, tgkill),
	/* descriptors */
	ALLOW(ANY, read), ALLOW(ANY, write), ALLOW(ANY, readv), ALLOW(ANY, writev),
	ALLOW(ANY, pread64), ALLOW(ANY, pwrite64), ALLOW(ANY, close), ALLOW(ANY, lseek),
	ALLOW(ANY, fstat), ALLOW(ANY, fcntl), ALLOW(ANY, dup), ALLOW(ANY, ppoll),
	ALLOW(ANY, pipe2), ALLOW(ANY, eventfd2), ALLOW(ANY, epoll_create1), ALLOW(ANY, epoll_ctl),
	ALLOW(ANY, epoll_pwait), ALLOW(ANY, sendmsg), ALLOW(ANY, recvmsg), ALLOW(ANY, sendto),
	ALLOW(ANY, recvfrom), ALLOW(ANY, getsockopt), ALLOW(ANY, ftruncate),
	ALLOW(ANY, fallocate), ALLOW(ANY, fadvise64), ALLOW(ANY, fsync), ALLOW(ANY, fdatasync),
	ALLOW(ANY, sync_file_range), ALLOW(ANY, splice), ALLOW(ANY, copy_file_range),
	ALLOW(ANY, sendfile), ALLOW(ANY, memfd_create), ALLOW_ARG(ANY, ioctl, 1, FICLONE),
	ALLOW_ARG(ANY, ioctl, 1, FIONREAD), ALLOW_ARG(ANY, ioctl, 1, FIONBIO),
	/* files, by descriptor of their directory; what can be opened is a matter of the fence */
	ALLOW(ANY, openat), ALLOW(ANY, openat2), ALLOW(ANY, newfstatat), ALLOW(ANY, statx),
	ALLOW(ANY, faccessat), ALLOW(ANY, readlinkat), ALLOW(ANY, getdents64),
	ALLOW(ANY, fstatfs), ALLOW(ANY, getcwd), ALLOW(UNP, mkdirat), ALLOW(UNP, mknodat),
	ALLOW(UNP, unlinkat), ALLOW(UNP, symlinkat), ALLOW(UNP, linkat), ALLOW(UNP, fchown),
	ALLOW(UNP, fchownat), ALLOW(UNP, fchmod), ALLOW(UNP, fchmodat), ALLOW(UNP, utimensat),
	ALLOW(UNP, fsetxattr), ALLOW(UNP, lsetxattr), ALLOW(RDX, fgetxattr),
	ALLOW(RDX, lgetxattr), ALLOW(RDX, flistxattr), ALLOW(RDX, llistxattr),
	ALLOW(UNP, fremovexattr), ALLOW(RDX, fchdir), ALLOW(UNP, renameat2), ALLOW(UNP, renameat),
	/* network: IPv4, IPv6, name service daemons, the list of addresses (getaddrinfo) */
	ALLOW_ARG(NET, socket, 0, AF_INET), ALLOW_ARG(NET, socket, 0, AF_INET6),
	ALLOW_ARG(NET, socket, 0, AF_UNIX), ALLOW_ARG(NET, socket, 0, AF_NETLINK),
	ALLOW_ARG(NET, socketpair, 0, AF_UNIX), ALLOW(NET, connect), ALLOW(NET, bind),
	ALLOW(NET, getsockname), ALLOW(NET, getpeername), ALLOW(NET, setsockopt),
	ALLOW(NET, shutdown), ALLOW(NET, sendmmsg), ALLOW(NET, recvmmsg), ALLOW(NET, pselect6),
	ALLOW(NET, sysinfo),
	/* calls that newer architectures never had */
#ifdef __x86_64__
	ALLOW(ANY, poll), ALLOW(ANY, epoll_wait), ALLOW(ANY, stat), ALLOW(ANY, lstat),
	ALLOW(ANY, open), ALLOW(ANY, access), ALLOW(ANY, readlink), ALLOW(ANY, time),
	ALLOW(ANY, pipe), ALLOW(ANY, dup2), ALLOW(NET, select), ALLOW(ANY, arch_prctl),
#else
	ALLOW(ANY, dup3),
#endif
};
/* clang-format on */

struct program {
	struct sock_filter code[6 * ARRAY_SIZE(rules) + 16];
	size_t n;
};

static void emit(struct program *p, struct sock_filter f)
{
	assert(p->n < ARRAY_SIZE(p->code));
	p->code[p->n++] = f;
}

#define LOAD(offset) ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset)))
#define RETURN(value) ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (value)))
#define IF(op, k, yes, no) ((struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (yes), (no)))

static void emit_rule(struct program *p, const struct rule *r)
{
	if (r->arg == 0) {
		emit(p, IF(BPF_JEQ, (uint32_t)r->nr, 0, 1));
		emit(p, RETURN(SECCOMP_RET_ALLOW));
		return;
	}
	/* Low halves suffice: all such arguments are 32 bits wide in the kernel. */
	emit(p, IF(BPF_JEQ, (uint32_t)r->nr, 0, 5));
	emit(p, LOAD((uint32_t)offsetof(struct seccomp_data, args) + 8 * (uint32_t)(r->arg - 1)));
	emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, r->mask));
	emit(p, IF(BPF_JEQ, r->value, 0, 1));
	emit(p, RETURN(SECCOMP_RET_ALLOW));
	emit(p, LOAD(offsetof(struct seccomp_data, nr)));
}

int sandbox_filter(enum sandbox_phase phase, struct error *err)
{
	autofree struct program *p = xnew(struct program);

	static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
		      "arguments' low halves come first");
	emit(p, LOAD(offsetof(struct seccomp_data, arch)));
	emit(p, IF(BPF_JEQ, OUR_ARCH, 1, 0));
	emit(p, RETURN(SECCOMP_RET_KILL_PROCESS));
	emit(p, LOAD(offsetof(struct seccomp_data, nr)));
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (rules[i].phases & 1U << phase)
			emit_rule(p, &rules[i]);
	emit(p, RETURN(SECCOMP_RET_ERRNO | ENOSYS)); /* the x32 numbers of x86-64 too */

	struct sock_fprog prog = { .len = (unsigned short)p->n, .filter = p->code };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog) <
		    0 &&
	    errno != ENOSYS && errno != EINVAL) /* a kernel without filters */
		return error_errno(err, errno, "sandbox: install the system call filter");
	return 0;
}
