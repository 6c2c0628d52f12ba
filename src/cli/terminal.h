#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The controlling terminal: raw mode with restore on every way out, and its size. */

#include "base/error.h"

bool terminal_is(int fd);
/* false when fd is no terminal or does not know. */
bool terminal_size(int fd, unsigned *ret_width, unsigned *ret_height);
/* Width of stdout, else fallback. */
unsigned terminal_width(unsigned fallback);
/* Raw mode until terminal_restore(), exit() or a fatal signal. */
int terminal_raw(int fd, struct error *err);
/* Only echo off. */
int terminal_no_echo(int fd, struct error *err);
/* Idempotent, async-signal-safe. */
void terminal_restore(void);
