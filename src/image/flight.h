#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single flights: of several operations that need the same thing made (a layer downloaded, a chain
 * of snapshots linked), one makes it and the others wait. Who waits does so on an eventfd of its
 * own, next to everything else that it waits for; once woken it looks whether the thing is there
 * now, and if not may become the maker itself. Any thread.
 */

#include "base/error.h"

struct flights;

struct flights *flights_new(void);
void flights_free(struct flights *f); /* none may be left */
/* true: the caller makes `key` now, and must call flight_end(). false: somebody else does; `wake`
 * (an eventfd) is written once when that ends. */
bool flight_begin(struct flights *f, const char *key, int wake);
/* By the maker, whether it went well or not. */
void flight_end(struct flights *f, const char *key);
/* Nobody writes to `wake` any more after this. */
void flight_forget(struct flights *f, int wake);
