/* SPDX-License-Identifier: Apache-2.0 */
/* Diff: layers onto mounts, mounts into layers. */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "image/diff.h"

#include "containerd.services.diff.v1.pb-c.h"

static int apply(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		 struct error *err)
{
	const Containerd__Services__Diff__V1__ApplyRequest *request =
		(const Containerd__Services__Diff__V1__ApplyRequest *)m;
	struct arena *a = grpc_call_arena(c);
	automounts struct mounts mounts = MOUNTS_INIT;
	struct descriptor layer = { 0 };
	struct applied_layer applied;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (!request->diff || !digest_valid(request->diff->digest))
		return error_set(err, ERROR_INVALID_ARGUMENT, "diff has no valid digest");
	if (request->n_payloads > 0)
		return error_set(err, ERROR_UNIMPLEMENTED, "no stream processor takes payloads");
	layer.media_type = request->diff->media_type;
	layer.digest = request->diff->digest;
	ctrd_take_mounts(request->mounts, request->n_mounts, &mounts);
	if (image_apply_layer(ctrd_of(c)->config.images, &ctx, &layer, &mounts, request->sync_fs,
			      grpc_call_cancel(c), &applied, err) < 0)
		return -1;
	Containerd__Types__Descriptor *out = CTRD_NEW(a, types__descriptor);
	out->media_type = message_text(a, MEDIA_OCI_LAYER);
	out->digest = message_text(a, applied.diff_id);
	out->size = applied.size;
	((Containerd__Services__Diff__V1__ApplyResponse *)r)->applied = out;
	return 0;
}

static int diff(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Diff__V1__DiffRequest *request =
		(const Containerd__Services__Diff__V1__DiffRequest *)m;
	automounts struct mounts left = MOUNTS_INIT, right = MOUNTS_INIT;
	CLEANUP(descriptor_done) struct descriptor made = { 0 };
	autokvs struct kvs labels = KVS_INIT;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	ctrd_take_mounts(request->left, request->n_left, &left);
	ctrd_take_mounts(request->right, request->n_right, &right);
	message_kvs(&labels, request->labels, request->n_labels);
	if (image_diff_layer(ctrd_of(c)->config.images, &ctx, &left, &right, request->media_type,
			     request->ref, &labels, grpc_call_cancel(c), &made, err) < 0)
		return -1;
	((Containerd__Services__Diff__V1__DiffResponse *)r)->diff =
		ctrd_descriptor(grpc_call_arena(c), &made);
	return 0;
}

const struct grpc_method diff_methods[] = {
	{ "Apply", .unary = apply, .pool = JOB_TRANSFER },
	{ "Diff", .unary = diff, .pool = JOB_TRANSFER },
	{ NULL },
};
