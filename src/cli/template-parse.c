/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template-ast.h"

#include "base/mem.h"
#include "base/parse.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 50

struct parser {
	struct template *t;
	const char *text;
	const char *p;	 /* current */
	const char *end; /* of the action being parsed */
	unsigned depth;
	struct error *err;
};

enum keyword { KEY_NONE, KEY_IF, KEY_ELSE, KEY_END, KEY_RANGE, KEY_WITH };

static struct pipeline *parse_pipeline(struct parser *s);
static int parse_nodes(struct parser *s, struct node **ret, enum keyword *ret_stop);

static int fail(struct parser *s, const char *what)
{
	return error_set(s->err, ERROR_INVALID_ARGUMENT,
			 "template parsing error: template: :1: %s at offset %zu", what,
			 (size_t)(s->p - s->text));
}

static void skip_space(struct parser *s)
{
	while (s->p < s->end && isspace((unsigned char)*s->p))
		s->p++;
}

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static const char *take_name(struct parser *s)
{
	const char *start = s->p;

	while (s->p < s->end && is_name(*s->p))
		s->p++;
	return arena_strndup(&s->t->arena, start, (size_t)(s->p - start));
}

/* Keeps a literal alive as long as the template. */
static struct json *own(struct parser *s, struct json *j)
{
	json_add(s->t->literals, json_ref(j));
	return j;
}

/* The character after a backslash, as Go has it; -1 for one that it has not. */
static int unescape(char c)
{
	static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
	const char *at = c ? strchr(from, c) : NULL;

	return at ? to[at - from] : -1;
}

static struct json *take_quoted(struct parser *s, char quote)
{
	autobuf struct buf b = BUF_INIT(TEMPLATE_TEXT_MAX);
	struct json *j;

	for (s->p++; s->p < s->end && *s->p != quote; s->p++) {
		int c = *s->p;

		if (c == '\\' && quote != '`') {
			c = ++s->p < s->end ? unescape(*s->p) : -1;
			if (c < 0) {
				fail(s, "bad escape in string");
				return NULL;
			}
		}
		buf_putc(&b, (char)c);
	}
	if (s->p >= s->end) {
		fail(s, "unterminated quoted string");
		return NULL;
	}
	s->p++;
	j = own(s, json_new_string(b.data));
	json_unref(j);
	return j;
}

static struct json *take_number(struct parser *s)
{
	char text[64];
	size_t n = 0;
	int64_t i;
	double d;
	struct json *j;

	while (s->p < s->end && n + 1 < sizeof(text) && (is_name(*s->p) || strchr("+-.", *s->p)))
		text[n++] = *s->p++;
	text[n] = '\0';
	if (parse_int64(text, &i) == 0) {
		j = json_new_int(i);
	} else if (parse_double(text, &d) == 0) {
		j = json_new_double(d);
	} else {
		fail(s, "bad number");
		return NULL;
	}
	own(s, j);
	json_unref(j);
	return j;
}

static int parse_fields(struct parser *s, struct field **tail)
{
	while (s->p + 1 < s->end && s->p[0] == '.' && is_name(s->p[1])) {
		struct field *f = arena_new(&s->t->arena, struct field);

		s->p++;
		f->name = take_name(s);
		*tail = f;
		tail = &f->next;
	}
	return 0;
}

static int parse_word(struct parser *s, struct operand *o)
{
	const char *name = take_name(s);
	struct json *j = NULL;

	if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0)
		j = json_new_bool(*name == 't');
	if (j || strcmp(name, "nil") == 0) {
		o->kind = OPERAND_LITERAL;
		o->literal = j;
		if (j) {
			own(s, j);
			json_unref(j);
		}
		return 0;
	}
	o->kind = OPERAND_FUNCTION;
	o->name = name;
	if (!template_function_find(name, strlen(name)))
		return error_set(
			s->err, ERROR_INVALID_ARGUMENT,
			"template parsing error: template: :1: function \"%s\" not defined", name);
	return 0;
}

static int parse_parens(struct parser *s, struct operand *o)
{
	s->p++;
	o->kind = OPERAND_PIPELINE;
	o->pipeline = parse_pipeline(s);
	if (!o->pipeline)
		return -1;
	skip_space(s);
	if (s->p >= s->end || *s->p != ')')
		return fail(s, "unclosed left paren");
	s->p++;
	return 0;
}

static int parse_operand(struct parser *s, struct operand *o)
{
	const char *start = s->p;
	char c = *s->p;
	int r = 0;

	o->offset = (size_t)(s->p - s->text);
	if (c == '.' && s->p + 1 < s->end && isdigit((unsigned char)s->p[1])) {
		return fail(s, "unexpected number");
	} else if (c == '.') {
		o->kind = OPERAND_DOT;
		if (s->p + 1 >= s->end || !is_name(s->p[1]))
			s->p++;
	} else if (c == '$') {
		s->p++;
		o->kind = OPERAND_VARIABLE;
		o->name = take_name(s);
	} else if (c == '"' || c == '`') {
		o->kind = OPERAND_LITERAL;
		o->literal = take_quoted(s, c);
		r = o->literal ? 0 : -1;
	} else if (isdigit((unsigned char)c) || c == '-' || c == '+') {
		o->kind = OPERAND_LITERAL;
		o->literal = take_number(s);
		r = o->literal ? 0 : -1;
	} else if (c == '(') {
		r = parse_parens(s, o);
	} else if (is_name(c)) {
		r = parse_word(s, o);
	} else {
		return fail(s, "unexpected character in command");
	}
	if (r == 0 && o->kind != OPERAND_LITERAL && o->kind != OPERAND_FUNCTION)
		r = parse_fields(s, &o->fields);
	o->source = arena_strndup(&s->t->arena, start, (size_t)(s->p - start));
	return r;
}

static struct call *parse_call(struct parser *s)
{
	struct call *call = arena_new(&s->t->arena, struct call);
	struct operand **tail = &call->operands;

	for (;;) {
		struct operand *o;

		skip_space(s);
		if (s->p >= s->end || *s->p == '|' || *s->p == ')')
			break;
		o = arena_new(&s->t->arena, struct operand);
		if (parse_operand(s, o) < 0)
			return NULL;
		*tail = o;
		tail = &o->next;
	}
	if (!call->operands) {
		fail(s, "missing value for command");
		return NULL;
	}
	return call;
}

/* "$x :=", "$i, $v :=", "$x =": leaves s->p alone when there is none. */
static void parse_declaration(struct parser *s, struct pipeline *p)
{
	const char *start = s->p;
	const char *names[2] = { NULL, NULL };
	size_t n = 0;

	while (n < 2 && s->p < s->end && *s->p == '$') {
		s->p++;
		names[n++] = take_name(s);
		skip_space(s);
		if (s->p < s->end && *s->p == ',') {
			s->p++;
			skip_space(s);
		} else {
			break;
		}
	}
	if (n && s->end - s->p >= 2 && s->p[0] == ':' && s->p[1] == '=') {
		s->p += 2;
	} else if (n == 1 && s->p < s->end && s->p[0] == '=') {
		s->p++;
		p->assign = true;
	} else {
		s->p = start;
		return;
	}
	p->declare[0] = names[0];
	p->declare[1] = names[1];
}

static struct pipeline *parse_pipeline(struct parser *s)
{
	struct pipeline *p = arena_new(&s->t->arena, struct pipeline);
	struct call **tail = &p->calls;

	if (++s->depth > DEPTH_MAX) {
		fail(s, "nested too deep");
		return NULL;
	}
	skip_space(s);
	parse_declaration(s, p);
	for (;;) {
		struct call *call = parse_call(s);

		if (!call)
			return NULL;
		*tail = call;
		tail = &call->next;
		if (s->p >= s->end || *s->p != '|')
			break;
		s->p++;
	}
	s->depth--;
	return p;
}

/* The end of the action that begins at p (after "{{"), quotes respected; NULL: not closed. */
static const char *find_close(const char *p)
{
	char quote = 0;

	if (strncmp(p, "/*", 2) == 0) {
		p = strstr(p + 2, "*/");
		return p ? strstr(p, "}}") : NULL;
	}
	for (; *p; p++) {
		if (quote) {
			if (*p == '\\' && quote != '`' && p[1])
				p++;
			else if (*p == quote)
				quote = 0;
		} else if (*p == '"' || *p == '`') {
			quote = *p;
		} else if (p[0] == '}' && p[1] == '}') {
			return p;
		}
	}
	return NULL;
}

static enum keyword take_keyword(struct parser *s)
{
	static const struct {
		const char *name;
		enum keyword key;
	} keywords[] = { { "if", KEY_IF },
			 { "else", KEY_ELSE },
			 { "end", KEY_END },
			 { "range", KEY_RANGE },
			 { "with", KEY_WITH } };

	skip_space(s);
	for (size_t i = 0; i < ARRAY_SIZE(keywords); i++) {
		size_t n = strlen(keywords[i].name);

		if ((size_t)(s->end - s->p) >= n && strncmp(s->p, keywords[i].name, n) == 0 &&
		    (s->p + n == s->end || !is_name(s->p[n]))) {
			s->p += n;
			return keywords[i].key;
		}
	}
	return KEY_NONE;
}

/* Moves to the text after the current action; "-}}" trims it. */
static void leave_action(struct parser *s)
{
	const char *after = strstr(s->end, "}}") + 2;

	if (*s->end == '-')
		while (*after && isspace((unsigned char)*after))
			after++;
	s->p = after;
}

static int expect_action_end(struct parser *s)
{
	skip_space(s);
	if (s->p != s->end)
		return fail(s, "unexpected text in action");
	leave_action(s);
	return 0;
}

static int parse_block(struct parser *s, struct node *n);

/* What follows a block's body: {{end}}, {{else}}, {{else if …}}. */
static int parse_rest(struct parser *s, struct node *n, enum keyword stop)
{
	enum keyword then;

	if (stop == KEY_END)
		return expect_action_end(s);
	then = take_keyword(s);
	if (then == KEY_IF || then == KEY_WITH) {
		n->otherwise = arena_new(&s->t->arena, struct node);
		n->otherwise->kind = then == KEY_IF ? NODE_IF : NODE_WITH;
		return parse_block(s, n->otherwise);
	}
	if (expect_action_end(s) < 0 || parse_nodes(s, &n->otherwise, &stop) < 0)
		return -1;
	if (stop != KEY_END)
		return fail(s, "expected end");
	return expect_action_end(s);
}

/* After its keyword: the pipeline, the body, the rest. */
static int parse_block(struct parser *s, struct node *n)
{
	enum keyword stop;
	int r;

	if (++s->depth > DEPTH_MAX)
		return fail(s, "nested too deep");
	n->pipeline = parse_pipeline(s);
	if (!n->pipeline || expect_action_end(s) < 0)
		return -1;
	if (parse_nodes(s, &n->body, &stop) < 0)
		return -1;
	if (stop == KEY_NONE)
		return fail(s, "unexpected EOF");
	r = parse_rest(s, n, stop);
	s->depth--;
	return r;
}

/* s->p is after "{{". Returns 1 when the action closes the list that is being parsed. */
static int parse_action(struct parser *s, struct node *n, enum keyword *ret_stop)
{
	static const enum node_kind kinds[] = {
		[KEY_IF] = NODE_IF, [KEY_RANGE] = NODE_RANGE, [KEY_WITH] = NODE_WITH
	};
	enum keyword key;
	const char *close;

	if (s->p[0] == '-' && isspace((unsigned char)s->p[1]))
		s->p++;
	while (isspace((unsigned char)*s->p))
		s->p++;
	close = find_close(s->p);
	if (!close)
		return fail(s, "unclosed action");
	s->end = close;
	if (close - s->p >= 2 && close[-1] == '-' && isspace((unsigned char)close[-2]))
		s->end = close - 1;
	if (strncmp(s->p, "/*", 2) == 0) {
		leave_action(s);
		n->kind = NODE_TEXT;
		return 0;
	}
	key = take_keyword(s);
	if (key == KEY_END || key == KEY_ELSE) {
		*ret_stop = key;
		return 1;
	}
	if (key != KEY_NONE) {
		n->kind = kinds[key];
		return parse_block(s, n);
	}
	n->kind = NODE_ACTION;
	n->pipeline = parse_pipeline(s);
	return n->pipeline ? expect_action_end(s) : -1;
}

static int parse_nodes(struct parser *s, struct node **tail, enum keyword *ret_stop)
{
	*ret_stop = KEY_NONE;
	while (*s->p) {
		struct node *n = arena_new(&s->t->arena, struct node);
		const char *open = strstr(s->p, "{{");
		size_t len = open ? (size_t)(open - s->p) : strlen(s->p);
		int r;

		n->kind = NODE_TEXT;
		n->text = s->p;
		n->text_len = len;
		if (open && open[2] == '-' && isspace((unsigned char)open[3]))
			while (n->text_len && isspace((unsigned char)n->text[n->text_len - 1]))
				n->text_len--;
		n->text = arena_strndup(&s->t->arena, n->text, n->text_len);
		*tail = n;
		tail = &n->next;
		s->p += len;
		if (!open)
			return 0;
		s->p += 2;
		n = arena_new(&s->t->arena, struct node);
		r = parse_action(s, n, ret_stop);
		if (r < 0)
			return -1;
		if (r == 1)
			return 0;
		*tail = n;
		tail = &n->next;
	}
	return 0;
}

struct template *template_parse(const char *text, struct error *err)
{
	struct template *t = xnew(struct template);
	struct parser s = { .t = t, .text = text, .p = text, .err = err };
	enum keyword stop;

	t->literals = json_new_array();
	if (strlen(text) > TEMPLATE_TEXT_MAX) {
		error_set(err, ERROR_INVALID_ARGUMENT, "template too long");
	} else if (parse_nodes(&s, &t->nodes, &stop) == 0) {
		if (stop == KEY_NONE)
			return t;
		fail(&s, stop == KEY_END ? "unexpected {{end}}" : "unexpected {{else}}");
	}
	template_free(t);
	return NULL;
}

void template_free(struct template *t)
{
	json_unref(t->literals);
	arena_done(&t->arena);
	free(t);
}
