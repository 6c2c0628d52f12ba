#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * containerd's filter language (containerd-api.md 0.5), sans-IO. A filter is a list of texts of
 * which one must hold; a text is a list of selectors, all of which must hold:
 *
 *	filter   := selector ("," selector)*
 *	selector := path (("==" | "!=" | "~=") value)?
 *	path     := word ("." word)*, words bare ([A-Za-z0-9_]+) or quoted
 *	value    := a bare run up to a comma or blank, or quoted; for "~=" also /.../ and |...|
 *
 * Any thread; an object of it may be used by one at a time.
 */

#include "base/error.h"
#include "base/map.h"
#include "base/strv.h"

struct filter;

#define FILTER_TEXT_MAX (64 << 10)
#define FILTERS_MAX 1024

/* INVALID_ARGUMENT, with the text and where it fails. No texts: everything matches. */
int filter_parse(char *const *texts, size_t n, struct filter **ret, struct error *err);
void filter_free(struct filter *f);

/* The value of a field of an object, borrowed; NULL when it has no such field. */
typedef const char *(*filter_field)(const void *object, const struct strv *path);
bool filter_match(const struct filter *f, filter_field field, const void *object);
/* For fields that are maps: "labels.a.b" is the key "a.b" of labels. */
const char *filter_label(const struct kvs *labels, const struct strv *path);

DEFINE_CLEANUP(struct filter *, filter_free)
#define autofilter CLEANUP(filter_freep)
