/* SPDX-License-Identifier: Apache-2.0 */
/* ps(1) of the host, whatever the user wants of it, and the rows whose PID is the container's. */

#include "base/mem.h"
#include "base/parse.h"
#include "base/process.h"
#include "engine/internal.h"

#include <string.h>

#define PS_OUTPUT_MAX (8 << 20)
#define PS_TIMEOUT_MS 10000

void top_result_done(struct top_result *t)
{
	strv_done(&t->titles);
	for (size_t i = 0; i < t->rows.n; i++)
		strv_done(&t->rows.v[i]);
	free(t->rows.v);
	*t = (struct top_result){ 0 };
}

/* Words of a line; the last of max takes the rest, spaces and all. */
static void split_words(const char *line, size_t len, size_t max, struct strv *ret)
{
	const char *p = line, *end = line + len;

	while (ret->n < max) {
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (p == end)
			return;
		const char *from = p;
		if (ret->n + 1 == max)
			p = end;
		while (p < end && *p != ' ' && *p != '\t')
			p++;
		strv_take(ret, xstrndup(from, (size_t)(p - from)));
	}
}

static bool has_pid(const struct task_pids *pids, const char *text)
{
	int64_t pid;

	if (parse_int64(text, &pid) < 0)
		return false;
	for (size_t i = 0; i < pids->n; i++)
		if (pids->v[i] == pid)
			return true;
	return false;
}

static void add_row(struct top_result *t, const char *line, size_t len, size_t pid_column,
		    const struct task_pids *pids)
{
	autostrv struct strv words = STRV_INIT;

	split_words(line, len, t->titles.n, &words);
	if (words.n <= pid_column || !has_pid(pids, words.v[pid_column]))
		return;
	GROW_ARRAY(t->rows.v, t->rows.n);
	t->rows.v[t->rows.n++] = words;
	words = STRV_INIT;
}

static int parse_ps(const char *text, const struct task_pids *pids, struct top_result *ret,
		    struct error *err)
{
	size_t pid_column = SIZE_MAX;

	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "\n");

		if (pid_column != SIZE_MAX) {
			add_row(ret, p, len, pid_column, pids);
		} else {
			split_words(p, len, SIZE_MAX, &ret->titles);
			for (size_t i = 0; i < ret->titles.n; i++)
				if (str_equal(ret->titles.v[i], "PID"))
					pid_column = i;
			if (pid_column == SIZE_MAX)
				return error_set(err, ERROR_INVALID_ARGUMENT,
						 "Couldn't find PID field in ps output");
		}
		p += len;
		p += *p == '\n';
	}
	return 0;
}

static int run_ps(const char *args, struct buf *out, struct error *err)
{
	autostrv struct strv argv = STRV_INIT;
	autobuf struct buf errout = BUF_INIT(4096);
	struct process_spec spec = { .path = "ps" };
	int status = 0;

	strv_push(&argv, "ps");
	split_words(args, strlen(args), 32, &argv);
	spec.argv = strv_argv(&argv);
	if (process_run(&spec, NULL, 0, out, &errout, PS_TIMEOUT_MS, &status, err) < 0)
		return error_wrap(err, "Error running ps");
	if (status == 0)
		return 0;
	errout.data[strcspn(errout.data, "\n")] = '\0';
	return error_set(err, ERROR_INVALID_ARGUMENT, "Error running ps: %s", errout.data);
}

int engine_top(struct engine *e, const char *ns, const char *id, const char *ps_args,
	       struct top_result *ret, struct error *err)
{
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);
	CLEANUP(task_pids_done) struct task_pids pids = { 0 };
	autobuf struct buf out = BUF_INIT(PS_OUTPUT_MAX);

	if (!c)
		return -1;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t || task_pids(t, &pids, err) < 0 ||
	    run_ps(str_empty(ps_args) ? "-ef" : ps_args, &out, err) < 0)
		return -1;
	*ret = (struct top_result){ 0 };
	if (parse_ps(out.data, &pids, ret, err) < 0) {
		top_result_done(ret);
		return -1;
	}
	container_emit(c, "top", NULL, NULL);
	return 0;
}
