#pragma once

#include <tuple>

#include "../common.h"

namespace contrastkit::cuda {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z, bool with_dquery);
void bank_update_(at::Tensor bank, const at::Tensor& index, const at::Tensor& x, double m);
at::Tensor sinkhorn(const at::Tensor& scores, double epsilon, int64_t iterations);
std::tuple<at::Tensor, at::Tensor> sinkhorn_begin(const at::Tensor& scores, const at::Tensor& tops, double epsilon);
at::Tensor sinkhorn_sums(const at::Tensor& E, const at::Tensor& t, double scale);
void sinkhorn_end_(at::Tensor E, const at::Tensor& t);
void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize);
void ema_(at::TensorList averages, at::TensorList params, double m);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery);
at::Tensor infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids);
std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last);
at::Tensor ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last);

}  // namespace contrastkit::cuda
