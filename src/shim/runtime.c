/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/runtime.h"

#include "base/arena.h"
#include "base/fs.h"
#include "base/mem.h"
#include "containerd.runc.v1.pb-c.h"
#include "rpc/protobuf.h"
#include "shim/reaper.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEFAULT_ROOT "/run/kistl-runtime"
#define STATE_FILE "runtime.json"
#define LOG_READ_MAX ((size_t)64 << 10)

static struct {
	const char *path;
	int fd;
} sealed;

void runtime_set_sealed(const char *path, int fd)
{
	sealed.path = path;
	sealed.fd = fd;
}

void runtime_done(struct runtime *r)
{
	free(r->binary);
	free(r->root);
	*r = (struct runtime){ 0 };
}

static char *find_binary(const char *name, struct error *err)
{
	static const char *const defaults[] = { "crun", "runc" };

	if (!str_empty(name)) {
		char *path = process_find(name, NULL);

		if (!path)
			error_set(err, ERROR_NOT_FOUND, "OCI runtime '%s' is not installed", name);
		return path;
	}
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		char *path = process_find(defaults[i], NULL);

		if (path)
			return path;
	}
	error_set(err, ERROR_NOT_FOUND, "no OCI runtime is installed (looked for crun and runc)");
	return NULL;
}

int runtime_init(struct runtime *r, const char *ns, const Google__Protobuf__Any *options,
		 struct error *err)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Runc__V1__Options none = CONTAINERD__RUNC__V1__OPTIONS__INIT;
	const Containerd__Runc__V1__Options *o = &none;
	ProtobufCMessage *m = NULL;

	*r = (struct runtime){ 0 };
	if (options && str_has_suffix(options->type_url, "containerd.runc.v1.Options")) {
		if (protobuf_unpack(&arena, &containerd__runc__v1__options__descriptor,
				    options->value.data, options->value.len, &m, err) < 0)
			return -1;
		o = (const Containerd__Runc__V1__Options *)m;
	}
	r->binary = find_binary(o->binary_name, err);
	if (!r->binary)
		return -1;
	r->root = path_join(str_empty(o->root) ? DEFAULT_ROOT : o->root, ns, NULL);
	r->systemd_cgroup = o->systemd_cgroup;
	r->no_pivot_root = o->no_pivot_root;
	r->no_new_keyring = o->no_new_keyring;
	r->io_uid = o->io_uid;
	r->io_gid = o->io_gid;
	return 0;
}

int runtime_save(const struct runtime *r, const char *bundle, struct error *err)
{
	autojson struct json *j = json_new_object();
	autofree char *path = path_join(bundle, STATE_FILE, NULL);

	json_set_string(j, "binary", r->binary);
	json_set_string(j, "root", r->root);
	json_set_bool(j, "systemd_cgroup", r->systemd_cgroup);
	autofree char *text = json_format(j, /* pretty= */ false);
	int rc = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync= */ false);

	return rc < 0 ? error_errno(err, -rc, "write '%s'", path) : 0;
}

int runtime_load(struct runtime *r, const char *ns, const char *bundle, struct error *err)
{
	autofree char *path = path_join(bundle, STATE_FILE, NULL);
	autojson struct json *j = json_load_at(AT_FDCWD, path, 4096, NULL);

	if (!j)
		return runtime_init(r, ns, NULL, err);
	*r = (struct runtime){
		.binary = xstrdup(json_get_string(j, "binary")),
		.root = xstrdup(json_get_string(j, "root")),
		.systemd_cgroup = json_get_bool(j, "systemd_cgroup", false),
	};
	if (r->binary && r->root)
		return 0;
	runtime_done(r);
	return error_set(err, ERROR_DATA_LOSS, "'%s' is damaged", path);
}

void runtime_argv(const struct runtime *r, const struct runtime_call *call, struct strv *ret)
{
	const char *const globals[] = { r->binary, "--root",	   r->root, "--log",
					call->log, "--log-format", "json" };

	for (size_t i = 0; i < ARRAY_SIZE(globals); i++)
		strv_push(ret, globals[i]);
	if (r->systemd_cgroup)
		strv_push(ret, "--systemd-cgroup");
	strv_extend(ret, call->args);
}

char *runtime_log_message(const char *text, size_t len)
{
	char *found = NULL;

	while (len > 0) {
		const char *newline = memchr(text, '\n', len);
		size_t line = newline ? (size_t)(newline - text) : len;
		autojson struct json *j = json_parse(text, line, LOG_READ_MAX, NULL);
		const char *level = json_get_string(j, "level");
		const char *msg = json_get_string(j, "msg");

		if (msg && (!level || str_equal(level, "error") || str_equal(level, "fatal")))
			str_replace(&found, msg);
		line += newline != NULL;
		text += line;
		len -= line;
	}
	return found;
}

struct running {
	char *binary;
	char *verb;
	char *log;
	off_t offset; /* what the log held before */
	void (*done)(const struct error *err, void *arg);
	void *arg;
};

static char *read_message(const struct running *c)
{
	autobuf struct buf text = BUF_INIT(LOG_READ_MAX);
	autoclose int fd = open(c->log, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || buf_reserve(&text, LOG_READ_MAX - 1) < 0)
		return NULL;
	ssize_t n = pread(fd, text.data, LOG_READ_MAX - 1, c->offset);
	return n > 0 ? runtime_log_message(text.data, (size_t)n) : NULL;
}

static void on_exit_of_runtime(int status, int64_t when UNUSED, void *arg)
{
	autoerror struct error err = ERROR_INIT;
	struct running *c = arg;

	if (status != 0) {
		autofree char *msg = read_message(c);
		autofree char *how = process_status_string(status);

		/* What says nothing is at least named. */
		error_set(&err, ERROR_UNKNOWN, "OCI runtime %s failed: %s%s%s", c->verb,
			  msg ? "" : c->binary, msg ? "" : ": ", msg ? msg : how);
	}
	c->done(status != 0 ? &err : NULL, c->arg);
	free(c->binary);
	free(c->verb);
	free(c->log);
	free(c);
}

int runtime_run(const struct runtime *r, const struct runtime_call *call,
		void (*done)(const struct error *err, void *arg), void *arg, struct error *err)
{
	autostrv struct strv argv = STRV_INIT;
	struct stat st;
	/* What the runtime says goes to its log; stderr would be the shim's. */
	static const struct process_fd quiet[] = { { -1, 2 } };
	struct process_spec spec = {
		.path = r->binary,
		.program_fd = str_equal(r->binary, sealed.path) ? sealed.fd : 0,
		.cwd = call->bundle,
		.fds = call->n_fds ? call->fds : quiet,
		.n_fds = call->n_fds ? call->n_fds : ARRAY_SIZE(quiet),
	};

	runtime_argv(r, call, &argv);
	spec.argv = strv_argv(&argv);
	off_t offset = stat(call->log, &st) == 0 ? st.st_size : 0;
	pid_t pid = process_spawn(&spec, NULL, err);
	if (pid < 0)
		return error_wrap(err, "OCI runtime %s failed", call->verb);

	struct running *c = xnew(struct running);
	*c = (struct running){
		xstrdup(r->binary), xstrdup(call->verb), xstrdup(call->log), offset, done, arg
	};
	reaper_watch(pid, on_exit_of_runtime, c);
	return 0;
}
