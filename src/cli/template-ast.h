#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* The parsed form of a template, between template-parse.c and template-exec.c. All of it lives in
 * the template's arena but the JSON literals, which `literals` holds. */

#include "base/arena.h"
#include "cli/template.h"

enum operand_kind {
	OPERAND_DOT,	  /* "." and what follows it */
	OPERAND_VARIABLE, /* "$x" */
	OPERAND_LITERAL,
	OPERAND_FUNCTION,
	OPERAND_PIPELINE, /* "( … )" */
};

struct field {
	const char *name;
	struct field *next;
};

struct operand {
	enum operand_kind kind;
	size_t offset; /* in the text, for messages */
	const char *source;
	const char *name; /* of a variable (without "$") or function */
	struct json *literal;
	struct pipeline *pipeline;
	struct field *fields; /* ".A.B" after it */
	struct operand *next;
};

/* One function call or value; its operands in order. */
struct call {
	struct operand *operands;
	struct call *next;
};

struct pipeline {
	const char *declare[2]; /* "$i, $v :="; NULL for none */
	bool assign;		/* "=" instead of ":=" */
	struct call *calls;
};

enum node_kind {
	NODE_TEXT,
	NODE_ACTION,
	NODE_IF,
	NODE_RANGE,
	NODE_WITH,
};

struct node {
	enum node_kind kind;
	const char *text;
	size_t text_len;
	struct pipeline *pipeline;
	struct node *body;
	struct node *otherwise;
	struct node *next;
};

struct template
{
	struct arena arena;
	struct json *literals; /* array that owns the operands' literals */
	struct node *nodes;
};

/* template-functions.c: an argument or result; missing is "absent", which a condition forgives. */
struct value {
	struct json *json; /* a reference */
	bool missing;
};

struct template_function {
	const char *name;
	size_t min_args;
	size_t max_args;
	/* Returns a new reference in *ret (NULL: null). */
	int (*call)(const struct value *args, size_t n, struct json **ret, struct error *err);
};

const struct template_function *template_function_find(const char *name, size_t len);
bool template_truth(const struct json *j);
/* As fmt.Print shows it. */
void template_print(const struct json *j, struct buf *out);
