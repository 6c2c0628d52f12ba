/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/session.h"
#include "cli/spec-parse.h"
#include "cli/terminal.h"

#include "base/mem.h"

static struct {
	bool detach, interactive, privileged, tty;
	const char *detach_keys, *user, *workdir;
	struct strv env, env_files;
} opts;

static const struct option options[] = {
	{ OPTION_BOOL, 'd', "detach", &opts.detach,
	  "Detached mode: run command in the background" },
	{ OPTION_STRING, 0, "detach-keys", &opts.detach_keys,
	  "Override the key sequence for detaching a container" },
	{ OPTION_LIST, 'e', "env", &opts.env, "Set environment variables",
	  .check = spec_check_env },
	{ OPTION_LIST, 0, "env-file", &opts.env_files, "Read in a file of environment variables" },
	{ OPTION_BOOL, 'i', "interactive", &opts.interactive,
	  "Keep STDIN open even if not attached" },
	{ OPTION_BOOL, 0, "privileged", &opts.privileged,
	  "Give extended privileges to the command" },
	{ OPTION_BOOL, 't', "tty", &opts.tty, "Allocate a pseudo-TTY" },
	{ OPTION_STRING, 'u', "user", &opts.user,
	  "Username or UID (format: \"<name|uid>[:<group|gid>]\")" },
	{ OPTION_STRING, 'w', "workdir", &opts.workdir, "Working directory inside the container" },
	{ OPTION_END },
};

static void set_console_size(struct json *j)
{
	unsigned width, height;
	struct json *size;

	if (!opts.tty || !terminal_size(STDOUT_FILENO, &width, &height))
		return;
	size = json_new_array();
	json_add(size, json_new_int(height));
	json_add(size, json_new_int(width));
	json_set(j, "ConsoleSize", size);
}

static int collect_env(struct strv *env, struct error *err)
{
	for (size_t i = 0; i < opts.env_files.n; i++)
		if (spec_env_file(opts.env_files.v[i], /* environment= */ true, env, err) < 0)
			return -1;
	strv_extend(env, &opts.env);
	return 0;
}

static struct json *exec_config(int argc, char **argv, struct error *err)
{
	autojson struct json *j = json_new_object();
	autostrv struct strv env = STRV_INIT;
	struct json *cmd = json_new_array();

	json_set(j, "Cmd", cmd);
	if (collect_env(&env, err) < 0)
		return NULL;
	for (int i = 1; i < argc; i++)
		json_add(cmd, json_new_string(argv[i]));
	if (env.n)
		json_set(j, "Env", json_new_strv(&env));
	json_set_string(j, "User", opts.user ? opts.user : "");
	json_set_bool(j, "Privileged", opts.privileged);
	json_set_bool(j, "Tty", opts.tty);
	json_set_bool(j, "AttachStdin", opts.interactive && !opts.detach);
	json_set_bool(j, "AttachStdout", !opts.detach);
	json_set_bool(j, "AttachStderr", !opts.detach);
	json_set_string(j, "DetachKeys", opts.detach_keys ? opts.detach_keys : "");
	json_set_string(j, "WorkingDir", opts.workdir ? opts.workdir : "");
	set_console_size(j);
	return TAKE_PTR(j);
}

static int exit_code_of(struct cli *cli, const char *id, struct error *err)
{
	autofree char *path = url_format("/exec/{}/json", id);
	autojson struct json *j = NULL;

	if (client_get(&cli->client, path, &j, err) < 0)
		return -1;
	return (int)(json_get_int(j, "ExitCode", 0) & 0xff);
}

static struct json *start_config(void)
{
	struct json *j = json_new_object();

	json_set_bool(j, "Detach", opts.detach);
	json_set_bool(j, "Tty", opts.tty);
	set_console_size(j);
	return j;
}

static int exec_attached(struct cli *cli, const char *container, const char *id, struct error *err)
{
	autofree char *path = url_format("/exec/{}/start", id);
	autojson struct json *body = start_config();
	struct request req = { .method = "POST", .path = path, .body = body, .upgrade = true };
	autoexchange struct exchange *stream = NULL;
	CLEANUP(session_done)
	struct session s = {
		.client = &cli->client,
		.signal_fd = -EBADF,
		.tty = opts.tty,
		.input = opts.interactive,
		.output = true,
		.errors = true,
		.container = container,
		.exec = id,
		.detach_keys = opts.detach_keys,
	};

	stream = client_open(&cli->client, &req, err);
	if (!stream)
		return -1;
	s.stream = stream;
	if (session_open(&s, err) < 0 || session_run(&s, err) < 0)
		return -1;
	if (s.detached)
		return error_set(err, ERROR_CANCELLED, "read escape sequence");
	return exit_code_of(cli, id, err);
}

static int run_exec(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *path = url_format("/containers/{}/exec", argv[0]);
	autojson struct json *body = exec_config(argc, argv, err);
	autojson struct json *reply = NULL;
	autojson struct json *start = NULL;
	autofree char *start_path = NULL;
	const char *id;

	if (!body)
		return -1;
	if (!opts.detach && session_check_tty(opts.interactive, opts.tty, err) < 0)
		return -1;
	if (client_call(&cli->client, "POST", path, body, &reply, err) < 0)
		return -1;
	id = json_get_string(reply, "Id");
	if (str_empty(id))
		return error_set(err, ERROR_INTERNAL, "exec ID empty");
	if (!opts.detach)
		return exec_attached(cli, argv[0], id, err);
	start_path = url_format("/exec/{}/start", id);
	start = start_config();
	return client_post(&cli->client, start_path, start, err);
}

const struct command command_exec = {
	.paths = "container exec|exec",
	.args = "[OPTIONS] CONTAINER COMMAND [ARG...]",
	.summary = "Execute a command in a running container",
	.min_args = 2,
	.max_args = -1,
	.flags = COMMAND_STOP_AT_ARG | COMMAND_COMMON,
	.complete = COMPLETE_RUNNING,
	.options = options,
	.run = run_exec,
};
