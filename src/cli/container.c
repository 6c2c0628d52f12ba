/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/container.h"

#include "base/mem.h"

#include <string.h>

struct json *container_inspect(struct cli *cli, const char *name, struct error *err)
{
	autofree char *path = url_format("/containers/{}/json", name);
	struct json *j = NULL;

	if (client_get(&cli->client, path, &j, err) < 0)
		return NULL;
	if (!j)
		error_set(err, ERROR_INTERNAL, "empty reply from daemon");
	return j;
}

int container_start(struct cli *cli, const char *name, const char *detach_keys, struct error *err)
{
	autofree char *path = url_format("/containers/{}/start", name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);

	buf_puts(&url, path);
	url_query(&url, "detachKeys", str_empty(detach_keys) ? NULL : detach_keys);
	return client_post(&cli->client, url.data, NULL, err);
}

struct exchange *container_attach(struct cli *cli, const char *name, bool in, bool out, bool err_,
				  const char *detach_keys, struct error *err)
{
	autofree char *path = url_format("/containers/{}/attach", name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	struct request req = { .method = "POST", .upgrade = true };

	buf_puts(&url, path);
	url_query(&url, "stream", "1");
	url_query(&url, "stdin", in ? "1" : NULL);
	url_query(&url, "stdout", out ? "1" : NULL);
	url_query(&url, "stderr", err_ ? "1" : NULL);
	url_query(&url, "detachKeys", str_empty(detach_keys) ? NULL : detach_keys);
	req.path = url.data;
	return client_open(&cli->client, &req, err);
}

struct exchange *container_wait(struct cli *cli, const char *name, const char *condition,
				struct error *err)
{
	autofree char *path = url_format("/containers/{}/wait", name);
	autobuf struct buf url = BUF_INIT(BUF_NO_LIMIT);
	struct request req = { .method = "POST" };

	buf_puts(&url, path);
	url_query(&url, "condition", condition);
	req.path = url.data;
	return client_open(&cli->client, &req, err);
}

int container_wait_result(struct exchange *wait, int *ret_code, struct error *err)
{
	autojson struct json *j = exchange_next_json(wait, err);
	const char *message = json_get_string(json_get(j, "Error"), "Message");

	if (!j) {
		if (err->code)
			return -1;
		return error_set(err, ERROR_UNAVAILABLE,
				 "the daemon closed the connection while waiting");
	}
	if (!str_empty(message))
		return error_set(err, ERROR_UNKNOWN, "%s", message);
	*ret_code = (int)(json_get_int(j, "StatusCode", 125) & 0xff);
	return 0;
}

int container_start_exit_code(const struct error *err)
{
	static const struct {
		const char *text;
		int code;
	} known[] = {
		{ "executable file not found", 127 },
		{ "no such file or directory", 127 },
		{ "No such file or directory", 127 },
		{ "not found in $PATH", 127 },
		{ "permission denied", 126 },
		{ "Permission denied", 126 },
		{ "is a directory", 126 },
		{ "Is a directory", 126 },
		{ "not a directory", 126 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strstr(error_msg(err), known[i].text))
			return known[i].code;
	return 125;
}
