/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restart.h"

#include "base/mem.h"
#include "base/time.h"

#include <string.h>

#define DELAY_FIRST 100
#define DELAY_MAX 60000
#define RUN_THAT_RESETS (10 * NSEC_PER_SEC)

bool restart_policy_parse(const char *s, enum restart_policy *ret)
{
	static const char *const words[] = {
		[RESTART_NO] = "no",
		[RESTART_ALWAYS] = "always",
		[RESTART_UNLESS_STOPPED] = "unless-stopped",
		[RESTART_ON_FAILURE] = "on-failure",
	};

	if (str_empty(s)) {
		*ret = RESTART_NO;
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (str_equal(s, words[i])) {
			*ret = (enum restart_policy)i;
			return true;
		}
	}
	return false;
}

bool restart_wanted(const struct restart_question *q)
{
	switch (q->policy) {
	case RESTART_ALWAYS:
		/* Even one that was stopped comes back with the machine: that is "always". */
		return q->booted || !q->stopped_by_user;
	case RESTART_UNLESS_STOPPED:
		return !q->stopped_by_user;
	case RESTART_ON_FAILURE:
		return !q->stopped_by_user && q->exit_code != 0 &&
		       (q->max_retries <= 0 || q->retries < q->max_retries);
	case RESTART_NO:
		return false;
	}
	return false;
}

int start_failure_code(const char *msg)
{
	static const struct {
		const char *words;
		int code;
	} known[] = {
		{ "executable file", 127 },	    { "no such file or directory", 127 },
		{ "permission denied", 126 },	    { "is a directory", 126 },
		{ "operation not permitted", 126 }, { "exec format error", 126 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcasestr(msg, known[i].words))
			return known[i].code;
	return 128;
}

uint64_t restart_delay(uint64_t last_delay, int64_t run_ns)
{
	if (last_delay == 0 || run_ns >= RUN_THAT_RESETS)
		return DELAY_FIRST;
	return MIN(last_delay * 2, (uint64_t)DELAY_MAX);
}
