#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's progress messages as text: on a terminal one line per layer that changes in place, else
 * plain lines without the bars. Sans-IO: text goes into a buffer.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/map.h"

#define PROGRESS_IDS_MAX 2048

struct progress {
	bool terminal;
	unsigned width;
	struct map lines; /* id -> line + 1 */
	size_t n_lines;
};

void progress_init(struct progress *p, bool terminal, unsigned width);
void progress_done(struct progress *p);
/* -1: the message is an error ("error", "errorDetail"). */
int progress_message(struct progress *p, const struct json *message, struct buf *out,
		     struct error *err);
/* "[==>    ]  1.2MB/3MB"; appends nothing when there is nothing to show. */
void progress_bar(const struct json *detail, unsigned width, struct buf *out);

#define autoprogress CLEANUP(progress_done)
