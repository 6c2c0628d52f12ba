/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/process.h"
#include "base/program.h"
#include "base/time.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static int shell(const char *script, const char *input, struct buf *out, struct buf *errout,
		 int timeout_ms, int *ret_status, struct error *err)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
	struct process_spec spec = { .path = "sh", .argv = argv };

	return process_run(&spec, input, input ? strlen(input) : 0, out, errout, timeout_ms,
			   ret_status, err);
}

static void test_run(void **state)
{
	autobuf struct buf out = BUF_INIT(1000), errout = BUF_INIT(1000);
	autoerror struct error err = ERROR_INIT;
	int status;

	assert_int_equal(
		shell("cat; echo bad >&2; exit 3", "input", &out, &errout, 5000, &status, &err), 0);
	assert_string_equal(out.data, "input");
	assert_string_equal(errout.data, "bad\n");
	autofree char *text = process_status_string(status);
	assert_string_equal(text, "exit status 3");

	buf_clear(&out);
	assert_int_equal(
		shell("echo a; echo b >&2; kill -9 $$", NULL, &out, &out, -1, &status, &err), 0);
	assert_string_equal(out.data, "a\nb\n");
	autofree char *killed = process_status_string(status);
	assert_string_equal(killed, "killed by signal 9 (Killed)");
}

static void test_output_is_bounded(void **state)
{
	autobuf struct buf out = BUF_INIT(1000);
	int status;

	assert_int_equal(
		shell("head -c 1000000 /dev/zero; exit 0", NULL, &out, NULL, 10000, &status, NULL),
		0);
	assert_int_equal(out.len, 1000);
	assert_int_equal(status, 0);
}

static void test_timeouts(void **state)
{
	autobuf struct buf out = BUF_INIT(1000);
	autoerror struct error err = ERROR_INIT;
	int64_t start = time_monotonic();
	int status;

	assert_int_equal(shell("exec sleep 60", NULL, &out, NULL, 100, &status, &err), -1);
	assert_int_equal(err.code, ERROR_DEADLINE_EXCEEDED);
	/* One that writes without end must not outlive its time either. */
	assert_int_equal(shell("exec cat /dev/zero", NULL, &out, NULL, 100, &status, &err), -1);
	assert_int_equal(err.code, ERROR_DEADLINE_EXCEEDED);
	/* What it leaves behind holds the pipe, but nobody waits for that. */
	int64_t left_behind;
	buf_clear(&out);
	assert_int_equal(shell("sleep 30 2>&1 & printf $!", NULL, &out, NULL, 10000, &status, NULL),
			 0);
	assert_true(time_monotonic() - start < 2 * NSEC_PER_SEC);
	assert_int_equal(parse_int64(out.data, &left_behind), 0);
	assert_int_equal(kill((pid_t)left_behind, SIGKILL), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* all reaped */
}

static void test_spawn_errors(void **state)
{
	char *const argv[] = { (char *)"x", NULL };
	struct process_spec spec = { .path = "no-such-program-anywhere", .argv = argv };
	autoerror struct error err = ERROR_INIT;

	assert_int_equal(process_spawn(&spec, NULL, &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	spec.path = "/no/such/program";
	assert_int_equal(process_spawn(&spec, NULL, &err), -1);
	assert_int_equal(err.code, ERROR_NOT_FOUND);
	spec.path = "/etc/passwd";
	assert_int_equal(process_spawn(&spec, NULL, &err), -1);
	assert_int_equal(err.code, ERROR_PERMISSION_DENIED);
	assert_non_null(strstr(error_msg(&err), "execute '/etc/passwd'"));
	spec.path = "true";
	spec.cwd = "/no/such/directory";
	assert_int_equal(process_spawn(&spec, NULL, &err), -1);
	assert_non_null(strstr(error_msg(&err), "/no/such/directory"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* Sources and targets that overlap crosswise, and nothing else open in the child. */
static void test_descriptors(void **state)
{
	char *const argv[] = { (char *)"sh", (char *)"-c",
			       (char *)"cat <&5; cat <&3; cat <&9; ls /proc/self/fd | tr '\\n' ' '",
			       NULL };
	int pipes[3][2], output[2];
	char text[256] = "";
	autoerror struct error err = ERROR_INIT;
	int leak = open("/dev/null", O_RDONLY);

	assert_true(leak >= 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
		assert_int_equal(write(pipes[i][1], &"abc"[i], 1), 1);
		close(pipes[i][1]);
	}
	assert_int_equal(pipe2(output, O_CLOEXEC), 0);
	assert_int_equal(dup2(pipes[0][0], 3), 3);
	assert_int_equal(dup2(pipes[1][0], 5), 5);
	const struct process_fd fds[] = {
		{ .fd = 3, .target = 5 },
		{ .fd = 5, .target = 3 },
		{ .fd = pipes[2][0], .target = 9 },
		{ .fd = output[1], .target = 1 },
	};
	struct process_spec spec = {
		.path = "sh", .argv = argv, .fds = fds, .n_fds = ARRAY_SIZE(fds)
	};
	int status, pidfd = -1;
	pid_t pid = process_spawn(&spec, &pidfd, &err);

	assert_true(pid > 0);
	assert_true(pidfd >= 0);
	assert_int_equal(process_wait(pid, pidfd, 5000, &status, &err), 0);
	assert_int_equal(status, 0);
	assert_true(read(output[0], text, sizeof(text) - 1) > 0);
	/* 4 is ls's own descriptor for the directory. */
	assert_string_equal(text, "abc0 1 2 3 4 5 9 ");
	close(pidfd);
	close(leak);
}

static void test_sealed_program(void **state)
{
	autoclose int program = program_seal("/bin/sh", NULL);
	autoclose int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	autobuf struct buf out = BUF_INIT(4096);
	char *const itself[] = { (char *)"sh", (char *)"-c", (char *)"readlink /proc/$$/exe",
				 NULL };
	/* Its own descriptor is closed, those that are named are there. */
	char *const open_ones[] = { (char *)"sh", (char *)"-c",
				    (char *)"cd /proc/$$/fd && test -e 7 -a ! -e 8", NULL };
	const struct process_fd fds[] = { { .fd = file, .target = 7 } };
	struct process_spec spec = { .path = "/no/such/sh", .argv = itself, .program_fd = program };
	autoerror struct error err = ERROR_INIT;
	int status = -1;

	assert_true(program > 0);
	assert_int_equal(fcntl(program, F_GET_SEALS),
			 F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	assert_int_equal(write(program, "x", 1), -1);
	assert_int_equal(process_run(&spec, NULL, 0, &out, NULL, 5000, &status, &err), 0);
	assert_int_equal(status, 0);
	assert_non_null(strstr(out.data, "/memfd:sh"));

	spec.argv = open_ones;
	spec.fds = fds;
	spec.n_fds = ARRAY_SIZE(fds);
	pid_t pid = process_spawn(&spec, NULL, &err);
	assert_true(pid > 0);
	assert_int_equal(process_wait(pid, -1, 5000, &status, &err), 0);
	assert_int_equal(status, 0);

	assert_int_equal(program_seal("/etc/passwd", &err), -1);
	assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
	assert_int_equal(program_seal("/no/such", NULL), -1);
	assert_true(program_wants_seal("/usr/bin/crun"));
	assert_false(program_wants_seal("/usr/bin/runsc"));
}

static void test_signals_and_session(void **state)
{
	char *const argv[] = { (char *)"sh", (char *)"-c",
			       (char *)"grep -E '^Sig(Blk|Ign)' /proc/self/status;"
				       "ps -o sid= -p $$; pwd; echo $X",
			       NULL };
	char *const env[] = { (char *)"X=y", (char *)"PATH=/usr/bin:/bin", NULL };
	struct process_spec spec = { .path = "sh",
				     .argv = argv,
				     .envp = env,
				     .cwd = "/proc",
				     .flags = PROCESS_NEW_SESSION | PROCESS_DIE_WITH_PARENT };
	autobuf struct buf out = BUF_INIT(1000);
	sigset_t set, old, now;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(process_run(&spec, NULL, 0, &out, NULL, 5000, &status, NULL), 0);
	assert_non_null(strstr(out.data, "SigBlk:\t0000000000000000\n"));
	assert_non_null(strstr(out.data, "SigIgn:\t0000000000000000\n"));
	assert_true(str_has_suffix(out.data, "\n/proc\ny\n"));
	/* The parent's own are as they were. */
	sigprocmask(SIG_BLOCK, NULL, &now);
	assert_true(sigismember(&now, SIGTERM));
	assert_ptr_equal(signal(SIGPIPE, SIG_DFL), SIG_IGN);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void test_find(void **state)
{
	autofree char *sh = process_find("sh", "/nonexistent:/bin:/usr/bin");

	assert_string_equal(sh, "/bin/sh");
	assert_null(process_find("passwd", "/etc"));
	assert_null(process_find("sh", ".:bin"));
	assert_null(process_find("", NULL));
}

static void *spawn_many(void *arg)
{
	for (int i = 0; i < 50; i++) {
		autobuf struct buf out = BUF_INIT(100);
		int status;

		if (shell("echo $((6 * 7))", NULL, &out, NULL, 10000, &status, NULL) < 0 ||
		    strcmp(out.data, "42\n") != 0)
			return arg;
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[4];
	void *failed;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, spawn_many, threads), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_output_is_bounded),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_spawn_errors),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_signals_and_session),
		cmocka_unit_test(test_sealed_program),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
