#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of Go's text/template that people give to --format, over JSON values. Sans-IO.
 *
 * Actions: {{pipeline}}, if / else if / else, range (with "$i, $v :="), with, variables, comments,
 * trim markers. Fields match exactly, else ignoring case, so that Go's names (.ID) find JSON's
 * (Id). A field that is absent is an error when printed and false in a condition. Functions: json,
 * split, join, title, lower, upper, pad, truncate, print, printf, println, index, len, slice, eq,
 * ne, lt, le, gt, ge, and, or, not.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

#define TEMPLATE_TEXT_MAX (64 * 1024)
#define TEMPLATE_OUTPUT_MAX (64 * 1024 * 1024)

struct template;

struct template *template_parse(const char *text, struct error *err);
void template_free(struct template *t);
/* Appends to out. extra (may be NULL) has fields that are found by name, but are not part of ".".
 */
int template_execute(const struct template *t, const struct json *data, const struct json *extra,
		     struct buf *out, struct error *err);
/* The same over column headers: functions give their first argument back. */
int template_execute_header(const struct template *t, const struct json *headers, struct buf *out,
			    struct error *err);

DEFINE_CLEANUP(struct template *, template_free)
#define autotemplate CLEANUP(template_freep)
