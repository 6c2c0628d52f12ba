/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's stats: each sample carries the one before, from which clients compute the CPU share. A
 * sample is a job; between samples a timer runs and no thread is held.
 */

#include "api/docker/internal.h"
#include "base/mem.h"

#include <string.h>

#define INTERVAL_MS 1000

struct sampling {
	struct http_request *request;
	struct engine *engine;
	char *ns, *id, *name;
	struct container_stats current, previous;
	struct error error;
	struct loop_timer *timer;
	bool has_previous, stream, gone, busy;
};

static struct json *cpu_document(const struct container_stats *s)
{
	struct json *j = json_new_object();
	struct json *usage = json_new_object();
	struct json *throttling = json_new_object();

	json_set_uint(usage, "total_usage", s->cpu_total);
	json_set_uint(usage, "usage_in_kernelmode", s->cpu_system);
	json_set_uint(usage, "usage_in_usermode", s->cpu_user);
	json_set(j, "cpu_usage", usage);
	if (s->system_cpu)
		json_set_uint(j, "system_cpu_usage", s->system_cpu);
	if (s->online_cpus)
		json_set_uint(j, "online_cpus", s->online_cpus);
	json_set_uint(throttling, "periods", s->throttling_periods);
	json_set_uint(throttling, "throttled_periods", s->throttled_periods);
	json_set_uint(throttling, "throttled_time", s->throttled_time);
	json_set(j, "throttling_data", throttling);
	return j;
}

static struct json *memory_document(const struct container_stats *s)
{
	struct json *j = json_new_object();
	struct json *detail = json_new_object();

	if (s->memory_usage == 0 && s->memory_limit == 0)
		return (json_unref(detail), j);
	/* Clients tell v1 from v2 by the keys. */
	for (size_t i = 0; i < s->n_memory_detail; i++)
		json_set_uint(detail, s->memory_detail[i].name, s->memory_detail[i].value);
	if (s->n_memory_detail == 0) {
		json_set_uint(detail, "inactive_file", s->memory_inactive_file);
		json_set_uint(detail, "total_inactive_file", s->memory_inactive_file);
		json_set_uint(detail, "cache", s->memory_cache);
		json_set_uint(detail, "rss", s->memory_rss);
	}
	json_set_uint(j, "usage", s->memory_usage);
	if (s->memory_max)
		json_set_uint(j, "max_usage", s->memory_max);
	json_set(j, "stats", detail);
	json_set_uint(j, "limit", s->memory_limit);
	return j;
}

static void add_io(struct json *list, const char *op, uint64_t value)
{
	struct json *j = json_new_object();

	json_set_int(j, "major", 0);
	json_set_int(j, "minor", 0);
	json_set_string(j, "op", op);
	json_set_uint(j, "value", value);
	json_add(list, j);
}

static struct json *io_document(const struct container_stats *s)
{
	static const char *const empty[] = { "io_serviced_recursive",	  "io_queue_recursive",
					     "io_service_time_recursive", "io_wait_time_recursive",
					     "io_merged_recursive",	  "io_time_recursive",
					     "sectors_recursive" };
	struct json *j = json_new_object();
	struct json *list = json_new_array();

	add_io(list, "read", s->io_read);
	add_io(list, "write", s->io_write);
	json_set(j, "io_service_bytes_recursive", list);
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++)
		json_set(j, empty[i], NULL);
	return j;
}

static struct json *network_document(const struct container_stats *s)
{
	struct json *all = json_new_object();
	struct json *j = json_new_object();

	json_set_uint(j, "rx_bytes", s->net_rx_bytes);
	json_set_uint(j, "rx_packets", s->net_rx_packets);
	json_set_uint(j, "rx_errors", s->net_rx_errors);
	json_set_uint(j, "rx_dropped", s->net_rx_dropped);
	json_set_uint(j, "tx_bytes", s->net_tx_bytes);
	json_set_uint(j, "tx_packets", s->net_tx_packets);
	json_set_uint(j, "tx_errors", s->net_tx_errors);
	json_set_uint(j, "tx_dropped", s->net_tx_dropped);
	json_set(all, "eth0", j);
	return all;
}

static struct json *sample_document(const struct sampling *s)
{
	const struct container_stats *now = &s->current;
	struct json *j = json_new_object();
	struct json *pids = json_new_object();
	autofree char *name = xasprintf("/%s", s->name);

	json_set_string(j, "id", s->id);
	json_set_string(j, "name", name);
	json_set_time(j, "read", now->read_at);
	json_set_time(j, "preread", s->has_previous ? s->previous.read_at : 0);
	if (now->pids)
		json_set_uint(pids, "current", now->pids);
	if (now->pids_limit)
		json_set_uint(pids, "limit", now->pids_limit);
	json_set(j, "pids_stats", pids);
	json_set(j, "blkio_stats", io_document(now));
	json_set_int(j, "num_procs", 0);
	json_set(j, "storage_stats", json_new_object());
	json_set(j, "cpu_stats", cpu_document(now));
	json_set(j, "precpu_stats", cpu_document(&s->previous));
	json_set(j, "memory_stats", memory_document(now));
	if (now->has_network)
		json_set(j, "networks", network_document(now));
	return j;
}

static void sampling_free(struct sampling *s)
{
	loop_timer_cancel(s->timer);
	http_request_unref(s->request);
	error_done(&s->error);
	free(s->ns);
	free(s->id);
	free(s->name);
	free(s);
}

static void take_sample(void *arg)
{
	struct sampling *s = arg;

	error_done(&s->error);
	s->current = (struct container_stats){ 0 };
	/* A stopped container has empty figures, as Docker shows them. */
	if (engine_stats(s->engine, s->ns, s->id, &s->current, &s->error) < 0)
		s->current.read_at = time_realtime();
}

static void on_sample(void *arg);

static void on_timer(void *arg)
{
	struct sampling *s = arg;

	s->timer = NULL;
	s->busy = true;
	job_submit(engine_jobs(s->engine), JOB_OPS, take_sample, on_sample, s);
}

static void again(struct sampling *s)
{
	s->previous = s->current;
	s->has_previous = true;
	s->timer = loop_timer_start(engine_loop(s->engine), INTERVAL_MS, on_timer, s);
}

static void sampling_end(struct sampling *s)
{
	http_stream_end(s->request);
	sampling_free(s);
}

static void on_sample(void *arg)
{
	struct sampling *s = arg;
	bool lost = error_is(&s->error, ERROR_NOT_FOUND);
	bool send = s->stream || s->has_previous || s->error.code;

	s->busy = false;
	if (s->gone || lost) {
		sampling_end(s);
		return;
	}
	if (send) {
		autojson struct json *j = sample_document(s);
		autofree char *text = json_format(j, false);
		autofree char *line = xasprintf("%s\n", text);

		/* A client that reads slower than one sample a second is not worth the memory. */
		if (http_stream_write(s->request, line, strlen(line)) != 0 || !s->stream) {
			sampling_end(s);
			return;
		}
	}
	again(s);
}

static void on_gone(void *arg)
{
	struct sampling *s = arg;

	s->gone = true;
	if (!s->busy)
		sampling_end(s);
}

static void sampling_start(void *arg)
{
	struct sampling *s = arg;

	http_on_disconnect(s->request, on_gone, s);
	on_timer(s);
}

HANDLER(container_stats)
{
	CLEANUP(container_view_freep) struct container_view *v = NULL;
	struct sampling *s;

	if (engine_inspect(api_engine(r), api_ns(r), http_param(r, "id"), &v, err) < 0)
		return -1;
	s = xnew(struct sampling);
	s->request = http_request_ref(r);
	s->engine = api_engine(r);
	s->ns = xstrdup(api_ns(r));
	s->id = xstrdup(v->id);
	s->name = xstrdup(v->name);
	s->stream = http_query_bool(r, "stream", true);
	/* one-shot: do not wait a second for a sample to compare with. */
	s->has_previous = !s->stream && http_query_bool(r, "one-shot", false);
	http_stream_start(r, 200, "application/json");
	loop_post(engine_loop(s->engine), sampling_start, s);
	return 0;
}
