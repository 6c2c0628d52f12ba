/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template-ast.h"

#include "base/mem.h"

#include <string.h>
#include <strings.h>

#define ARGS_MAX 32
#define STEPS_MAX (1024 * 1024)

struct variable {
	const char *name;
	struct json *value; /* a reference */
	struct variable *outer;
};

struct exec {
	const struct json *extra;
	struct variable *variables;
	struct buf *out;
	unsigned lenient; /* inside a condition: absent fields are nil */
	bool header;	  /* the data are column headers: functions leave them alone */
	size_t steps;
	struct error *err;
};

static int eval_pipeline(struct exec *x, const struct pipeline *p, const struct json *dot,
			 struct value *ret);
static int run_nodes(struct exec *x, const struct node *n, const struct json *dot);

static void value_done(struct value *v)
{
	if (v->json)
		json_unref(v->json);
	v->json = NULL;
}
#define autovalue CLEANUP(value_done)

static int fail(struct exec *x, const struct operand *o, const char *what, const char *name)
{
	return error_set(
		x->err, ERROR_INVALID_ARGUMENT,
		"template parsing error: template: :1:%zu: executing \"\" at <%s>: %s%s%s%s",
		o->offset, o->source, what, name ? " \"" : "", name ? name : "", name ? "\"" : "");
}

struct lookup {
	const char *name;
	struct json *found;
};

static int match_ignoring_case(const char *key, struct json *value, void *arg)
{
	struct lookup *l = arg;

	if (strcasecmp(key, l->name) != 0)
		return 0;
	l->found = value;
	return 1;
}

static int match_exactly(const char *key, struct json *value, void *arg)
{
	struct lookup *l = arg;

	if (strcmp(key, l->name) != 0)
		return 0;
	l->found = value;
	return 1;
}

static bool find_member(const struct json *obj, const char *name, struct json **ret)
{
	struct lookup l = { .name = name };

	if (json_type(obj) != JSON_OBJECT)
		return false;
	if (!json_object_each(obj, match_exactly, &l) &&
	    !json_object_each(obj, match_ignoring_case, &l))
		return false;
	*ret = l.found;
	return true;
}

/* Follows ".A.B" from v, in place. */
static int follow(struct exec *x, const struct operand *o, bool at_root, struct value *v)
{
	for (const struct field *f = o->fields; f; f = f->next) {
		struct json *member = NULL;
		bool found = !v->missing && find_member(v->json, f->name, &member);

		if (!found && f == o->fields && at_root)
			found = find_member(x->extra, f->name, &member);
		if (!found && !x->lenient) {
			if (v->json && json_type(v->json) != JSON_OBJECT)
				return fail(x, o, "can't evaluate field", f->name);
			return fail(x, o, "map has no entry for key", f->name);
		}
		member = member ? json_ref(member) : NULL;
		value_done(v);
		*v = (struct value){ .json = member, .missing = !found };
	}
	return 0;
}

static struct json *ref(const struct json *j)
{
	return j ? json_ref((struct json *)j) : NULL;
}

static int eval_operand(struct exec *x, const struct operand *o, const struct json *dot,
			struct value *ret)
{
	*ret = (struct value){ 0 };
	switch (o->kind) {
	case OPERAND_DOT:
		ret->json = ref(dot);
		return follow(x, o, /* at_root= */ true, ret);
	case OPERAND_LITERAL:
		ret->json = ref(o->literal);
		return 0;
	case OPERAND_PIPELINE:
		if (eval_pipeline(x, o->pipeline, dot, ret) < 0)
			return -1;
		return follow(x, o, /* at_root= */ false, ret);
	case OPERAND_VARIABLE:
		for (struct variable *v = x->variables; v; v = v->outer) {
			if (strcmp(v->name, o->name) != 0)
				continue;
			ret->json = ref(v->value);
			return follow(x, o, /* at_root= */ !*o->name, ret);
		}
		return fail(x, o, "undefined variable", o->name);
	default:
		return fail(x, o, "function must come first", NULL);
	}
}

struct args {
	struct value v[ARGS_MAX];
};

static void args_done(struct args *args)
{
	for (size_t i = 0; i < ARGS_MAX; i++)
		value_done(&args->v[i]);
}

static int call_function(struct exec *x, const struct operand *head, const struct value *args,
			 size_t n, struct value *ret)
{
	const struct template_function *f = template_function_find(head->name, strlen(head->name));
	autoerror struct error why = ERROR_INIT;

	*ret = (struct value){ 0 };
	if (n < f->min_args || n > f->max_args)
		return fail(x, head, "wrong number of args for", head->name);
	if (x->header && n && strcmp(head->name, "printf") != 0 && json_string(args[0].json)) {
		ret->json = json_ref(args[0].json);
		return 0;
	}
	if (f->call(args, n, &ret->json, &why) < 0)
		return fail(x, head, error_msg(&why), NULL);
	return 0;
}

/* A field with arguments, like Docker's method ".Label "key"": the object's member of that name. */
static int call_method(struct exec *x, const struct operand *head, const struct value *args,
		       size_t n, struct value *ret)
{
	struct json *member = NULL;
	const char *key = n == 2 ? json_string(args[1].json) : NULL;

	if (!key || json_type(args[0].json) != JSON_OBJECT)
		return fail(x, head, "can't give argument to non-function", head->source);
	member = json_get(args[0].json, key);
	*ret = (struct value){ .json = member ? json_ref(member) : json_new_string("") };
	return 0;
}

static bool is_lenient_function(const struct operand *o)
{
	return o->kind == OPERAND_FUNCTION &&
	       (strcmp(o->name, "and") == 0 || strcmp(o->name, "or") == 0 ||
		strcmp(o->name, "not") == 0);
}

/* piped: the value of the call before, which becomes the last argument; NULL for the first call. */
static int eval_call(struct exec *x, const struct call *c, const struct json *dot,
		     const struct value *piped, struct value *ret)
{
	CLEANUP(args_done) struct args list = { 0 };
	struct value *args = list.v;
	const struct operand *head = c->operands;
	bool function = head->kind == OPERAND_FUNCTION;
	bool lenient = is_lenient_function(head);
	size_t n = 0;

	x->lenient += lenient;
	for (const struct operand *o = function ? head->next : head; o; o = o->next) {
		if (n + 1 >= ARGS_MAX)
			return fail(x, head, "too many arguments", NULL);
		if (o != head && o->kind == OPERAND_FUNCTION) {
			if (call_function(x, o, NULL, 0, &args[n++]) < 0)
				return -1;
		} else if (eval_operand(x, o, dot, &args[n++]) < 0) {
			return -1;
		}
	}
	x->lenient -= lenient;
	if (piped) {
		args[n].json = ref(piped->json);
		args[n++].missing = piped->missing;
	}
	if (function)
		return call_function(x, head, args, n, ret);
	if (n > 1)
		return call_method(x, head, args, n, ret);
	*ret = args[0];
	args[0].json = NULL;
	return 0;
}

static void declare(struct exec *x, const char *name, const struct json *value)
{
	struct variable *v = xnew(struct variable);

	*v = (struct variable){ .name = name, .value = ref(value), .outer = x->variables };
	x->variables = v;
}

static void forget(struct exec *x, struct variable *until)
{
	while (x->variables != until) {
		struct variable *v = x->variables;

		x->variables = v->outer;
		if (v->value)
			json_unref(v->value);
		free(v);
	}
}

static void assign(struct exec *x, const struct pipeline *p, const struct json *value)
{
	for (struct variable *v = x->variables; v && p->assign; v = v->outer) {
		if (strcmp(v->name, p->declare[0]) == 0) {
			struct json *old = v->value;

			v->value = ref(value);
			if (old)
				json_unref(old);
			return;
		}
	}
	declare(x, p->declare[0], value);
}

static int eval_pipeline(struct exec *x, const struct pipeline *p, const struct json *dot,
			 struct value *ret)
{
	autovalue struct value v = { 0 };

	if (++x->steps > STEPS_MAX)
		return error_set(x->err, ERROR_RESOURCE_EXHAUSTED, "template runs too long");
	for (const struct call *c = p->calls; c; c = c->next) {
		struct value next;

		if (eval_call(x, c, dot, c == p->calls ? NULL : &v, &next) < 0)
			return -1;
		value_done(&v);
		v = next;
	}
	*ret = v;
	v.json = NULL;
	return 0;
}

static int run_item(struct exec *x, const struct node *n, struct json *key, struct json *item)
{
	struct variable *scope = x->variables;
	const char *const *names = n->pipeline->declare;
	int r;

	if (++x->steps > STEPS_MAX)
		return error_set(x->err, ERROR_RESOURCE_EXHAUSTED, "template runs too long");
	if (names[1])
		declare(x, names[0], key);
	if (names[0])
		declare(x, names[1] ? names[1] : names[0], item);
	r = run_nodes(x, n->body, item);
	forget(x, scope);
	return r;
}

static int collect_key(const char *key, struct json *value, void *arg)
{
	strv_push(arg, key);
	return 0;
}

static int run_range(struct exec *x, const struct node *n, const struct json *over,
		     const struct json *dot)
{
	autostrv struct strv keys = STRV_INIT;

	if (json_type(over) == JSON_ARRAY && json_array_len(over)) {
		for (size_t i = 0; i < json_array_len(over); i++) {
			autojson struct json *index = json_new_int((int64_t)i);

			if (run_item(x, n, index, json_array_get(over, i)) < 0)
				return -1;
		}
		return 0;
	}
	if (json_type(over) != JSON_OBJECT || !json_object_len(over))
		return run_nodes(x, n->otherwise, dot);
	json_object_each(over, collect_key, &keys);
	strv_sort(&keys);
	for (size_t i = 0; i < keys.n; i++) {
		autojson struct json *key = json_new_string(keys.v[i]);

		if (run_item(x, n, key, json_get(over, keys.v[i])) < 0)
			return -1;
	}
	return 0;
}

static int run_block(struct exec *x, const struct node *n, const struct json *dot)
{
	struct variable *scope = x->variables;
	autovalue struct value v = { 0 };
	int r;

	x->lenient++;
	if (eval_pipeline(x, n->pipeline, dot, &v) < 0)
		return -1;
	x->lenient--;
	if (n->kind == NODE_RANGE)
		return run_range(x, n, v.json, dot);
	if (n->pipeline->declare[0])
		assign(x, n->pipeline, v.json);
	if (!template_truth(v.json))
		r = run_nodes(x, n->otherwise, dot);
	else
		r = run_nodes(x, n->body, n->kind == NODE_WITH ? v.json : dot);
	forget(x, scope);
	return r;
}

static int run_nodes(struct exec *x, const struct node *n, const struct json *dot)
{
	for (; n; n = n->next) {
		if (n->kind == NODE_TEXT) {
			buf_append(x->out, n->text ? n->text : "", n->text_len);
		} else if (n->kind == NODE_ACTION) {
			autovalue struct value v = { 0 };

			if (eval_pipeline(x, n->pipeline, dot, &v) < 0)
				return -1;
			if (n->pipeline->declare[0])
				assign(x, n->pipeline, v.json);
			else
				template_print(v.json, x->out);
		} else if (run_block(x, n, dot) < 0) {
			return -1;
		}
	}
	if (x->out->overflow)
		return error_set(x->err, ERROR_RESOURCE_EXHAUSTED, "template output too large");
	return 0;
}

static int execute(const struct template *t, struct exec *x, const struct json *data)
{
	int r;

	declare(x, "", data);
	r = run_nodes(x, t->nodes, data);
	forget(x, NULL);
	return r;
}

int template_execute(const struct template *t, const struct json *data, const struct json *extra,
		     struct buf *out, struct error *err)
{
	struct exec x = { .extra = extra, .out = out, .err = err };

	return execute(t, &x, data);
}

int template_execute_header(const struct template *t, const struct json *headers, struct buf *out,
			    struct error *err)
{
	struct exec x = { .extra = headers, .out = out, .header = true, .err = err };

	return execute(t, &x, headers);
}
