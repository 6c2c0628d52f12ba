/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/spec-parse.h"

#include "base/mem.h"

#include <stdio.h>

static struct {
	int64_t blkio_weight, cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime, cpu_shares,
		cpus, memory, memory_reservation, memory_swap, pids_limit;
	const char *cpuset_cpus, *cpuset_mems, *restart;
} opts;

static const struct option options[] = {
	{ OPTION_UINT16, 0, "blkio-weight", &opts.blkio_weight,
	  "Block IO (relative weight), between 10 and 1000, or 0 to disable", .fallback = "0" },
	{ OPTION_INT, 0, "cpu-period", &opts.cpu_period,
	  "Limit CPU CFS (Completely Fair Scheduler) period" },
	{ OPTION_INT, 0, "cpu-quota", &opts.cpu_quota,
	  "Limit CPU CFS (Completely Fair Scheduler) quota" },
	{ OPTION_INT, 0, "cpu-rt-period", &opts.cpu_rt_period,
	  "Limit the CPU real-time period in microseconds" },
	{ OPTION_INT, 0, "cpu-rt-runtime", &opts.cpu_rt_runtime,
	  "Limit the CPU real-time runtime in microseconds" },
	{ OPTION_INT, 'c', "cpu-shares", &opts.cpu_shares, "CPU shares (relative weight)" },
	{ OPTION_CPUS, 0, "cpus", &opts.cpus, "Number of CPUs" },
	{ OPTION_STRING, 0, "cpuset-cpus", &opts.cpuset_cpus,
	  "CPUs in which to allow execution (0-3, 0,1)" },
	{ OPTION_STRING, 0, "cpuset-mems", &opts.cpuset_mems,
	  "MEMs in which to allow execution (0-3, 0,1)" },
	{ OPTION_SIZE, 'm', "memory", &opts.memory, "Memory limit" },
	{ OPTION_SIZE, 0, "memory-reservation", &opts.memory_reservation, "Memory soft limit" },
	{ OPTION_SWAP, 0, "memory-swap", &opts.memory_swap,
	  "Swap limit equal to memory plus swap: -1 to enable unlimited swap" },
	{ OPTION_INT, 0, "pids-limit", &opts.pids_limit,
	  "Tune container pids limit (set -1 for unlimited)" },
	{ OPTION_STRING, 0, "restart", &opts.restart,
	  "Restart policy to apply when a container exits" },
	{ OPTION_END },
};

static const struct {
	const char *key;
	const int64_t *value;
} ints[] = {
	{ "BlkioWeight", &opts.blkio_weight },
	{ "CpuPeriod", &opts.cpu_period },
	{ "CpuQuota", &opts.cpu_quota },
	{ "CpuRealtimePeriod", &opts.cpu_rt_period },
	{ "CpuRealtimeRuntime", &opts.cpu_rt_runtime },
	{ "CpuShares", &opts.cpu_shares },
	{ "Memory", &opts.memory },
	{ "MemoryReservation", &opts.memory_reservation },
	{ "MemorySwap", &opts.memory_swap },
	{ "NanoCpus", &opts.cpus },
	{ "PidsLimit", &opts.pids_limit },
};

static struct json *update_config(struct error *err)
{
	autojson struct json *j = json_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(ints); i++)
		if (*ints[i].value)
			json_set_int(j, ints[i].key, *ints[i].value);
	if (opts.cpuset_cpus)
		json_set_string(j, "CpusetCpus", opts.cpuset_cpus);
	if (opts.cpuset_mems)
		json_set_string(j, "CpusetMems", opts.cpuset_mems);
	if (opts.restart) {
		struct json *restart = spec_restart(opts.restart, err);

		if (!restart)
			return NULL;
		json_set(j, "RestartPolicy", restart);
	}
	if (!json_object_len(j)) {
		error_set(err, ERROR_INVALID_ARGUMENT,
			  "you must provide one or more flags when using this command");
		return NULL;
	}
	return TAKE_PTR(j);
}

static int update_one(struct cli *cli, const char *name, struct error *err)
{
	autofree char *path = url_format("/containers/{}/update", name);
	autojson struct json *body = update_config(err);
	autojson struct json *reply = NULL;
	const struct json *warnings;

	if (!body || client_call(&cli->client, "POST", path, body, &reply, err) < 0)
		return -1;
	cli_print("%s\n", name);
	warnings = json_get(reply, "Warnings");
	for (size_t i = 0; i < json_array_len(warnings); i++)
		fprintf(stderr, "%s\n", json_string(json_array_get(warnings, i)));
	return 0;
}

static int run_update(struct cli *cli, int argc, char **argv, struct error *err)
{
	autojson struct json *check = update_config(err);

	return check ? cli_for_each(cli, argc, argv, update_one) : -1;
}

const struct command command_update = {
	.paths = "container update|update",
	.args = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Update configuration of one or more containers",
	.min_args = 1,
	.max_args = -1,
	.complete = COMPLETE_CONTAINERS,
	.options = options,
	.run = run_update,
};
