/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar is ambiguous at first sight: after a comma there may come another parameter of the
 * same challenge or the scheme of the next one. What tells them apart is the "=" behind the token.
 */
#include "worker/challenge.h"

#include "base/buf.h"
#include "base/mem.h"

#include <string.h>

static bool is_token_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

static const char *skip_separators(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == ',')
		p++;
	return p;
}

/* A token in lower case, NULL when there is none. */
static char *take_token(const char **p)
{
	const char *start = *p;
	char *token;

	while (is_token_char(**p))
		(*p)++;
	if (*p == start)
		return NULL;
	token = xstrndup(start, (size_t)(*p - start));
	for (char *c = token; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	return token;
}

static char *take_quoted(const char **p)
{
	autobuf struct buf b = BUF_INIT(CHALLENGE_HEADER_MAX);
	const char *s = *p + 1;

	for (; *s != '"'; s++) {
		if (*s == '\\')
			s++;
		if (!*s || ((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return NULL;
		buf_putc(&b, *s);
	}
	*p = s + 1;
	return buf_steal(&b, NULL);
}

/* Some registries leave the quotes out around URLs, so this takes more than a token. */
static char *take_value(const char **p)
{
	const char *start = *p;

	if (**p == '"')
		return take_quoted(p);
	while ((unsigned char)**p > ' ' && **p != ',' && **p != '"' && **p != 0x7f)
		(*p)++;
	return xstrndup(start, (size_t)(*p - start));
}

/* "key = value" at p: 1 taken, 0 not a parameter, -EINVAL. */
static int take_param(const char **p, struct challenge *c)
{
	const char *s = *p;
	autofree char *key = take_token(&s);
	autofree char *value = NULL;

	if (!key)
		return -EINVAL;
	s = skip_space(s);
	if (*s != '=')
		return 0;
	s = skip_space(s + 1);
	value = take_value(&s);
	if (!value)
		return -EINVAL;
	if (c->params.n >= CHALLENGE_PARAMS_MAX)
		return -EINVAL;
	if (!kvs_get(&c->params, key))
		kvs_set(&c->params, key, value);
	*p = s;
	return 1;
}

/* Base64 credentials as of "Negotiate abc==": skipped, nobody here wants them. */
static const char *skip_token68(const char *p)
{
	const char *s = p;

	while (is_token_char(*s) || *s == '/')
		s++;
	if (s == p)
		return p;
	while (*s == '=')
		s++;
	s = skip_space(s);
	return !*s || *s == ',' ? s : p;
}

static int take_challenge(const char **p, struct challenges *c)
{
	autofree char *scheme = take_token(p);
	struct challenge *ch;

	if (!scheme || c->n >= CHALLENGES_MAX)
		return -EINVAL;
	if (**p && **p != ' ' && **p != '\t' && **p != ',')
		return -EINVAL;
	ch = &c->v[c->n++];
	*ch = (struct challenge){ .scheme = TAKE_PTR(scheme) };
	*p = skip_token68(skip_space(*p));
	for (;;) {
		int r;

		*p = skip_separators(*p);
		if (!**p)
			return 0;
		r = take_param(p, ch);
		if (r <= 0)
			return r;
	}
}

int challenges_parse(struct challenges *c, const char *value)
{
	const char *p = skip_separators(value);

	if (strlen(value) > CHALLENGE_HEADER_MAX)
		return -EINVAL;
	while (*p) {
		int r = take_challenge(&p, c);

		if (r < 0)
			return r;
		p = skip_separators(p);
	}
	return 0;
}

const struct challenge *challenges_find(const struct challenges *c, const char *scheme)
{
	for (size_t i = 0; i < c->n; i++)
		if (str_equal(c->v[i].scheme, scheme))
			return &c->v[i];
	return NULL;
}

void challenges_done(struct challenges *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].scheme);
		kvs_done(&c->v[i].params);
	}
	*c = CHALLENGES_INIT;
}
