/* SPDX-License-Identifier: Apache-2.0 */
/* The small documents of exec and attach: the status that ends them, the sizes of a terminal. */

#include "api/cri/streaming-internal.h"

#include "base/mem.h"

#include <string.h>

#define SIZE_MAX_CELLS 0xffff

static struct json *status_new(const char *status)
{
	struct json *j = json_new_object();

	json_set(j, "metadata", json_new_object());
	json_set_string(j, "status", status);
	return j;
}

static char *format(struct json *take)
{
	char *text = json_format(take, /* pretty= */ false);

	json_unref(take);
	return text;
}

static void add_cause(struct json *j, const char *reason, const char *message)
{
	struct json *cause = json_new_object(), *causes = json_new_array(),
		    *details = json_new_object();

	if (reason)
		json_set_string(cause, "reason", reason);
	json_set_string(cause, "message", message);
	json_add(causes, cause);
	json_set(details, "causes", causes);
	json_set(j, "details", details);
}

char *status_success(void)
{
	return format(status_new("Success"));
}

char *status_exit(int exit_code)
{
	struct json *j = status_new("Failure");
	autofree char *code = xasprintf("%d", exit_code);
	autofree char *message =
		xasprintf("command terminated with non-zero exit code: exit code %d", exit_code);

	json_set_string(j, "message", message);
	json_set_string(j, "reason", "NonZeroExitCode");
	add_cause(j, "ExitCode", code);
	return format(j);
}

char *status_failure(const char *text)
{
	struct json *j = status_new("Failure");
	autofree char *message = xasprintf("Internal error occurred: %s", text);

	json_set_string(j, "message", message);
	json_set_string(j, "reason", "InternalError");
	add_cause(j, NULL, text);
	json_set_int(j, "code", 500);
	return format(j);
}

/* --- sizes --- */

static bool take_object(struct resize_parser *p, unsigned *ret_width, unsigned *ret_height)
{
	autojson struct json *j = json_parse(p->text, p->n, sizeof(p->text), NULL);
	int64_t width = json_get_int(j, "Width", -1), height = json_get_int(j, "Height", -1);

	if (!j) {
		p->broken = true;
		return false;
	}
	if (width <= 0 || height <= 0 || width > SIZE_MAX_CELLS || height > SIZE_MAX_CELLS)
		return false;
	*ret_width = (unsigned)width;
	*ret_height = (unsigned)height;
	return true;
}

/* Their keys and values hold no braces, so that depth needs no look at strings. */
bool resize_feed(struct resize_parser *p, const char *data, size_t n, unsigned *ret_width,
		 unsigned *ret_height)
{
	bool any = false;

	for (size_t i = 0; i < n && !p->broken; i++) {
		if (p->depth == 0 && data[i] != '{')
			continue;
		if (p->n == sizeof(p->text)) {
			p->broken = true;
			break;
		}
		p->text[p->n++] = data[i];
		if (data[i] == '{')
			p->depth++;
		else if (data[i] == '}' && --p->depth == 0) {
			any = take_object(p, ret_width, ret_height) || any;
			p->n = 0;
		}
	}
	return any;
}
