/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine against the real thing: store, networks, kistl-shim and crun, with Debian's busybox as
 * the image. The tests are in phases; between two, the engine is taken down and made anew, as by a
 * restart of the daemon, while containers live on. Each phase is a cmocka group on a thread of its
 * own, since the main thread is the loop.
 *
 * Arguments: path of kistl-shim. Needs root; anything else is a skip (77).
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/time.h"
#include "engine/internal.h"
#include "store/snapshots.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#define CHAIN "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define NS "default"

static struct engine *engine;
static char *base_dir;
static const char *shim_path;
static char survivor[65];

static struct error error_last;
#define ERR (error_done(&error_last), &error_last)
#define assert_ok(expr)                                                    \
	do {                                                               \
		if ((expr) < 0)                                            \
			fail_msg("%s: %s", #expr, error_msg(&error_last)); \
	} while (0)
#define assert_fails(expr, want)                                                              \
	do {                                                                                  \
		assert_int_equal((expr), -1);                                                 \
		assert_string_equal(error_code_name(error_last.code), error_code_name(want)); \
	} while (0)

/* --- fixtures --- */

static void make_image(struct store *s)
{
	const struct store_ctx ctx = { .store = s, .ns = NS };
	static const char *const tools[] = { "sh",    "true", "false", "echo",	   "cat",
					     "sleep", "ls",   "id",    "hostname", "wc",
					     "seq",   "test", "kill",  "ip" };
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n";
	autokvs struct kvs labels = KVS_INIT;
	struct error *err = ERR;

	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	if (snapshot_stat(&ctx, NULL, CHAIN, &info, err) == 0)
		return;
	kvs_set(&labels, "containerd.io/gc.root", "now");
	assert(snapshot_prepare(&ctx, NULL, "import", "", &labels, NULL, err) == 0);
	autoclose int dir = snapshot_layer_fd(&ctx, NULL, "import", err);
	assert(dir >= 0);
	fchmod(dir, 0755);
	static const char *const dirs[] = { "bin", "etc",  "proc", "sys",
					    "dev", "root", "tmp",  "data" };
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		mkdirat(dir, dirs[i], 0755);
	autoclose int from = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
	autoclose int to = openat(dir, "bin/busybox", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert(from >= 0 && to >= 0);
	char block[65536];
	for (ssize_t n; (n = read(from, block, sizeof(block))) > 0;)
		assert(fs_write_all(to, block, (size_t)n) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		autofree char *link = xasprintf("bin/%s", tools[i]);

		assert(symlinkat("busybox", dir, link) == 0);
	}
	fs_write_atomic(dir, "etc/passwd", passwd, sizeof(passwd) - 1, 0644, false);
	fs_write_atomic(dir, "data/seed", "seed\n", 5, 0644, false);
	assert(snapshot_commit(&ctx, NULL, CHAIN, "import", &labels, false, err) == 0);
}

/* Words of the command end with NULL. */
static void configure(struct container_config *k, const char *network, ...)
{
	va_list ap;

	*k = (struct container_config){
		.image = xstrdup("busybox"),
		.image_id = xstrdup("sha256:" CHAIN),
		.chain_id = xstrdup(CHAIN),
		.network_mode = xstrdup(network),
		.default_paths = true,
		.stop_timeout = -1,
	};
	k->resources.memory_swappiness = -1;
	strv_push(&k->env, "PATH=/bin");
	va_start(ap, network);
	for (const char *word; (word = va_arg(ap, const char *));)
		strv_push(&k->args, word);
	va_end(ap);
}

static void create(struct container_config *k, const char *name, char id[65])
{
	assert_ok(engine_create(engine, NS, name, k, NULL, id, NULL, ERR));
	container_config_done(k);
}

struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t done_cond;
	bool done;
	int code;
};

#define WAITING_INIT                                                                     \
	{                                                                                \
		.lock = PTHREAD_MUTEX_INITIALIZER, .done_cond = PTHREAD_COND_INITIALIZER \
	}

static void on_waited(const struct wait_result *r, const struct error *err, void *arg)
{
	struct waiting *w = arg;

	assert(!err);
	pthread_mutex_lock(&w->lock);
	w->done = true;
	w->code = r->exit_code;
	pthread_cond_signal(&w->done_cond);
	pthread_mutex_unlock(&w->lock);
}

static int await(struct waiting *w)
{
	pthread_mutex_lock(&w->lock);
	while (!w->done)
		pthread_cond_wait(&w->done_cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return w->code;
}

static int wait_for(const char *id, enum wait_condition condition)
{
	struct waiting w = WAITING_INIT;

	assert_ok(engine_wait(engine, NS, id, condition, on_waited, &w, NULL, ERR));
	return await(&w);
}

static char *read_all(int fd)
{
	struct buf b = BUF_INIT(1 << 20);
	char piece[4096];

	for (;;) {
		ssize_t n = read(fd, piece, sizeof(piece));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_append(&b, piece, (size_t)n);
	}
	close(fd);
	return buf_steal(&b, NULL);
}

/* Attaches, starts, and gives what it printed; the exit code through ret_code. */
static char *run(struct container_config *k, const char *name, int *ret_code)
{
	char id[65];
	int pair[2];
	struct waiting w = WAITING_INIT;
	const struct attach_options o = { .out = true, .errs = true };

	create(k, name, id);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_ok(engine_attach(engine, NS, id, &o, pair[1], ERR));
	assert_ok(engine_wait(engine, NS, id, WAIT_NEXT_EXIT, on_waited, &w, NULL, ERR));
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	char *out = read_all(pair[0]);
	*ret_code = await(&w);
	return out;
}

static void assert_log(const char *id, const char *want)
{
	const struct log_options o = { .out = true, .errs = true, .tail = -1 };
	autobuf struct buf all = BUF_INIT(1 << 20);
	struct log_reader *r = NULL;
	struct log_line line;
	bool tty;

	assert_ok(log_reader_open(engine, NS, id, &o, &r, &tty, ERR));
	while (log_reader_next(r, &line, ERR) == 1)
		buf_append(&all, line.data, line.len);
	assert_true(log_reader_ended(r));
	log_reader_free(r);
	assert_string_equal(all.data, want);
}

static size_t count_entries(const char *dir)
{
	autofree char *path = path_join(base_dir, dir, NULL);
	size_t n = 0;
	DIR *d = opendir(path);

	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/* --- phase one --- */

static void test_output_and_exit_code(void **state UNUSED)
{
	struct container_config k;
	int code;

	configure(&k, "none", "sh", "-c", "echo hello; echo oops >&2; exit 7", NULL);
	autofree char *out = run(&k, "first", &code);
	assert_int_equal(code, 7);
	assert_non_null(strstr(out, "hello\n"));
	assert_non_null(strstr(out, "oops\n"));

	struct container_view *v = NULL;
	assert_ok(engine_inspect(engine, NS, "first", &v, ERR));
	assert_int_equal(v->status, CONTAINER_EXITED);
	assert_int_equal(v->exit_code, 7);
	assert_true(v->finished_at >= v->started_at && v->started_at > 0);
	assert_log(v->id, "hello\noops\n");
	container_view_free(v);
	assert_ok(engine_remove(engine, NS, "first", false, false, ERR));
	assert_fails(engine_inspect(engine, NS, "first", &v, ERR), ERROR_NOT_FOUND);
}

static void test_start_again(void **state UNUSED)
{
	struct container_config k;
	char id[65];
	bool changed;

	configure(&k, "none", "sh", "-c", "echo x >> /count; wc -l < /count", NULL);
	create(&k, "again", id);
	for (int i = 0; i < 2; i++) {
		struct waiting w = WAITING_INIT;

		assert_ok(engine_wait(engine, NS, id, WAIT_NEXT_EXIT, on_waited, &w, NULL, ERR));
		assert_ok(engine_start(engine, NS, id, &changed, ERR));
		assert_true(changed);
		assert_int_equal(await(&w), 0);
	}
	assert_log(id, "1\n2\n");
	assert_ok(engine_remove(engine, NS, id, false, false, ERR));
}

static void test_names(void **state UNUSED)
{
	struct container_config k;
	char id[65], other[65];

	configure(&k, "none", "true", NULL);
	create(&k, "taken", id);
	configure(&k, "none", "true", NULL);
	assert_fails(engine_create(engine, NS, "taken", &k, NULL, other, NULL, ERR), ERROR_ABORTED);
	assert_non_null(strstr(error_last.msg, id));
	assert_fails(engine_create(engine, NS, "a/b", &k, NULL, other, NULL, ERR),
		     ERROR_INVALID_ARGUMENT);
	create(&k, NULL, other);
	assert_fails(engine_rename(engine, NS, other, "taken", ERR), ERROR_ABORTED);
	assert_ok(engine_rename(engine, NS, other, "free", ERR));

	struct container_view *v = NULL;
	char prefix[13] = "";
	memcpy(prefix, id, 12);
	assert_ok(engine_inspect(engine, NS, prefix, &v, ERR));
	assert_string_equal(v->name, "taken");
	container_view_free(v);
	assert_ok(engine_inspect(engine, NS, "/free", &v, ERR));
	assert_string_equal(v->id, other);
	container_view_free(v);
	assert_fails(engine_inspect(engine, "elsewhere", "taken", &v, ERR), ERROR_NOT_FOUND);
	assert_ok(engine_remove(engine, NS, "taken", false, false, ERR));
	assert_ok(engine_remove(engine, NS, "free", false, false, ERR));
}

static void test_unknown_command(void **state UNUSED)
{
	struct container_config k;
	char id[65];

	configure(&k, "none", "no-such-thing", NULL);
	create(&k, "bad", id);
	assert_int_equal(engine_start(engine, NS, id, NULL, ERR), -1);
	struct container_view *v = NULL;
	assert_ok(engine_inspect(engine, NS, id, &v, ERR));
	assert_int_equal(v->exit_code, 127);
	assert_int_equal(v->status, CONTAINER_CREATED);
	container_view_free(v);
	assert_ok(engine_remove(engine, NS, id, false, false, ERR));

	configure(&k, "none", "/etc", NULL);
	create(&k, "bad", id);
	assert_int_equal(engine_start(engine, NS, id, NULL, ERR), -1);
	assert_ok(engine_inspect(engine, NS, id, &v, ERR));
	if (v->exit_code != 126)
		fail_msg("%d: %s", v->exit_code, v->error);
	container_view_free(v);
	assert_ok(engine_remove(engine, NS, id, false, false, ERR));
}

static void test_auto_remove(void **state UNUSED)
{
	struct container_config k;
	struct waiting w = WAITING_INIT;
	struct container_view *v;
	char id[65];

	configure(&k, "none", "false", NULL);
	k.auto_remove = true;
	create(&k, "gone", id);
	assert_ok(engine_wait(engine, NS, id, WAIT_REMOVED, on_waited, &w, NULL, ERR));
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	assert_int_equal(await(&w), 1);
	assert_fails(engine_inspect(engine, NS, id, &v, ERR), ERROR_NOT_FOUND);
}

static void test_stop(void **state UNUSED)
{
	struct container_config k;
	char id[65];
	bool changed;

	configure(&k, "none", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done", NULL);
	create(&k, "stopped", id);
	assert_ok(engine_start(engine, NS, id, &changed, ERR));
	assert_ok(engine_start(engine, NS, id, &changed, ERR));
	assert_false(changed);
	assert_fails(engine_remove(engine, NS, id, false, false, ERR), ERROR_FAILED_PRECONDITION);
	usleep(100000); /* the shell sets its trap */
	assert_ok(engine_stop(engine, NS, id, 10, NULL, &changed, ERR));
	assert_true(changed);
	assert_int_equal(wait_for(id, WAIT_NOT_RUNNING), 3);
	assert_ok(engine_stop(engine, NS, id, 10, NULL, &changed, ERR));
	assert_false(changed);
	assert_fails(engine_kill(engine, NS, id, SIGKILL, ERR), ERROR_FAILED_PRECONDITION);

	/* One that does not listen is killed. */
	assert_ok(engine_start(engine, NS, id, &changed, ERR));
	assert_ok(engine_stop(engine, NS, id, 0, "SIGCONT", &changed, ERR));
	assert_int_equal(wait_for(id, WAIT_NOT_RUNNING), 137);
	assert_ok(engine_start(engine, NS, id, &changed, ERR));
	assert_ok(engine_restart(engine, NS, id, 0, NULL, ERR));
	assert_ok(engine_remove(engine, NS, id, true, false, ERR));
}

static char *exec_output(const char *id, int *ret_code, ...)
{
	struct exec_config x = { 0 };
	const struct attach_options o = { .out = true, .errs = true };
	struct exec_view view;
	char exec_id[65];
	int pair[2];
	va_list ap;

	va_start(ap, ret_code);
	for (const char *word; (word = va_arg(ap, const char *));)
		strv_push(&x.args, word);
	va_end(ap);
	x.attach_stdout = x.attach_stderr = true;
	assert_ok(engine_exec_create(engine, NS, id, &x, exec_id, ERR));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	int r = engine_exec_start(engine, exec_id, &o, pair[1], 0, 0, ERR);
	char *out = read_all(pair[0]);
	assert_ok(engine_exec_inspect(engine, exec_id, &view, ERR));
	assert_false(view.running);
	*ret_code = view.exit_code;
	exec_view_done(&view);
	if (r < 0 && *ret_code == 0)
		*ret_code = -1;
	return out;
}

static void test_exec(void **state UNUSED)
{
	struct container_config k;
	char id[65];
	int code;

	configure(&k, "none", "sleep", "1000", NULL);
	create(&k, "execs", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	autofree char *out = exec_output(id, &code, "sh", "-c", "echo in; exit 4", NULL);
	assert_string_equal(out, "in\n");
	assert_int_equal(code, 4);
	free(exec_output(id, &code, "no-such-thing", NULL));
	assert_int_equal(code, 127);

	struct container_stats stats;
	assert_ok(engine_stats(engine, NS, id, &stats, ERR));
	assert_true(stats.memory_usage > 0 && stats.system_cpu > 0 && stats.pids >= 1);
	struct top_result top;
	assert_ok(engine_top(engine, NS, id, NULL, &top, ERR));
	assert_int_equal(top.rows.n, 1);
	top_result_done(&top);

	assert_ok(engine_pause(engine, NS, id, ERR));
	struct exec_config x = { 0 };
	char exec_id[65];
	strv_push(&x.args, "true");
	assert_fails(engine_exec_create(engine, NS, id, &x, exec_id, ERR),
		     ERROR_FAILED_PRECONDITION);
	exec_config_done(&x);
	assert_ok(engine_unpause(engine, NS, id, ERR));
	const struct resources r = { .memory = 64 << 20, .memory_swap = 128 << 20 };
	assert_ok(engine_update(engine, NS, id, &r, NULL, 0, ERR));
	assert_ok(engine_remove(engine, NS, id, true, false, ERR));
}

static void on_run_end(int exit_code, void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->lock);
	w->code = exit_code;
	w->done = true;
	pthread_cond_signal(&w->done_cond);
	pthread_mutex_unlock(&w->lock);
}

static int run_code(struct waiting *w)
{
	pthread_mutex_lock(&w->lock);
	while (!w->done)
		pthread_cond_wait(&w->done_cond, &w->lock);
	w->done = false;
	pthread_mutex_unlock(&w->lock);
	return w->code;
}

/* The socket, on which the command has said "ready". */
static int run_script(const char *id, const char *script, bool tty, struct waiting *w,
		      char exec_id[65])
{
	struct exec_config x = { .tty = tty, .attach_stdout = true };
	const struct exec_run r = {
		.ns = NS,
		.id = id,
		.config = &x,
		.attach = { .in = tty, .out = true, .hangup = true, .no_detach_keys = true },
		.width = 60,
		.height = 20,
		.fn = on_run_end,
		.arg = w,
	};
	char text[6];
	int pair[2];

	strv_push(&x.args, "sh");
	strv_push(&x.args, "-c");
	strv_push(&x.args, script);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_ok(engine_exec_run(engine, &r, pair[1], exec_id, ERR));
	for (size_t n = 0; n < 5; n++)
		assert_int_equal(read(pair[0], text + n, 1), 1);
	assert_memory_equal(text, "ready", 5);
	return pair[0];
}

static bool runs(const char *id, const char *command)
{
	struct top_result top;
	bool found = false;

	assert_ok(engine_top(engine, NS, id, NULL, &top, ERR));
	for (size_t i = 0; i < top.rows.n; i++)
		for (size_t j = 0; j < top.rows.v[i].n; j++)
			found = found || strcmp(top.rows.v[i].v[j], command) == 0;
	top_result_done(&top);
	return found;
}

static bool comes_to(const char *id, const char *command, bool running)
{
	for (int i = 0; i < 500 && runs(id, command) != running; i++)
		usleep(20000);
	return runs(id, command) == running;
}

static void test_exec_run(void **state UNUSED)
{
	struct waiting w = WAITING_INIT;
	struct container_config k;
	char id[65], exec_id[65];

	configure(&k, "none", "sleep", "1000", NULL);
	create(&k, "runs", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	int fd = run_script(id, "echo ready; exit 3", false, &w, exec_id);
	assert_int_equal(run_code(&w), 3);
	close(fd);
	/* A killed one takes along what it has started. */
	fd = run_script(id, "sleep 701 & (sleep 702 & sleep 703) & echo ready; wait", false, &w,
			exec_id);
	assert_true(comes_to(id, "sleep 702", true) && comes_to(id, "sleep 703", true));
	assert_ok(engine_exec_kill_all(engine, exec_id, ERR));
	assert_int_equal(run_code(&w), 137);
	assert_true(comes_to(id, "sleep 701", false) && comes_to(id, "sleep 702", false) &&
		    comes_to(id, "sleep 703", false));
	assert_fails(engine_exec_kill_all(engine, exec_id, ERR), ERROR_NOT_FOUND);
	close(fd);
	/* A terminal goes with its client, not with the end of its input. */
	fd = run_script(id, "trap 'exit 5' HUP; echo ready; while :; do sleep 0.02; done", true, &w,
			exec_id);
	shutdown(fd, SHUT_WR);
	usleep(100000);
	assert_true(runs(id, "sh -c trap 'exit 5' HUP; echo ready; while :; do sleep 0.02; done"));
	close(fd);
	assert_int_equal(run_code(&w), 5);
	/* The container's end is theirs. */
	fd = run_script(id, "echo ready; sleep 1000", false, &w, exec_id);
	assert_ok(engine_kill(engine, NS, id, SIGKILL, ERR));
	assert_int_equal(run_code(&w), 137);
	close(fd);
	struct exec_config x = { 0 };
	const struct exec_run r = { .ns = NS, .id = id, .config = &x, .fn = on_run_end, .arg = &w };
	assert_fails(engine_exec_run(engine, &r, -1, exec_id, ERR), ERROR_FAILED_PRECONDITION);
	assert_ok(engine_remove(engine, NS, id, true, false, ERR));
}

static void test_volume(void **state UNUSED)
{
	struct container_config k;
	struct volume_view v;
	int code;

	configure(&k, "none", "sh", "-c", "cat /data/seed; echo more > /data/more; ls /data", NULL);
	k.mounts.v = xnew_array(struct mount_spec, 1);
	k.mounts.v[k.mounts.n++] = (struct mount_spec){ .type = xstrdup("volume"),
							.source = xstrdup("vol"),
							.target = xstrdup("/data") };
	autofree char *out = run(&k, "voluminous", &code);
	assert_string_equal(out, "seed\nmore\nseed\n");
	assert_ok(engine_volume_get(engine, NS, "vol", &v, ERR));
	assert_int_equal(v.ref_count, 1);
	autofree char *more = path_join(v.mountpoint, "more", NULL);
	assert_int_equal(access(more, F_OK), 0);
	volume_view_done(&v);
	assert_fails(engine_volume_remove(engine, NS, "vol", false, ERR), ERROR_ABORTED);
	assert_ok(engine_remove(engine, NS, "voluminous", false, true, ERR));
	assert_ok(engine_volume_remove(engine, NS, "vol", false, ERR));
	assert_fails(engine_volume_get(engine, NS, "vol", &v, ERR), ERROR_NOT_FOUND);
}

static void test_bridge(void **state UNUSED)
{
	struct container_config k;
	int code;

	configure(&k, "bridge", "sh", "-c", "ip addr show eth0; cat /etc/hosts", NULL);
	autofree char *out = run(&k, "net", &code);
	assert_int_equal(code, 0);
	assert_non_null(strstr(out, "inet "));
	assert_ok(engine_remove(engine, NS, "net", false, false, ERR));
}

static void test_restart_policy(void **state UNUSED)
{
	struct container_config k;
	char id[65];

	configure(&k, "none", "sh", "-c", "echo x >> /n; test $(wc -l < /n) -ge 3", NULL);
	k.restart_policy = xstrdup("on-failure");
	create(&k, "phoenix", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	struct container_view *v = NULL;
	for (int i = 0; i < 200; i++) {
		container_view_free(v);
		assert_ok(engine_inspect(engine, NS, id, &v, ERR));
		if (v->status == CONTAINER_EXITED)
			break;
		usleep(20000);
	}
	assert_int_equal(v->status, CONTAINER_EXITED);
	assert_int_equal(v->exit_code, 0);
	assert_int_equal(v->restart_count, 2);
	container_view_free(v);
	assert_ok(engine_remove(engine, NS, id, false, false, ERR));
}

static void test_health(void **state UNUSED)
{
	struct container_config k;
	char id[65];

	configure(&k, "none", "sleep", "1000", NULL);
	strv_push(&k.health.test, "CMD-SHELL");
	strv_push(&k.health.test, "test -e /root");
	k.health.interval = 50 * NSEC_PER_MSEC;
	create(&k, "healthy", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	struct container_view *v = NULL;
	for (int i = 0; i < 200; i++) {
		container_view_free(v);
		assert_ok(engine_inspect(engine, NS, id, &v, ERR));
		if (str_equal(v->health, "healthy"))
			break;
		usleep(20000);
	}
	assert_string_equal(v->health, "healthy");
	container_view_free(v);
	assert_ok(engine_remove(engine, NS, id, true, false, ERR));
}

static void test_shim_killed(void **state UNUSED)
{
	struct container_config k;
	char id[65];

	configure(&k, "none", "sleep", "1000", NULL);
	create(&k, "orphan", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	struct container *c = container_find(engine, NS, id, ERR);
	struct task *t = container_task(c, ERR);
	struct task_state st;
	assert_ok(task_state(t, "", &st, ERR));
	autofree char *path = xasprintf("/proc/%d/stat", st.pid);
	autobuf struct buf b = BUF_INIT(4096);
	assert_int_equal(fs_read(AT_FDCWD, path, &b), 0);
	int ppid = 0;
	assert_int_equal(sscanf(strrchr(b.data, ')'), ") %*c %d", &ppid), 1);
	struct waiting w = WAITING_INIT;
	assert_ok(engine_wait(engine, NS, id, WAIT_NOT_RUNNING, on_waited, &w, NULL, ERR));
	kill(ppid, SIGKILL);
	assert_int_equal(await(&w), 137);
	task_unref(t);
	container_unref(c);
	/* Whose child it is now may be slow to reap it. */
	buf_clear(&b);
	assert_true(fs_read(AT_FDCWD, path, &b) < 0 || strstr(b.data, ") Z "));
	assert_ok(engine_remove(engine, NS, id, false, false, ERR));
}

/* One of several users at once; no cmocka in here, it belongs to one thread. */
static void *busy_user(void *arg)
{
	const int number = *(int *)arg;

	for (int i = 0; i < 4; i++) {
		struct container_config k;
		struct container_views views;
		struct waiting w = WAITING_INIT;
		struct error err = ERROR_INIT;
		autofree char *name = xasprintf("busy-%d-%d", number, i);
		char id[65];

		configure(&k, "none", "sh", "-c", "echo $$; sleep 0.02", NULL);
		k.auto_remove = i % 2;
		assert(engine_create(engine, NS, name, &k, NULL, id, NULL, &err) == 0);
		container_config_done(&k);
		assert(engine_wait(engine, NS, id, WAIT_REMOVED, on_waited, &w, NULL, &err) == 0);
		assert(engine_start(engine, NS, name, NULL, &err) == 0);
		assert(engine_list(engine, NS, &views, &err) == 0);
		container_views_done(&views);
		/* Any of these may come too late, or while another is at it. */
		engine_kill(engine, NS, id, SIGKILL, NULL);
		engine_stop(engine, NS, id, 0, NULL, NULL, NULL);
		engine_remove(engine, NS, id, true, true, NULL);
		await(&w);
	}
	return NULL;
}

static void test_parallel(void **state UNUSED)
{
	pthread_t threads[6];
	int numbers[ARRAY_SIZE(threads)];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		numbers[i] = (int)i;
		pthread_create(&threads[i], NULL, busy_user, &numbers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
}

static void leave_running(void **state UNUSED)
{
	struct container_config k;

	configure(&k, "bridge", "sleep", "1000", NULL);
	create(&k, "survivor", survivor);
	assert_ok(engine_start(engine, NS, survivor, NULL, ERR));
	char id[65];
	configure(&k, "none", "sh", "-c", "sleep 0.3; exit 9", NULL);
	create(&k, "ends-alone", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	configure(&k, "none", "sh", "-c", "sleep 0.3", NULL);
	k.auto_remove = true;
	create(&k, "vanishes-alone", id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
}

/* --- phase two --- */

static void test_survivors(void **state UNUSED)
{
	struct container_view *v;
	int code;

	assert_ok(engine_inspect(engine, NS, survivor, &v, ERR));
	assert_int_equal(v->status, CONTAINER_RUNNING);
	assert_non_null(v->endpoints.v[0].ip);
	container_view_free(v);
	autofree char *out = exec_output(survivor, &code, "echo", "alive", NULL);
	assert_string_equal(out, "alive\n");
	assert_ok(engine_remove(engine, NS, survivor, true, false, ERR));

	assert_ok(engine_inspect(engine, NS, "ends-alone", &v, ERR));
	assert_int_equal(v->status, CONTAINER_EXITED);
	assert_int_equal(v->exit_code, 9);
	container_view_free(v);
	assert_ok(engine_remove(engine, NS, "ends-alone", false, false, ERR));
	for (int i = 0; i < 100 && engine_inspect(engine, NS, "vanishes-alone", &v, ERR) == 0;
	     i++) {
		container_view_free(v);
		usleep(20000);
	}
	assert_fails(engine_inspect(engine, NS, "vanishes-alone", &v, ERR), ERROR_NOT_FOUND);
}

static void test_nothing_left(void **state UNUSED)
{
	struct container_views views;
	struct volume_views volumes;

	assert_ok(engine_list(engine, NS, &views, ERR));
	assert_int_equal(views.n, 0);
	container_views_done(&views);
	assert_ok(engine_volume_list(engine, NS, &volumes, ERR));
	assert_int_equal(volumes.n, 0);
	volume_views_done(&volumes);
	assert_int_equal(count_entries("root/containers"), 0);
	assert_int_equal(count_entries("state/containers/" NS), 0);
	assert_int_equal(count_entries("state/io.containerd.runtime.v2.task/" NS), 0);
	assert_int_equal(count_entries("root/io.containerd.runtime.v2.task/" NS), 0);
	assert_int_equal(count_entries("state/s"), 0);
}

/* Whatever failed: nothing stays on the machine. */
static int remove_all(void **state UNUSED)
{
	struct container_views views;

	engine_list(engine, NS, &views, NULL);
	for (size_t i = 0; i < views.n; i++)
		engine_remove(engine, NS, views.v[i]->id, true, true, NULL);
	container_views_done(&views);
	return 0;
}

static const struct CMUnitTest phase_one[] = {
	cmocka_unit_test(test_output_and_exit_code),
	cmocka_unit_test(test_start_again),
	cmocka_unit_test(test_names),
	cmocka_unit_test(test_unknown_command),
	cmocka_unit_test(test_auto_remove),
	cmocka_unit_test(test_stop),
	cmocka_unit_test(test_exec),
	cmocka_unit_test(test_exec_run),
	cmocka_unit_test(test_volume),
	cmocka_unit_test(test_bridge),
	cmocka_unit_test(test_restart_policy),
	cmocka_unit_test(test_health),
	cmocka_unit_test(test_shim_killed),
	cmocka_unit_test(test_parallel),
	cmocka_unit_test(leave_running),
};

static const struct CMUnitTest phase_two[] = {
	cmocka_unit_test(test_survivors),
	cmocka_unit_test(test_nothing_left),
};

/* --- the daemon's part --- */

struct phase {
	struct loop *loop;
	int number;
	int failures;
};

static void *phase_thread(void *arg)
{
	struct phase *p = arg;

	p->failures = p->number == 1 ? cmocka_run_group_tests_name("run", phase_one, NULL, NULL)
				     : cmocka_run_group_tests_name("after restart", phase_two, NULL,
								   remove_all);
	loop_stop(p->loop);
	return NULL;
}

static int run_phase(int number)
{
	static const struct runtime_entry runtimes[] = {
		{ .name = (char *)"crun", .path = (char *)"/usr/bin/crun" },
	};
	autofree char *root = path_join(base_dir, "root", NULL);
	autofree char *state = path_join(base_dir, "state", NULL);
	autofree char *address = path_join(state, "kistl.sock", NULL);
	const struct store_config store_config = { .root = root };
	struct error *err = ERR;
	struct engine_config config = {
		.root = root,
		.state = state,
		.shim = shim_path,
		.address = address,
		.runtimes = runtimes,
		.n_runtimes = 1,
		.default_runtime = "crun",
	};
	struct phase phase = { .number = number };

	fs_mkdir_p(root, 0700);
	fs_mkdir_p(state, 0711);
	config.loop = phase.loop = loop_new(err);
	config.jobs = jobs_new(config.loop);
	if (store_open(&store_config, &config.store, err) < 0) {
		fprintf(stderr, "%s\n", error_msg(err));
		return 1;
	}
	make_image(config.store);
	const struct network_service_config network = { .store = config.store,
							.state = state,
							.bridge = "ktest0" };
	if (network_service_new(&network, &config.network, err) < 0 ||
	    engine_new(&config, &engine, err) < 0) {
		fprintf(stderr, "%s\n", error_msg(err));
		return 1;
	}
	pthread_t thread;
	pthread_create(&thread, NULL, phase_thread, &phase);
	loop_run(config.loop);
	pthread_join(thread, NULL);
	jobs_free(config.jobs);
	engine_free(engine);
	network_service_free(config.network);
	store_close(config.store);
	loop_free(config.loop);
	error_done(&error_last);
	return phase.failures;
}

/* Interface and rules of the test's network. */
static void remove_network(void)
{
	static const char *const commands[][6] = {
		{ "ip", "link", "delete", "ktest0" },
		{ "nft", "delete", "table", "ip", "ktest0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct process_spec spec = { .path = commands[i][0],
						   .argv = (char *const *)commands[i] };
		autobuf struct buf out = BUF_INIT(4096);
		autobuf struct buf errout = BUF_INIT(4096);
		int status;

		process_run(&spec, NULL, 0, &out, &errout, 5000, &status, NULL);
	}
}

int main(int argc, char **argv)
{
	char template[] = "/tmp/test-engine-XXXXXX";

	if (argc < 2 || geteuid() != 0)
		return 77;
	log_setup("test-engine", LOG_INFO, LOG_FORMAT_TEXT);
	signal(SIGPIPE, SIG_IGN);
	shim_path = argv[1];
	base_dir = mkdtemp(template);
	assert(base_dir);
	int failures = run_phase(1);
	usleep(500000); /* what ends alone does it now */
	failures += run_phase(2);
	fs_remove_tree(AT_FDCWD, base_dir);
	remove_network();
	return failures > 0;
}
