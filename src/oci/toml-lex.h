#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* TOML's tokens; used by toml.c only. All functions return 0, or -1 with the error set. */

#include "base/json.h"

struct toml_lex {
	const char *p, *end, *start;
	struct error *err;
};

/* The character at the place, '\0' at the end (NUL itself never occurs: it is refused before). */
static inline char toml_peek(const struct toml_lex *l)
{
	return l->p < l->end ? *l->p : '\0';
}

/* INVALID_ARGUMENT with line and column of the place. */
int toml_fail(const struct toml_lex *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Refuses what no place of a document may have: bad UTF-8, control characters, a lone CR. */
int toml_check_text(struct toml_lex *l);

void toml_skip_blanks(struct toml_lex *l);
/* Blanks, comments and newlines. */
void toml_skip_lines(struct toml_lex *l);
/* Blanks and a comment, then a newline or the end. */
int toml_end_line(struct toml_lex *l);

/* malloc'ed. A string in one of the two quotes; multi-line ones where they are allowed. */
int toml_string(struct toml_lex *l, bool multi_line, char **ret);
/* One part of a key, bare or quoted. malloc'ed. */
int toml_key_part(struct toml_lex *l, char **ret);
/* Booleans, numbers, dates. */
int toml_scalar(struct toml_lex *l, struct json **ret);
