// setup.py compiles this file once per instruction set; CONTRASTKIT_ISA names the namespace.
#include "augment.h"
#include "bank.h"
#include "clip.h"
#include "ema.h"
#include "infonce.h"
#include "ntxent.h"
#include "queue.h"
#include "siglip.h"
#include "sinkhorn.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

namespace contrastkit::simd::CONTRASTKIT_ISA {

const Kernels kernels = {
    STRING(CONTRASTKIT_ISA),
    ema<float, float>,
    ema<float, bf16>,
    ema<bf16, bf16>,
    enqueue<float, float>,
    enqueue<float, bf16>,
    enqueue<bf16, float>,
    enqueue<bf16, bf16>,
    pack<float>,
    pack<bf16>,
    logit,
    infonce<float>,
    infonce<bf16>,
    infonce_dkeys,
    ntxent,
    ntxent_dz,
    clip,
    clip_dxy,
    siglip,
    siglip_dxy,
    bank_noise<float>,
    bank_noise<bf16>,
    bank_row<float, float>,
    bank_row<float, bf16>,
    bank_row<bf16, float>,
    bank_row<bf16, bf16>,
    sinkhorn_tops<float>,
    sinkhorn_tops<bf16>,
    sinkhorn_begin<float>,
    sinkhorn_begin<bf16>,
    sinkhorn_sums,
    sinkhorn_end,
    augment<float>,
    augment<bf16>,
    augment<uint8_t>,
};

}  // namespace contrastkit::simd::CONTRASTKIT_ISA
