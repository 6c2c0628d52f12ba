/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int cli_fail(struct cli *cli, int exit_code)
{
	cli->exit_code = exit_code;
	return -1;
}

void cli_report(const struct error *err)
{
	fprintf(stderr, "%s\n", error_msg(err));
}

bool cli_write(const void *p, size_t n)
{
	return fs_write_all(STDOUT_FILENO, p, n) >= 0;
}

void cli_print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	autofree char *s = xvasprintf(fmt, ap);

	va_end(ap);
	cli_write(s, strlen(s));
}

bool cli_confirm(const char *warning)
{
	char answer[16] = "";

	cli_print("%s [y/N] ", warning);
	if (!fgets(answer, sizeof(answer), stdin))
		return false;
	return strcasecmp(answer, "y\n") == 0 || strcasecmp(answer, "yes\n") == 0;
}

int option_check_filter(const char *value, struct error *err)
{
	const char *eq = strchr(value, '=');

	if (!eq || eq == value)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "bad format of filter (expected name=value)");
	return 0;
}

char *cli_filters(const struct strv *filters)
{
	autojson struct json *all = json_new_object();

	if (!filters->n)
		return NULL;
	for (size_t i = 0; i < filters->n; i++) {
		const char *eq = strchr(filters->v[i], '=');
		autofree char *key = xstrndup(filters->v[i], (size_t)(eq - filters->v[i]));
		struct json *values = json_get(all, key);

		if (!values) {
			values = json_new_object();
			json_set(all, key, values);
		}
		json_set_bool(values, eq + 1, true);
	}
	return json_format(all, /* pretty= */ false);
}

int cli_timestamp(const char *value, const char *option, char **ret, struct error *err)
{
	int64_t ns;

	*ret = NULL;
	if (str_empty(value))
		return 0;
	if (time_parse_docker(value, time_realtime(), &ns) < 0)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"invalid value for \"%s\": failed to parse value as time or duration: "
			"\"%s\"",
			option, value);
	*ret = xasprintf("%lld.%09lld", (long long)(ns / NSEC_PER_SEC),
			 (long long)(ns % NSEC_PER_SEC));
	return 0;
}

struct json *cli_map_option(const struct strv *assignments)
{
	struct json *map = json_new_object();

	for (size_t i = 0; i < assignments->n; i++) {
		const char *s = assignments->v[i];
		const char *eq = strchr(s, '=');
		autofree char *key = xstrndup(s, eq ? (size_t)(eq - s) : strlen(s));

		json_set_string(map, key, eq ? eq + 1 : "");
	}
	return map;
}

int cli_for_each(struct cli *cli, int argc, char **argv,
		 int (*fn)(struct cli *cli, const char *name, struct error *err))
{
	int code = 0;

	for (int i = 0; i < argc; i++) {
		autoerror struct error err = ERROR_INIT;

		if (fn(cli, argv[i], &err) < 0) {
			cli_report(&err);
			code = 1;
		}
	}
	return code;
}
