/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/container.h"

#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>

struct shim shim;

static void process_init(struct process *p, struct container *c, const char *exec_id)
{
	*p = (struct process){
		.container = c,
		.exec_id = xstrdup(exec_id),
		.pidfd = -1,
		.console_dir = -1,
		.console_master = -1,
	};
	list_init(&p->node);
	list_init(&p->waiters);
}

struct container *container_new(const char *id, const char *bundle)
{
	struct container *c = xnew(struct container);

	c->id = xstrdup(id);
	c->bundle = xstrdup(bundle);
	list_init(&c->execs);
	list_init(&c->operations);
	process_init(&c->init, c, NULL);
	map_set(&shim.containers, id, c);
	return c;
}

void container_free(struct container *c)
{
	assert(!c->current && list_is_empty(&c->operations));
	map_remove(&shim.containers, c->id);
	LIST_FOREACH (p, &c->execs, struct process, node)
		exec_free(p);
	process_done(&c->init);
	loop_timer_cancel(c->exec_grace);
	watch_free(c->oom);
	cgroup_free(c->cgroup);
	runtime_done(&c->runtime);
	free(c->bundle);
	free(c->id);
	free(c);
}

struct container *container_find(const char *id, struct error *err)
{
	struct container *c = map_get(&shim.containers, id);

	if (!c)
		error_set(err, ERROR_NOT_FOUND, "container '%s': not found", id);
	return c;
}

struct process *container_process(struct container *c, const char *exec_id, struct error *err)
{
	if (str_empty(exec_id))
		return &c->init;
	LIST_FOREACH (p, &c->execs, struct process, node)
		if (str_equal(p->exec_id, exec_id))
			return p;
	error_set(err, ERROR_NOT_FOUND, "process '%s' of container '%s': not found", exec_id,
		  c->id);
	return NULL;
}

struct process *exec_new(struct container *c, const char *exec_id)
{
	struct process *p = xnew(struct process);

	process_init(p, c, exec_id);
	list_append(&c->execs, &p->node);
	return p;
}

void exec_free(struct process *p)
{
	list_remove(&p->node);
	process_done(p);
	free(p);
}

const char *process_id(const struct process *p)
{
	return p->exec_id ? p->exec_id : p->container->id;
}

/* Operations */

static struct operation *operation_new(struct container *c, struct process *p,
				       void (*run)(struct operation *op), struct ttrpc_call *call,
				       const void *request, const char *verb)
{
	struct operation *op = xnew(struct operation);

	*op = (struct operation){
		.container = c,
		.process = p,
		.run = run,
		.call = call,
		.request = request,
		.verb = verb,
	};
	list_init(&op->node);
	return op;
}

static void run_next(struct container *c)
{
	if (c->current || list_is_empty(&c->operations))
		return;
	struct operation *op = LIST_ENTRY(c->operations.next, struct operation, node);

	list_remove(&op->node);
	c->current = op;
	op->run(op);
}

void operation_queue(struct container *c, struct process *p, void (*run)(struct operation *op),
		     struct ttrpc_call *call, const void *request, const char *verb)
{
	struct operation *op = operation_new(c, p, run, call, request, verb);

	list_append(&c->operations, &op->node);
	run_next(c);
}

void operation_start(struct container *c, struct process *p, void (*run)(struct operation *op),
		     struct ttrpc_call *call, const void *request, const char *verb)
{
	struct operation *op = operation_new(c, p, run, call, request, verb);

	op->run(op);
}

static void operation_end(struct operation *op)
{
	struct container *c = op->container;
	bool queued = c->current == op;

	error_done(&op->failure);
	free(op->log);
	free(op);
	if (!queued) {
		if (c->current && c->current->blocked) {
			c->current->blocked = false;
			c->current->run(c->current);
		}
		return;
	}
	c->current = NULL;
	if (c->removed) {
		autoerror struct error err = ERROR_INIT;

		error_set(&err, ERROR_NOT_FOUND, "container '%s': not found", c->id);
		while (!list_is_empty(&c->operations)) {
			struct operation *late =
				LIST_ENTRY(c->operations.next, struct operation, node);

			list_remove(&late->node);
			ttrpc_call_fail(late->call, &err);
			free(late);
		}
		container_free(c);
		if (shim.containers.n == 0)
			shim_is_idle();
		return;
	}
	run_next(c);
}

void operation_reply(struct operation *op, const ProtobufCMessage *reply)
{
	if (op->call)
		ttrpc_call_reply(op->call, reply);
	operation_end(op);
}

void operation_fail(struct operation *op, const struct error *err)
{
	if (op->call)
		ttrpc_call_fail(op->call, err);
	operation_end(op);
}

void operation_runtime(struct operation *op, const struct strv *args,
		       void (*done)(const struct error *err, void *op))
{
	struct container *c = op->container;
	autoerror struct error err = ERROR_INIT;
	autofree char *log = op->log ? xstrdup(op->log) : path_join(c->bundle, "log.json", NULL);
	struct process_fd fds[3];
	struct runtime_call call = {
		.verb = op->verb,
		.args = args,
		.bundle = c->bundle,
		.log = log,
	};

	/* Only what makes a process has its streams. */
	if (op->process && op->process->busy && op->process->io) {
		call.fds = fds;
		call.n_fds = streams_child_fds(op->process->io, fds);
	}
	if (runtime_run(&c->runtime, &call, done, op, &err) < 0)
		done(&err, op);
}
