/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/testing-pods.h"

struct engine *engine;
char *base_dir;
struct error error_last;

/* --- a network that takes notes --- */

struct net_notes net = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int net_attach(struct cni *c UNUSED, const struct cni_request *r, struct cni_result *ret,
		      struct error *err)
{
	pthread_mutex_lock(&net.lock);
	bool refuse = net.refuse_attach;
	net.attached++;
	net.had_netns = access(r->netns, F_OK) == 0;
	pthread_mutex_unlock(&net.lock);
	if (refuse)
		return error_set(err, ERROR_UNAVAILABLE, "no network today");
	*ret = (struct cni_result){ .ip = xstrdup("10.99.0.7") };
	strv_push(&ret->additional_ips, "fd99::7");
	return 0;
}

static int net_detach(struct cni *c UNUSED, const struct cni_request *r UNUSED, struct error *err)
{
	pthread_mutex_lock(&net.lock);
	bool refuse = net.refuse_detach;
	net.detached++;
	pthread_mutex_unlock(&net.lock);
	return refuse ? error_set(err, ERROR_UNAVAILABLE, "the plugin is away") : 0;
}

static void net_result_done(struct cni_result *r)
{
	free(r->ip);
	strv_done(&r->additional_ips);
}

const struct pod_network network = {
	.attach = net_attach,
	.detach = net_detach,
	.result_done = net_result_done,
};

/* --- fixtures --- */

void make_image(struct store *s)
{
	const struct store_ctx ctx = { .store = s, .ns = NS };
	static const char *const tools[] = { "sh",   "true",  "cat",	  "sleep", "ls",    "id",
					     "echo", "mount", "hostname", "test",  "touch", "stat",
					     "ps",   "kill",  "trap",	  "head",  "seq" };
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n";
	static const char group[] = "root:x:0:\nbobs:x:1000:\nwheel:x:10:bob\nextra:x:50000:bob\n";
	autokvs struct kvs labels = KVS_INIT;
	CLEANUP(snapshot_info_done) struct snapshot_info info = { 0 };
	struct error *err = ERR;

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
	char block[65536];
	for (ssize_t n; (n = read(from, block, sizeof(block))) > 0;)
		assert(fs_write_all(to, block, (size_t)n) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		autofree char *link = xasprintf("bin/%s", tools[i]);

		assert(symlinkat("busybox", dir, link) == 0);
	}
	fs_write_atomic(dir, "etc/passwd", passwd, sizeof(passwd) - 1, 0644, false);
	fs_write_atomic(dir, "etc/group", group, sizeof(group) - 1, 0644, false);
	assert(snapshot_commit(&ctx, NULL, CHAIN, "import", &labels, false, err) == 0);
}

void pod_configure(struct sandbox_config *c, const char *name)
{
	*c = (struct sandbox_config){
		.name = xstrdup(name),
		.namespace_ = xstrdup("test"),
		.uid = xstrdup("uid-1"),
		.hostname = xstrdup("podhost"),
		.log_directory = path_join(base_dir, "logs", NULL),
		.pid = POD_NS_CONTAINER,
		.dns_given = true,
	};
	strv_push(&c->dns_servers, "10.10.10.10");
	strv_push(&c->dns_searches, "a.example");
	strv_push(&c->dns_searches, "b.example");
	kvs_set(&c->labels, "app", "x");
}

void pod_run(struct sandbox_config *c, char id[65])
{
	assert_ok(engine_sandbox_run(engine, NS, c, NULL, id, ERR));
}

void userns(struct sandbox_config *c)
{
	const struct id_mapping m = { 0, 300000, 65536 };

	c->userns = true;
	c->uid_mappings.v = xmemdup(&m, sizeof(m));
	c->uid_mappings.n = 1;
	c->gid_mappings.v = xmemdup(&m, sizeof(m));
	c->gid_mappings.n = 1;
}

void configure(struct container_config *k, const char *pod, const char *script)
{
	static atomic_int number;

	*k = (struct container_config){
		.image = xstrdup("busybox"),
		.image_id = xstrdup("sha256:" CHAIN),
		.chain_id = xstrdup(CHAIN),
		.sandbox_id = xstrdup(pod),
		.stop_timeout = -1,
		.log_path = xasprintf("%s/logs/%d.log", base_dir, (int)number++),
	};
	k->resources.memory_swappiness = -1;
	strv_push(&k->env, "PATH=/bin");
	strv_push(&k->args, "sh");
	strv_push(&k->args, "-c");
	strv_push(&k->args, script);
}

void create(struct container_config *k, char id[65])
{
	assert_ok(engine_create(engine, NS, NULL, k, NULL, id, NULL, ERR));
	container_config_done(k);
}

struct container_view *look(const char *id)
{
	struct container_view *v = NULL;

	assert_ok(engine_inspect(engine, NS, id, &v, ERR));
	return v;
}

int await_exit(const char *id)
{
	for (int i = 0; i < 3000; i++) {
		struct container_view *v = look(id);
		bool ended = v->status == CONTAINER_EXITED;
		int code = v->exit_code;

		container_view_free(v);
		if (ended)
			return code;
		usleep(10000);
	}
	fail_msg("container %s does not end", id);
	return -1;
}

char *read_text(const char *path)
{
	autobuf struct buf b = BUF_INIT(16 << 20);

	if (fs_read(AT_FDCWD, path, &b) < 0)
		return xstrdup("");
	return buf_steal(&b, NULL);
}

/* The log's text without what CRI's format puts before each line. */
char *log_text(const char *path)
{
	autofree char *text = read_text(path);
	autostrv struct strv lines = STRV_INIT;
	struct buf out = BUF_INIT(16 << 20);

	strv_split(&lines, text, "\n");
	for (size_t i = 0; i < lines.n; i++) {
		const char *at = lines.v[i];

		if (at[0] == '\0')
			continue;
		for (int k = 0; k < 3 && at; k++) {
			at = strchr(at, ' ');
			at += at != NULL;
		}
		if (!at)
			fail_msg("not CRI's format: %s", lines.v[i]);
		buf_puts(&out, at);
		buf_putc(&out, '\n');
	}
	return out.len > 0 ? buf_steal(&out, NULL) : xstrdup("");
}

/* Runs to the end and removes; what it printed. */
char *run(struct container_config *k, int *ret_code)
{
	autofree char *log = xstrdup(k->log_path);
	char id[65];

	create(k, id);
	assert_ok(engine_start(engine, NS, id, NULL, ERR));
	*ret_code = await_exit(id);
	char *out = log_text(log);
	assert_ok(engine_remove(engine, NS, id, true, true, ERR));
	assert_int_equal(access(log, F_OK), 0);
	return out;
}

char *run_script(const char *pod, const char *script)
{
	struct container_config k;
	int code;

	configure(&k, pod, script);
	char *out = run(&k, &code);
	if (code != 0)
		fail_msg("'%s' ended with %d: %s", script, code, out);
	return out;
}

void assert_has(const char *text, const char *want)
{
	if (!strstr(text, want))
		fail_msg("'%s' has not '%s'", text, want);
}

size_t count_entries(const char *dir)
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

enum sandbox_state state_of(const char *id)
{
	struct sandbox_view *v = NULL;

	assert_ok(engine_sandbox_get(engine, NS, id, &v, ERR));
	enum sandbox_state state = v->state;
	sandbox_view_unref(v);
	return state;
}
