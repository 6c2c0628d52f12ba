/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-pause: what of a pod has to be a process.
 *
 *	kistl-pause		pid 1 of a pod that shares its PID namespace: collects orphans, ends
 *				with SIGTERM or SIGINT
 *	kistl-pause unshare nui	a moment of it: makes a user namespace, says so with a byte on
 *				descriptor 1, waits for one on 0 (the mappings are written
 *				meanwhile), makes the other namespaces (net, uts, ipc) in it, says
 *				so, and ends with its input. The daemon has threads, and no thread
 *of such a process may make a user namespace.
 *
 * It is there once a pod, so it does without a C library: a page or two instead of a hundred.
 */

#include <asm/unistd.h>
#include <linux/sched.h>
#include <linux/wait.h>

#define SIG_INT 2
#define SIG_TERM 15
#define SIG_CHLD 17
#define MASK(n) (1UL << ((n)-1))
#define ERR_INTR 4

#if defined(__x86_64__)

static long call(long n, long a, long b, long c, long d)
{
	long ret;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call pause_main\n");

#elif defined(__aarch64__)

static long call(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl pause_main\n");

#elif defined(__riscv) && __riscv_xlen == 64

static long call(long n, long a, long b, long c, long d)
{
	register long a7 __asm__("a7") = n;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;

	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3) : "memory");
	return a0;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mv a0, sp\n"
	"	call pause_main\n");

#else
#error "kistl-pause: this architecture is not known"
#endif

static void leave(long status) __attribute__((noreturn));
static void leave(long status)
{
	for (;;)
		call(__NR_exit_group, status, 0, 0, 0);
}

static void reap(void) __attribute__((noreturn));
static void reap(void)
{
	static const unsigned long set = MASK(SIG_INT) | MASK(SIG_TERM) | MASK(SIG_CHLD);

	call(__NR_rt_sigprocmask, 0 /* block */, (long)&set, 0, sizeof(set));
	for (;;) {
		long signal = call(__NR_rt_sigtimedwait, (long)&set, 0, 0, sizeof(set));

		if (signal == SIG_INT || signal == SIG_TERM)
			leave(0);
		while (call(__NR_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}

static void tell(void)
{
	if (call(__NR_write, 1, (long)"+", 1, 0) != 1)
		leave(1);
}

/* False at the end of input. */
static int hear(void)
{
	char byte;
	long n;

	do
		n = call(__NR_read, 0, (long)&byte, 1, 0);
	while (n == -ERR_INTR);
	return n == 1;
}

static void unshare_all(const char *which) __attribute__((noreturn));
static void unshare_all(const char *which)
{
	unsigned long flags = 0;
	long r;

	for (; *which; which++)
		flags |= *which == 'n'	 ? CLONE_NEWNET
			 : *which == 'u' ? CLONE_NEWUTS
			 : *which == 'i' ? CLONE_NEWIPC
					 : 0;
	r = call(__NR_unshare, CLONE_NEWUSER, 0, 0, 0);
	if (r < 0)
		leave(-r);
	tell();
	if (!hear())
		leave(1);
	r = call(__NR_unshare, (long)flags, 0, 0, 0);
	if (r < 0)
		leave(-r);
	tell();
	while (hear())
		;
	leave(0);
}

/* stack: the argument count, then the arguments. */
void pause_main(const long *stack) __attribute__((noreturn, used));
void pause_main(const long *stack)
{
	const char *const *argv = (const char *const *)(stack + 1);

	if (stack[0] == 3)
		unshare_all(argv[2]);
	reap();
}
