#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, times and tables as Docker prints them. Results are malloc'ed. */

#include "base/buf.h"
#include "base/error.h"
#include "base/human.h"
#include "base/json.h"

/* human_duration() since a unix time, with " ago". */
char *format_ago(int64_t unix_time);
/* "2025-06-01 10:00:00 +0000 UTC", local time zone */
char *format_time(int64_t unix_time);
/* RFC 3339 text to unix seconds; 0 when it is none. */
int64_t format_parse_time(const char *rfc3339);
/* First 12 characters of an ID, without "sha256:". */
char *format_short_id(const char *id);
/* At most max characters, the last an ellipsis when cut. */
char *format_ellipsis(const char *s, size_t max);
/* As strconv.Quote() has it. */
char *format_quote(const char *s);
/* Compact JSON text indented by four spaces, as Docker prints it. */
void format_indent(const char *json, struct buf *out);

/* Tab-separated lines aligned as Docker's tabwriter does (width at least 10, padding 3). */
void format_table(const char *lines, struct buf *out);
void format_table_min(const char *lines, size_t min_width, struct buf *out);

struct column {
	const char *key;    /* name in templates */
	const char *header; /* in tables */
};

/* A list of objects in one of the --format ways: "table", "table TEMPLATE", "json", TEMPLATE. */
struct listing {
	struct template *template;
	bool table;
	bool is_default;	      /* the caller's own format: it knows what fields that has */
	const struct column *columns; /* ended by a NULL key */
	struct buf lines;
};

int listing_init(struct listing *l, const char *format, const char *default_format,
		 const struct column *columns, struct error *err);
void listing_done(struct listing *l);
/* Takes row; extra (may be NULL) is found by templates, but is not part of {{json .}}. */
int listing_add(struct listing *l, struct json *row, const struct json *extra, struct error *err);
/* The whole text to out; begins anew. */
int listing_flush(struct listing *l, struct buf *out, struct error *err);
/* listing_flush() to stdout. */
int listing_print(struct listing *l, struct error *err);

#define autolisting CLEANUP(listing_done)
