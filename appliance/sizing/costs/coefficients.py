"""The figures of the memory and time model that were fitted, not derived.

Fitted by `python bench/calibrate.py --fit` on the published measurements in bench/calibration.json; the script prints this
table and the residual of every row. Change them only by running it again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    """Bytes of activations are counted per token and layer in units of one hidden (or MLP) element of two bytes."""

    # Memory, training. Kept for the backward pass by one layer: in MLP widths and in hidden widths, plain and fused kernels.
    saved_mlp: float = 4.0
    saved_hidden: float = 11.0
    saved_mlp_fused: float = 3.0
    saved_hidden_fused: float = 9.0
    saved_hidden_adapter: float = 14.5  # adapter branches on q, k, v, o with dropout
    work_mlp: float = 1.0  # gradients of the layer at work
    logit_bytes: float = (
        12.0  # per token and vocabulary entry without a fused loss: 16-bit, 32-bit copy, gradient
    )
    score_bytes: float = 6.0  # per attention score where they are held
    fixed_gib: float = 0.06  # workspaces of the matrix library
    context_gib: float = 1.05  # CUDA context and allocator slack, beside the tensors
    # Memory, sampling: what vLLM sets aside beside weights and KV cache.
    sampler_fixed_gib: float = 0.6
    sampler_token_mlp: float = 2.0  # activations of the longest prefill, in MLP widths of two bytes

    # Time on a GPU: shares of what the data sheet promises, and fixed costs.
    train_share: float = 0.441
    train_share_turing: float = 0.138
    launch_s: float = 0.006  # per layer and step: kernel launches and Python
    launch_unsloth_s: float = 0.0038
    fused_s: float = 0.117  # per step: launches of the fused kernels
    paged_optimizer_s: float = 0.186  # per 1e9 trained weights, paged 8-bit state
    nf4_slowdown_float32: float = (
        4.18  # unpacked to float32, as bitsandbytes does unless told otherwise
    )
    nf4_unpack_s: float = 0.00379  # per 1e9 weights and pass
    prefill_share: float = 0.572
    decode_share: float = 0.95  # of the bandwidth
    decode_step_s: float = 0.00274
    generate_launch_s: float = (
        0.00074  # per layer and token with transformers' generate(), kernel by kernel
    )
    nf4_decode: float = 6.1  # weights are read packed, written and read unpacked

    # Time and memory on a CPU.
    cpu_fixed_gib: float = 0.55
    cpu_saved: float = 1.65  # autocast keeps float32 copies beside the 16-bit ones
    cpu_token_s: float = 4.41e-05
    cpu_sample_token_s: float = 4.71e-05
    cpu_generate_slowdown: float = (
        2.0  # transformers' generate() in 16 bits against vLLM; by bench/cpu_plan.py
    )
    cpu_vllm_start_s: float = (
        11.0  # import and engine, CPU seconds (2026-11-21, AVX2 server, one thread)
    )
    cpu_vllm_launches: float = (
        1.35  # in launches of generate(), float32; by bench/vllm.py at 1 and 32 prompts
    )
    cpu_vllm_swap_s: float = 0.1  # merged weights and canary, of each task
    cpu_decode_step_s: float = 0.00178


FITTED = Coefficients()
