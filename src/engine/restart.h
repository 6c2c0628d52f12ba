#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restart policies and exit codes, as pure decisions: Docker's back-off (100 ms, doubling up to a
 * minute, reset by a run of 10 s) and Docker's rules for when a policy applies.
 */

#include "base/macros.h"

enum restart_policy { RESTART_NO, RESTART_ALWAYS, RESTART_UNLESS_STOPPED, RESTART_ON_FAILURE };

/* NULL and "" are RESTART_NO. False for an unknown word. */
bool restart_policy_parse(const char *s, enum restart_policy *ret);

struct restart_question {
	enum restart_policy policy;
	int64_t max_retries; /* on-failure; 0: no limit */
	int64_t retries;     /* so far */
	int exit_code;
	bool stopped_by_user;
	bool booted; /* asked at the host's start, not at the container's end */
};

bool restart_wanted(const struct restart_question *q);

/* The exit code of something that could not be started, from the runtime's words, by the shell's
 * convention: 127 there is no such program, 126 it cannot be run; 128 for all else. */
int start_failure_code(const char *msg);

/* ms to wait, given the wait before (0: none yet) and how long the run lasted. */
uint64_t restart_delay(uint64_t last_delay, int64_t run_ns);
