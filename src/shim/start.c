/* SPDX-License-Identifier: Apache-2.0 */
/* start, delete and -info: the short-lived sides of the shim. */

#include "shim/command.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mount.h"
#include "base/parse.h"
#include "base/process.h"
#include "base/time.h"
#include "containerd.task.v3.pb-c.h"
#include "containerd.types.pb-c.h"
#include "rpc/protobuf.h"
#include "shim/container.h"
#include "shim/mountns.h"
#include "shim/runtime.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)4 << 20)
#define RUNTIME_TIMEOUT_MS 10000

static int fail(const struct error *err)
{
	fprintf(stderr, "kistl-shim: %s\n", error_msg(err));
	return 1;
}

static int put(const void *p, size_t n)
{
	return fs_write_all(STDOUT_FILENO, p, n) < 0 ? 1 : 0;
}

/* start */

/*
 * Options come in three generations of encodings, or not at all; they all come again with Create,
 * which is where they are used. A daemon that writes must not see a closed pipe, though.
 */
static void swallow_stdin(void)
{
	char bytes[4096];
	size_t total = 0;
	struct stat st;

	if (fstat(STDIN_FILENO, &st) < 0 || (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)))
		return;
	while (total < INPUT_MAX) {
		ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

		if (n <= 0)
			return;
		total += (size_t)n;
	}
}

static int spawn_server(const struct command *c, const char *group, const char *bundle,
			int listener, struct error *err)
{
	autostrv struct strv argv = STRV_INIT;
	const struct process_fd fds[] = { { -1, 1 }, { -1, 2 }, { listener, 3 } };
	const char *const words[] = { "kistl-shim", "-namespace", c->ns,     "-id", group,
				      "-address",   c->address,	  "-bundle", bundle };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		strv_push(&argv, words[i]);
	if (c->debug)
		strv_push(&argv, "-debug");
	strv_push(&argv, "serve");
	const struct process_spec spec = {
		.path = "/proc/self/exe",
		.argv = strv_argv(&argv),
		.fds = fds,
		.n_fds = ARRAY_SIZE(fds),
		.flags = PROCESS_NEW_SESSION,
	};
	return process_spawn(&spec, NULL, err) < 0 ? -1 : 0;
}

/* 1: one serves the group already. */
static int listen_or_find(const char *path, int *ret_fd, struct error *err)
{
	autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));
	int r = fs_mkdir_p(dir, 0711);

	if (r < 0)
		return error_errno(err, -r, "make '%s'", dir);
	autoclose int fd = fs_unix_listen(path, 0600, 128);
	if (fd == -EADDRINUSE)
		return 1;
	if (fd < 0)
		return error_errno(err, -fd, "listen on '%s'", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/*
 * containerd before 1.7 reads nothing but an address. Every containerd sets GOMAXPROCS for its
 * shims, and newer ones MAX_SHIM_VERSION too.
 */
static bool daemon_is_old(void)
{
	return getenv("GOMAXPROCS") && !getenv("MAX_SHIM_VERSION");
}

static void print_address(const char *path)
{
	autojson struct json *j = json_new_object();
	autofree char *address = xasprintf("unix://%s", path);

	if (daemon_is_old()) {
		put(address, strlen(address));
		return;
	}
	json_set_int(j, "version", 3);
	json_set_string(j, "address", address);
	json_set_string(j, "protocol", "ttrpc");
	autofree char *text = json_format(j, /* pretty= */ false);
	put(text, strlen(text));
}

int command_start(const struct command *c)
{
	autoerror struct error err = ERROR_INIT;
	autoclose int fd = -1;
	char cwd[PATH_MAX];
	const char *bundle = *c->bundle ? c->bundle : getcwd(cwd, sizeof(cwd));

	if (!bundle) {
		error_errno(&err, errno, "find the bundle");
		return fail(&err);
	}
	swallow_stdin();
	autofree char *group = shim_group(bundle, c->id);
	autofree char *path = shim_socket_path(c->address, c->ns, group);
	autofree char *record = path_join(bundle, "address", NULL);
	autofree char *text = xasprintf("unix://%s", path);
	int found = listen_or_find(path, &fd, &err);

	if (found < 0)
		return fail(&err);
	if (!found && spawn_server(c, group, bundle, fd, &err) < 0) {
		unlink(path);
		return fail(&err);
	}
	int r = fs_write_atomic(AT_FDCWD, record, text, strlen(text), 0600, /* sync= */ false);
	if (r < 0)
		log_warn("write '%s': %s, ignoring", record, strerror(-r));
	print_address(path);
	return 0;
}

/* delete */

static pid_t init_pid(const char *bundle)
{
	autofree char *path = path_join(bundle, "init.pid", NULL);
	autobuf struct buf text = BUF_INIT(32);
	int64_t pid = 0;

	if (fs_read(AT_FDCWD, path, &text) < 0 || parse_int64(text.data, &pid) < 0 || pid <= 1 ||
	    pid > INT32_MAX)
		return 0;
	return (pid_t)pid;
}

static void remove_container(const struct command *c, const char *bundle)
{
	autoerror struct error err = ERROR_INIT;
	autostrv struct strv args = STRV_INIT, argv = STRV_INIT;
	autobuf struct buf out = BUF_INIT(4096), errout = BUF_INIT(4096);
	autofree char *log = path_join(bundle, "log.json", NULL);
	CLEANUP(runtime_done) struct runtime r = { 0 };
	int status = 0;

	if (runtime_load(&r, c->ns, bundle, &err) < 0) {
		log_warn("%s, ignoring", error_msg(&err));
		return;
	}
	strv_push(&args, "delete");
	strv_push(&args, "--force");
	strv_push(&args, c->id);
	runtime_argv(&r, &(struct runtime_call){ .args = &args, .log = log }, &argv);
	const struct process_spec spec = { .path = r.binary, .argv = strv_argv(&argv) };
	if (process_run(&spec, NULL, 0, &out, &errout, RUNTIME_TIMEOUT_MS, &status, &err) < 0)
		log_warn("%s, ignoring", error_msg(&err));
}

int command_delete(const struct command *c)
{
	autoerror struct error err = ERROR_INIT;
	autoarena struct arena arena = ARENA_INIT;
	char cwd[PATH_MAX];
	const char *bundle = *c->bundle ? c->bundle : getcwd(cwd, sizeof(cwd));
	Containerd__Task__V3__DeleteResponse reply = CONTAINERD__TASK__V3__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	if (!bundle || mountns_enter(&err) < 0)
		log_warn("%s, ignoring", error_msg(&err));
	if (!bundle)
		return 1;
	pid_t pid = init_pid(bundle);
	remove_container(c, bundle);
	autofree char *rootfs = path_join(bundle, "rootfs", NULL);
	if (mount_detach_all(rootfs, MNT_DETACH, &err) < 0)
		log_warn("%s, ignoring", error_msg(&err));

	timestamp_set(&when, time_realtime());
	reply.pid = (uint32_t)pid;
	reply.exit_status = 128 + SIGKILL;
	reply.exited_at = &when;
	ProtobufCBinaryData bytes = protobuf_pack(&arena, &reply.base);
	return put(bytes.data, bytes.len);
}

/* -info */

int command_info(void)
{
	autoarena struct arena arena = ARENA_INIT;
	Containerd__Types__RuntimeInfo info = CONTAINERD__TYPES__RUNTIME_INFO__INIT;
	Containerd__Types__RuntimeVersion version = CONTAINERD__TYPES__RUNTIME_VERSION__INIT;
	char name[] = "io.containerd.kistl.v2", number[] = KISTL_VERSION;

	swallow_stdin();
	version.version = number;
	info.name = name;
	info.version = &version;
	ProtobufCBinaryData bytes = protobuf_pack(&arena, &info.base);
	return put(bytes.data, bytes.len);
}
