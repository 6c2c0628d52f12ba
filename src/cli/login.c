/* SPDX-License-Identifier: Apache-2.0 */
/* login and logout. */
#include "cli/auth.h"
#include "cli/commands.h"
#include "cli/terminal.h"

#include "base/fs.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define SECRET_MAX 65536

static struct {
	const char *username, *password;
	bool password_stdin;
} opts;

static const struct option options[] = {
	{ OPTION_STRING, 'p', "password", &opts.password,
	  "Password or Personal Access Token (PAT)" },
	{ OPTION_BOOL, 0, "password-stdin", &opts.password_stdin,
	  "Take the Password or Personal Access Token (PAT) from stdin" },
	{ OPTION_STRING, 'u', "username", &opts.username, "Username" },
	{ OPTION_END },
};

/* "https://host/v1/" and "host/" as people type them. malloc'ed. */
static char *server_name(const char *arg)
{
	autofree char *s = NULL;
	size_t n;

	if (!arg || strcmp(arg, AUTH_HUB) == 0)
		return xstrdup(AUTH_HUB);
	if (str_has_prefix(arg, "https://"))
		arg += 8;
	else if (str_has_prefix(arg, "http://"))
		arg += 7;
	n = strcspn(arg, "/");
	s = xstrndup(arg, n);
	return xstrdup(auth_key(s));
}

static char *read_line(void)
{
	autobuf struct buf b = BUF_INIT(SECRET_MAX);
	char c;

	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		buf_putc(&b, c);
	return b.overflow ? NULL : buf_steal(&b, NULL);
}

static char *read_all_stdin(void)
{
	struct buf b = BUF_INIT(SECRET_MAX);
	char *s;

	if (fs_read_fd(STDIN_FILENO, &b) < 0) {
		buf_done(&b);
		return NULL;
	}
	s = buf_steal(&b, NULL);
	for (size_t n = strlen(s); n && (s[n - 1] == '\n' || s[n - 1] == '\r');)
		s[--n] = '\0';
	return s;
}

static int check_options(struct error *err)
{
	if (opts.password)
		fprintf(stderr, "WARNING! Using --password via the CLI is insecure. Use "
				"--password-stdin.\n");
	if (opts.password && opts.password_stdin)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "--password and --password-stdin are mutually exclusive");
	if (opts.password_stdin && !opts.username)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "Must provide --username with --password-stdin");
	return 0;
}

/* From options, stdin or the terminal. */
static int ask(const char *server, struct credentials *c, struct error *err)
{
	c->username = xstrdup(opts.username);
	c->password = opts.password_stdin ? read_all_stdin() : xstrdup(opts.password);
	if (opts.password_stdin && str_empty(c->password))
		return error_set(err, ERROR_INVALID_ARGUMENT, "password is empty");
	if (c->username && c->password)
		return 0;
	if (!terminal_is(STDIN_FILENO))
		return error_set(
			err, ERROR_FAILED_PRECONDITION,
			"Error: Cannot perform an interactive login from a non TTY device");
	if (!c->username) {
		cli_print("Username (%s): ", server);
		c->username = read_line();
	}
	if (str_empty(c->username))
		return error_set(err, ERROR_INVALID_ARGUMENT, "Error: Non-null Username Required");
	if (!c->password) {
		if (terminal_no_echo(STDIN_FILENO, err) < 0)
			return -1;
		cli_print("Password: ");
		c->password = read_line();
		terminal_restore();
		cli_print("\n");
	}
	if (str_empty(c->password))
		return error_set(err, ERROR_INVALID_ARGUMENT, "Error: Password Required");
	return 0;
}

static int run_login(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *server = server_name(argc ? argv[0] : NULL);
	autocredentials struct credentials c = { 0 };
	autojson struct json *body = json_new_object();
	autojson struct json *reply = NULL;
	const char *token, *status;
	bool plain;

	if (check_options(err) < 0 || ask(server, &c, err) < 0)
		return -1;
	json_set_string(body, "username", c.username);
	json_set_string(body, "password", c.password);
	json_set_string(body, "serveraddress", server);
	if (client_call(&cli->client, "POST", "/auth", body, &reply, err) < 0)
		return -1;
	token = json_get_string(reply, "IdentityToken");
	if (!str_empty(token))
		c.identity_token = xstrdup(token);
	if (auth_store(server, &c, &plain, err) < 0)
		return error_wrap(err, "Error saving credentials");
	if (plain) {
		autofree char *path = auth_config_path();

		fprintf(stderr,
			"\nWARNING! Your credentials are stored unencrypted in '%s'.\n"
			"Configure a credential helper to remove this warning.\n\n",
			path);
	}
	status = json_get_string(reply, "Status");
	cli_print("%s\n", str_empty(status) ? "Login Succeeded" : status);
	return 0;
}

static int run_logout(struct cli *cli, int argc, char **argv, struct error *err)
{
	autofree char *server = server_name(argc ? argv[0] : NULL);
	bool found = false;

	if (auth_erase(server, &found, err) < 0)
		return error_wrap(err, "could not erase credentials");
	if (found)
		cli_print("Removing login credentials for %s\n", server);
	else
		cli_print("Not logged in to %s\n", server);
	return 0;
}

const struct command command_login = {
	.paths = "login",
	.args = "[OPTIONS] [SERVER]",
	.summary = "Authenticate to a registry",
	.max_args = 1,
	.flags = COMMAND_COMMON,
	.options = options,
	.run = run_login,
};

const struct command command_logout = {
	.paths = "logout",
	.args = "[SERVER]",
	.summary = "Log out from a registry",
	.max_args = 1,
	.flags = COMMAND_COMMON,
	.run = run_logout,
};
