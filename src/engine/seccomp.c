/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default seccomp profile: what Docker's default allows, as tables. Everything else fails with
 * EPERM, clone3 with ENOSYS so that C libraries fall back to clone, whose flags can be checked.
 */

#include "base/mem.h"
#include "engine/spec.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define ALLOW "SCMP_ACT_ALLOW"
#define ERRNO_ENOSYS 38
#define CLONE_NAMESPACES \
	0x7E020000ULL /* all CLONE_NEW* but CLONE_NEWTIME, which clone(2) cannot have */
#define AF_VSOCK_NUMBER 40

static const char always[] =
	"accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown "
	"chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
	"clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect "
	"copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old "
	"epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit "
	"exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir "
	"fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr "
	"flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 "
	"fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv "
	"futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid "
	"geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp "
	"getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 "
	"getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid "
	"gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init "
	"inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents "
	"io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule "
	"landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat "
	"listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr "
	"lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir "
	"mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify "
	"mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 "
	"mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap "
	"name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open "
	"pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 "
	"prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 "
	"pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg "
	"recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat "
	"renameat2 restart_syscall rmdir riscv_hwprobe rseq rt_sigaction rt_sigpending "
	"rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
	"rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam "
	"sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval "
	"sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
	"sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop "
	"semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 "
	"setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority "
	"setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 "
	"setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid "
	"setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd "
	"signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 "
	"statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time "
	"timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime "
	"timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
	"timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat "
	"uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid "
	"write writev process_vm_readv process_vm_writev ptrace";

#if defined(__x86_64__) || defined(__i386__)
static const char architecture_calls[] = "arch_prctl modify_ldt";
static const char *const architectures[] = { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32" };
static const char *const docker_arch = "amd64";
#elif defined(__aarch64__)
static const char architecture_calls[] =
	"arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
static const char *const architectures[] = { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM" };
static const char *const docker_arch = "arm64";
#else
static const char architecture_calls[] = "sync_file_range2";
static const char *const architectures[] = { "SCMP_ARCH_NATIVE" };
static const char *const docker_arch = "other";
#endif

/* What a capability adds. */
static const struct {
	const char *cap, *calls;
} by_capability[] = {
	{ "CAP_DAC_READ_SEARCH", "open_by_handle_at" },
	{ "CAP_SYS_ADMIN",
	  "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
	  "mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname "
	  "sethostname setns syslog umount umount2 unshare" },
	{ "CAP_SYS_BOOT", "reboot" },
	{ "CAP_SYS_CHROOT", "chroot" },
	{ "CAP_SYS_MODULE", "delete_module init_module finit_module" },
	{ "CAP_SYS_PACCT", "acct" },
	{ "CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev "
			    "ptrace" },
	{ "CAP_SYS_RAWIO", "iopl ioperm" },
	{ "CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64" },
	{ "CAP_SYS_TTY_CONFIG", "vhangup" },
	{ "CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node" },
	{ "CAP_SYSLOG", "syslog" },
	{ "CAP_BPF", "bpf" },
	{ "CAP_PERFMON", "perf_event_open" },
};

static struct json *rule(const char *calls, const char *action)
{
	struct json *j = json_new_object();
	autostrv struct strv names = STRV_INIT;

	strv_split(&names, calls, " ");
	json_set(j, "names", json_new_strv(&names));
	json_set_string(j, "action", action);
	return j;
}

static void allow(struct json *list, const char *calls)
{
	json_add(list, rule(calls, ALLOW));
}

static void allow_if(struct json *list, const char *call, uint64_t value, uint64_t value_two,
		     const char *op)
{
	struct json *r = rule(call, ALLOW);
	struct json *args = json_new_array();
	struct json *arg = json_new_object();

	json_set_int(arg, "index", 0);
	json_set_uint(arg, "value", value);
	if (value_two)
		json_set_uint(arg, "valueTwo", value_two);
	json_set_string(arg, "op", op);
	json_add(args, arg);
	json_set(r, "args", args);
	json_add(list, r);
}

/* Harmless personalities: Linux, UNAME26, PER_LINUX32 and the query. */
static const uint64_t personalities[] = { 0x0, 0x8, 0x20000, 0x20008, 0xffffffff };

struct json *seccomp_default(const struct strv *capabilities)
{
	struct json *j = json_new_object();
	struct json *arches = json_new_array();
	struct json *list = json_new_array();

	json_set_string(j, "defaultAction", "SCMP_ACT_ERRNO");
	json_set_int(j, "defaultErrnoRet", EPERM);
	for (size_t i = 0; i < ARRAY_SIZE(architectures); i++)
		json_add(arches, json_new_string(architectures[i]));
	json_set(j, "architectures", arches);
	json_set(j, "syscalls", list);

	allow(list, always);
	allow(list, architecture_calls);
	allow_if(list, "socket", AF_VSOCK_NUMBER, 0, "SCMP_CMP_NE");
	for (size_t i = 0; i < ARRAY_SIZE(personalities); i++)
		allow_if(list, "personality", personalities[i], 0, "SCMP_CMP_EQ");
	for (size_t i = 0; i < ARRAY_SIZE(by_capability); i++) {
		if (strv_contains(capabilities, by_capability[i].cap))
			allow(list, by_capability[i].calls);
	}
	if (!strv_contains(capabilities, "CAP_SYS_ADMIN")) {
		struct json *clone3 = rule("clone3", "SCMP_ACT_ERRNO");

		allow_if(list, "clone", CLONE_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ");
		json_set_int(clone3, "errnoRet", ERRNO_ENOSYS);
		json_add(list, clone3);
	}
	return j;
}

/* "4.8" against the running kernel. */
static bool kernel_at_least(const char *version)
{
	struct utsname u;
	unsigned want[2] = { 0, 0 }, have[2] = { 0, 0 };

	if (uname(&u) < 0 || sscanf(version, "%u.%u", &want[0], &want[1]) < 1 ||
	    sscanf(u.release, "%u.%u", &have[0], &have[1]) < 1)
		return false;
	return have[0] != want[0] ? have[0] > want[0] : have[1] >= want[1];
}

/* Does a filter ("includes" or "excludes") name one of `have`? -1 when it names nothing. */
static int filter_match(const struct json *filter, const char *key, const struct strv *have,
			bool all, struct error *err)
{
	autostrv struct strv want = STRV_INIT;
	size_t hits = 0;

	if (json_get_strv(filter, key, &want, err) < 0)
		return -2;
	if (want.n == 0)
		return -1;
	for (size_t i = 0; i < want.n; i++)
		hits += strv_contains(have, want.v[i]);
	return all ? hits == want.n : hits > 0;
}

static int rule_applies(const struct json *r, const struct strv *caps, const struct strv *arch,
			bool *ret, struct error *err)
{
	const struct json *in = json_get(r, "includes"), *ex = json_get(r, "excludes");
	const char *kernel = json_get_string(in, "minKernel");
	const char *kernel_ex = json_get_string(ex, "minKernel");
	int in_caps = filter_match(in, "caps", caps, true, err);
	int in_arch = filter_match(in, "arches", arch, false, err);
	int ex_caps = filter_match(ex, "caps", caps, false, err);
	int ex_arch = filter_match(ex, "arches", arch, false, err);

	if (in_caps == -2 || in_arch == -2 || ex_caps == -2 || ex_arch == -2)
		return -1;
	*ret = in_caps != 0 && in_arch != 0 && ex_caps != 1 && ex_arch != 1 &&
	       (!kernel || kernel_at_least(kernel)) && (!kernel_ex || !kernel_at_least(kernel_ex));
	return 0;
}

static struct json *rule_convert(const struct json *r)
{
	struct json *j = json_new_object();
	const char *name = json_get_string(r, "name");

	if (name) {
		struct json *names = json_new_array();

		json_add(names, json_new_string(name));
		json_set(j, "names", names);
	} else {
		json_set(j, "names", json_ref(json_get(r, "names")));
	}
	json_set_string(j, "action", json_get_string(r, "action"));
	if (json_get(r, "errnoRet"))
		json_set(j, "errnoRet", json_ref(json_get(r, "errnoRet")));
	if (json_array_len(json_get(r, "args")) > 0)
		json_set(j, "args", json_ref(json_get(r, "args")));
	return j;
}

/* archMap: the entry of this machine with its sub-architectures; else `architectures` verbatim. */
static struct json *profile_architectures(const struct json *profile)
{
	const struct json *map = json_get(profile, "archMap");
	struct json *list = json_new_array();

	for (size_t i = 0; i < json_array_len(map); i++) {
		const struct json *e = json_array_get(map, i);
		const char *arch = json_get_string(e, "architecture");
		const struct json *sub = json_get(e, "subArchitectures");

		if (!str_equal(arch, architectures[0]))
			continue;
		json_add(list, json_new_string(arch));
		for (size_t k = 0; k < json_array_len(sub); k++)
			json_add(list, json_ref(json_array_get(sub, k)));
	}
	if (json_array_len(map) == 0 && json_get(profile, "architectures")) {
		json_unref(list);
		return json_ref(json_get(profile, "architectures"));
	}
	return list;
}

int seccomp_from_profile(const struct json *profile, const struct strv *capabilities,
			 struct json **ret, struct error *err)
{
	static const char *const copied[] = { "defaultErrnoRet", "flags", "listenerPath",
					      "listenerMetadata" };
	const char *action = json_get_string(profile, "defaultAction");
	const struct json *calls = json_get(profile, "syscalls");
	autojson struct json *j = json_new_object();
	autostrv struct strv arch = STRV_INIT;
	struct json *list = json_new_array();

	json_set(j, "syscalls", list);
	if (json_type(profile) != JSON_OBJECT || !action)
		return error_set(err, ERROR_INVALID_ARGUMENT, "'defaultAction' is missing");
	strv_push(&arch, docker_arch);
	json_set_string(j, "defaultAction", action);
	json_set(j, "architectures", profile_architectures(profile));
	for (size_t i = 0; i < ARRAY_SIZE(copied); i++) {
		if (json_get(profile, copied[i]))
			json_set(j, copied[i], json_ref(json_get(profile, copied[i])));
	}
	for (size_t i = 0; i < json_array_len(calls); i++) {
		const struct json *r = json_array_get(calls, i);
		bool applies;

		if (!json_get_string(r, "action") ||
		    (!json_get_string(r, "name") && json_array_len(json_get(r, "names")) == 0))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "syscalls[%zu]: 'names' and 'action' are required", i);
		if (rule_applies(r, capabilities, &arch, &applies, err) < 0)
			return error_wrap(err, "syscalls[%zu]", i);
		if (applies)
			json_add(list, rule_convert(r));
	}
	*ret = TAKE_PTR(j);
	return 0;
}
