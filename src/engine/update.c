/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/restart.h"
#include "engine/sandbox-internal.h"
#include "engine/spec-internal.h"

static void merge_hugepages(struct resources *dst, const struct hugepage_limit *limit)
{
	for (size_t i = 0; i < dst->hugepages.n; i++) {
		if (str_equal(dst->hugepages.v[i].page_size, limit->page_size)) {
			dst->hugepages.v[i].limit = limit->limit;
			return;
		}
	}
	GROW_ARRAY(dst->hugepages.v, dst->hugepages.n);
	dst->hugepages.v[dst->hugepages.n++] = (struct hugepage_limit){
		.page_size = xstrdup(limit->page_size),
		.limit = limit->limit,
	};
}

/* Only what is set replaces. */
static void merge(struct resources *dst, const struct resources *src)
{
#define TAKE(field)                              \
	do {                                     \
		if (src->field)                  \
			dst->field = src->field; \
	} while (0)
	TAKE(memory);
	TAKE(memory_reservation);
	TAKE(memory_swap);
	if (src->memory_swappiness > 0)
		dst->memory_swappiness = src->memory_swappiness;
	TAKE(nano_cpus);
	TAKE(cpu_shares);
	TAKE(cpu_period);
	TAKE(cpu_quota);
	TAKE(cpu_rt_period);
	TAKE(cpu_rt_runtime);
	TAKE(pids_limit);
	TAKE(blkio_weight);
#undef TAKE
	for (size_t i = 0; i < src->hugepages.n; i++)
		merge_hugepages(dst, &src->hugepages.v[i]);
	for (size_t i = 0; i < src->unified.n; i++)
		kvs_set(&dst->unified, src->unified.v[i].key, src->unified.v[i].value);
	if (!str_empty(src->cpuset_cpus))
		str_replace(&dst->cpuset_cpus, src->cpuset_cpus);
	if (!str_empty(src->cpuset_mems))
		str_replace(&dst->cpuset_mems, src->cpuset_mems);
}

static int check(const struct container *c, const struct container_config *k, struct error *err)
{
	enum restart_policy policy;

	if (!restart_policy_parse(k->restart_policy, &policy))
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"invalid restart policy: unknown policy '%s'; use one of 'no', 'always', "
			"'on-failure', or 'unless-stopped'",
			k->restart_policy);
	if (k->auto_remove && policy != RESTART_NO)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"Restart policy cannot be updated because AutoRemove is enabled for "
			"the container");
	if (c->s.status == CONTAINER_REMOVING || c->s.status == CONTAINER_DEAD)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "container is marked for removal and cannot be \"update\"");
	return container_in_pod(c) ? 0 : container_config_validate(k, err);
}

/* cgroup v2 would kill what does not fit any more. */
static int check_usage(struct container *c, const struct container_config *k, struct task *t,
		       struct error *err)
{
	struct task_stats stats;

	if (!container_in_pod(c) || k->resources.memory <= 0 ||
	    k->resources.memory == c->config.resources.memory || task_stats(t, &stats, NULL) < 0 ||
	    stats.memory_usage <= (uint64_t)k->resources.memory)
		return 0;
	return error_set(err, ERROR_FAILED_PRECONDITION,
			 "memory limit %lld is less than the %llu bytes in use",
			 (long long)k->resources.memory, (unsigned long long)stats.memory_usage);
}

static int apply(struct container *c, const struct container_config *k, struct error *err)
{
	const struct spec_inputs in = { .config = k, .cgroup_v2 = c->e->cgroup_v2 };
	autojson struct json *resources = json_new_object();

	if (c->s.status != CONTAINER_RUNNING && c->s.status != CONTAINER_PAUSED)
		return 0;
	CLEANUP(task_unrefp) struct task *t = container_task(c, err);
	if (!t || check_usage(c, k, t, err) < 0)
		return -1;
	spec_resources(&in, resources);
	return task_update(t, resources, err);
}

static void swap_config(struct container *c, struct container_config *k)
{
	pthread_mutex_lock(&c->e->lock);
	struct container_config old = c->config;
	c->config = *k;
	*k = old;
	container_config_changed(c);
	pthread_mutex_unlock(&c->e->lock);
}

int engine_update(struct engine *e, const char *ns, const char *id, const struct resources *r,
		  const char *restart_policy, int64_t max_retries, struct error *err)
{
	CLEANUP(container_releasep) struct container *c = container_acquire(e, ns, id, err);
	CLEANUP(container_config_done) struct container_config k = { 0 };

	if (!c)
		return -1;
	container_config_copy(&k, &c->config);
	if (r)
		merge(&k.resources, r);
	if (!str_empty(restart_policy)) {
		str_replace(&k.restart_policy, restart_policy);
		k.restart_max_retries = max_retries;
	}
	if (check(c, &k, err) < 0)
		return -1;
	if (r && apply(c, &k, err) < 0)
		return error_wrap(err, "Cannot update container %s", c->id);
	swap_config(c, &k);
	if (container_record_write(c, /* create */ false, err) < 0) {
		swap_config(c, &k);
		return -1;
	}
	container_emit(c, "update", NULL, NULL);
	return 0;
}
