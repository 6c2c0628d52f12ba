/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streaming server and ExecSync over an engine of its own, for
 * tests/integration/test_streaming.py: a JSON object a line on standard input asks for something,
 * one on standard output answers. With Debian's busybox as the image. Everything goes at the end of
 * the input.
 *
 * usage: testing-streaming SHIM '{"token_ttl": ms, "creation_timeout": ms, "cert": ..., "key":
 * ...}'
 */

#include "api/cri/execsync.h"
#include "api/cri/streaming.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/snapshots.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CHAIN "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define NS "k8s.io"

static struct engine *engine;
static struct loop *loop;
static struct streaming *streaming;

static void make_image(struct store *s)
{
	const struct store_ctx ctx = { .store = s, .ns = NS };
	static const char *const tools[] = { "sh",   "true", "false", "echo", "cat", "sleep",
					     "ls",   "stty", "head",  "dd",   "yes", "wc",
					     "kill", "tty",  "od",    "seq",  "ps",  "sha256sum" };
	autokvs struct kvs labels = KVS_INIT;

	kvs_set(&labels, "containerd.io/gc.root", "now");
	int r = snapshot_prepare(&ctx, NULL, "import", "", &labels, NULL, NULL);
	assert(r == 0);
	autoclose int dir = snapshot_layer_fd(&ctx, NULL, "import", NULL);
	static const char *const dirs[] = { "bin", "etc", "proc", "sys", "dev", "root", "tmp" };
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		mkdirat(dir, dirs[i], 0755);
	autoclose int from = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
	autoclose int to = openat(dir, "bin/busybox", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	assert(from >= 0 && to >= 0);
	char block[65536];
	for (ssize_t n; (n = read(from, block, sizeof(block))) > 0;)
		fs_write_all(to, block, (size_t)n);
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		autofree char *link = xasprintf("bin/%s", tools[i]);

		symlinkat("busybox", dir, link);
	}
	fs_write_atomic(dir, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 30, 0644, false);
	r = snapshot_commit(&ctx, NULL, CHAIN, "import", &labels, false, NULL);
	assert(r == 0);
}

static int open_netns(void *arg UNUSED, const char *sandbox_id, struct error *err)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;

	if (engine_inspect(engine, NS, sandbox_id, &v, err) < 0)
		return -1;
	autofree char *path = xasprintf("/proc/%d/ns/net", v->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "open '%s'", path) : fd;
}

/* --- what can be asked for --- */

static int make_container(const struct json *in, struct json *out, struct error *err)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	struct container_config k = {
		.image = xstrdup("busybox"),
		.image_id = xstrdup("sha256:" CHAIN),
		.chain_id = xstrdup(CHAIN),
		.network_mode = xstrdup("none"),
		.default_paths = true,
		.stop_timeout = -1,
		.tty = json_get_bool(in, "tty", false),
		.open_stdin = json_get_bool(in, "stdin", false),
		.stdin_once = json_get_bool(in, "once", false),
	};
	char id[65];

	k.resources.memory_swappiness = -1;
	strv_push(&k.env, "PATH=/bin");
	int r = json_get_strv(in, "cmd", &k.args, err);
	if (r == 0)
		r = engine_create(engine, NS, NULL, &k, NULL, id, NULL, err);
	container_config_done(&k);
	if (r < 0 || engine_start(engine, NS, id, NULL, err) < 0 ||
	    engine_inspect(engine, NS, id, &v, err) < 0)
		return -1;
	json_set_string(out, "id", id);
	json_set_int(out, "pid", v->pid);
	return 0;
}

static int make_exec(const struct json *in, struct json *out, struct error *err)
{
	autostrv struct strv cmd = STRV_INIT;
	const struct streaming_exec r = {
		.container_id = json_get_string(in, "id"),
		.cmd = &cmd,
		.tty = json_get_bool(in, "tty", false),
		.in = json_get_bool(in, "stdin", false),
		.out = json_get_bool(in, "stdout", false),
		.errs = json_get_bool(in, "stderr", false),
	};
	autofree char *url = NULL;

	json_get_strv(in, "cmd", &cmd, NULL);
	int result = streaming_exec(streaming, &r, &url, err);
	json_set_string(out, "url", url);
	return result;
}

static int make_attach(const struct json *in, struct json *out, struct error *err)
{
	const struct streaming_attach r = {
		.container_id = json_get_string(in, "id"),
		.tty = json_get_bool(in, "tty", false),
		.in = json_get_bool(in, "stdin", false),
		.out = json_get_bool(in, "stdout", false),
		.errs = json_get_bool(in, "stderr", false),
	};
	autofree char *url = NULL;

	int result = streaming_attach(streaming, &r, &url, err);
	json_set_string(out, "url", url);
	return result;
}

static int make_portforward(const struct json *in, struct json *out, struct error *err)
{
	const struct json *list = json_get(in, "ports");
	int32_t ports[16];
	struct streaming_portforward r = { .sandbox_id = json_get_string(in, "id"),
					   .ports = ports };
	autofree char *url = NULL;

	for (size_t i = 0; i < json_array_len(list) && i < ARRAY_SIZE(ports); i++)
		ports[r.n_ports++] = (int32_t)json_int(json_array_get(list, i), 0);
	int result = streaming_portforward(streaming, &r, &url, err);
	json_set_string(out, "url", url);
	return result;
}

struct waiting {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	struct execsync_result result;
	struct error err;
	unsigned number;
};

static void on_execsync(struct execsync_result *result, const struct error *err, void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->lock);
	if (err) {
		error_set(&w->err, err->code, "%s", err->msg);
	} else {
		w->result = *result;
		result->out = result->errs = BUF_INIT(0);
	}
	w->done = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static int run_execsync(const struct json *in, struct json *out, struct error *err)
{
	autostrv struct strv cmd = STRV_INIT;
	struct waiting w = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .changed = PTHREAD_COND_INITIALIZER };

	json_get_strv(in, "cmd", &cmd, NULL);
	if (execsync(engine, NS, json_get_string(in, "id"), &cmd, json_get_int(in, "timeout", 0),
		     on_execsync, &w, err) < 0)
		return -1;
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	if (w.err.code)
		return error_move(err, &w.err);
	json_set_int(out, "exit_code", w.result.exit_code);
	json_set_int(out, "stdout_len", (int64_t)w.result.out.len);
	json_set_int(out, "stderr_len", (int64_t)w.result.errs.len);
	if (w.result.out.len < 4096)
		json_set_string(out, "stdout", w.result.out.data);
	if (w.result.errs.len < 4096)
		json_set_string(out, "stderr", w.result.errs.data);
	buf_done(&w.result.out);
	buf_done(&w.result.errs);
	return 0;
}

static void count(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->lock);
	w->number = streaming_active(streaming);
	w->done = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static int tell_active(const struct json *in UNUSED, struct json *out, struct error *err UNUSED)
{
	struct waiting w = { .lock = PTHREAD_MUTEX_INITIALIZER,
			     .changed = PTHREAD_COND_INITIALIZER };

	loop_post(loop, count, &w);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	json_set_int(out, "active", w.number);
	return 0;
}

static int kill_container(const struct json *in, struct json *out UNUSED, struct error *err)
{
	return engine_kill(engine, NS, json_get_string(in, "id"), SIGKILL, err);
}

static const struct {
	const char *name;
	int (*fn)(const struct json *in, struct json *out, struct error *err);
} operations[] = {
	{ "container", make_container },
	{ "kill", kill_container },
	{ "exec", make_exec },
	{ "attach", make_attach },
	{ "portforward", make_portforward },
	{ "execsync", run_execsync },
	{ "active", tell_active },
};

static void serve_line(const char *line)
{
	autojson struct json *in = json_parse(line, strlen(line), SIZE_MAX, NULL);
	autojson struct json *out = json_new_object();
	autoerror struct error err = ERROR_INIT;
	const char *op = json_get_string(in, "op");

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		if (!str_equal(op, operations[i].name))
			continue;
		if (operations[i].fn(in, out, &err) < 0) {
			json_set_string(out, "error", error_msg(&err));
			json_set_string(out, "code", error_code_name(err.code));
		}
	}
	autofree char *text = json_format(out, /* pretty */ false);
	printf("%s\n", text);
	fflush(stdout);
}

static void *serve(void *arg UNUSED)
{
	struct container_views views;
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0)
		serve_line(line);
	free(line);
	engine_list(engine, NS, &views, NULL);
	for (size_t i = 0; i < views.n; i++)
		engine_remove(engine, NS, views.v[i]->id, true, true, NULL);
	container_views_done(&views);
	loop_stop(loop);
	return NULL;
}

static void configure(const char *text, struct streaming_config *c, struct json **ret)
{
	struct json *j = *ret = json_parse(text, strlen(text), SIZE_MAX, NULL);

	c->loop = loop;
	c->engine = engine;
	c->ns = NS;
	c->open_netns = open_netns;
	c->token_ttl = json_get_int(j, "token_ttl", 0) * NSEC_PER_MSEC;
	c->creation_timeout = json_get_int(j, "creation_timeout", 0) * NSEC_PER_MSEC;
	c->idle_timeout = json_get_int(j, "idle_timeout", 0) * NSEC_PER_MSEC;
	c->address = json_get_string(j, "address");
	c->tls.cert = json_get_string(j, "cert");
	c->tls.key = json_get_string(j, "key");
	c->tls.ca = json_get_string(j, "ca");
}

static int run(const char *dir, char **argv)
{
	static const struct runtime_entry runtimes[] = {
		{ .name = (char *)"crun", .path = (char *)"/usr/bin/crun" },
	};
	autofree char *root = path_join(dir, "root", NULL);
	autofree char *state = path_join(dir, "state", NULL);
	autofree char *address = path_join(state, "kistl.sock", NULL);
	const struct store_config store_config = { .root = root };
	autoerror struct error err = ERROR_INIT;
	autojson struct json *options = NULL;
	struct streaming_config sc = { 0 };
	struct engine_config config = {
		.root = root,
		.state = state,
		.shim = argv[1],
		.address = address,
		.runtimes = runtimes,
		.n_runtimes = 1,
		.default_runtime = "crun",
	};

	fs_mkdir_p(root, 0700);
	fs_mkdir_p(state, 0711);
	config.loop = loop = loop_new(&err);
	config.jobs = sc.jobs = jobs_new(loop);
	if (store_open(&store_config, &config.store, &err) < 0) {
		fprintf(stderr, "%s\n", error_msg(&err));
		return 1;
	}
	make_image(config.store);
	const struct network_service_config network = { .store = config.store,
							.state = state,
							.bridge = "ktest1" };
	if (network_service_new(&network, &config.network, &err) < 0 ||
	    engine_new(&config, &engine, &err) < 0) {
		fprintf(stderr, "%s\n", error_msg(&err));
		return 1;
	}
	configure(argv[2], &sc, &options);
	int r = streaming_new(&sc, &streaming, &err);
	printf("{\"error\": \"%s\"}\n", error_msg(&err));
	fflush(stdout);
	pthread_t thread;
	if (r == 0) {
		pthread_create(&thread, NULL, serve, NULL);
		loop_run(loop);
		pthread_join(thread, NULL);
	}
	streaming_free(streaming);
	jobs_free(config.jobs);
	engine_free(engine);
	network_service_free(config.network);
	store_close(config.store);
	loop_free(loop);
	return r < 0;
}

int main(int argc, char **argv)
{
	char template[] = "/tmp/test-streaming-XXXXXX";

	if (argc != 3)
		return 2;
	log_setup("testing-streaming", LOG_WARN, LOG_FORMAT_TEXT);
	signal(SIGPIPE, SIG_IGN);
	/* Who ends the tests ends their input: that is the way out which leaves nothing behind. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	char *dir = mkdtemp(template);
	assert(dir);
	int r = run(dir, argv);
	fs_remove_tree(AT_FDCWD, dir);
	return r;
}
