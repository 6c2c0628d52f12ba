#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects every child of the shim: OCI runtimes, loggers, containers (it is their subreaper) and
 * orphans. One for the process. Loop thread only.
 *
 * A container's pid is known only after its runtime has come back, when it may have ended already.
 * So while anybody holds the reaper, exits of unknown pids are remembered, and reaper_watch() finds
 * them.
 */

#include "loop/loop.h"

/* status as waitpid(2) gives it; when: realtime, ns. Runs on the loop, never from reaper_watch().
 */
typedef void (*reaper_fn)(int status, int64_t when, void *arg);

int reaper_start(struct loop *l, struct error *err);
void reaper_stop(void);
void reaper_hold(void);
void reaper_release(void);
void reaper_watch(pid_t pid, reaper_fn fn, void *arg);
void reaper_forget(pid_t pid);
/* 128 + signal, or the exit status. */
uint32_t reaper_exit_code(int status);
