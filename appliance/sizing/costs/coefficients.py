"""The figures of the memory and time model that were fitted, not derived.

`python -m bench.calibrate --fit` fits them to the published measurements in bench/calibration.json
and prints this table with the error of every row. Change them only by running it again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    """Activations count per token and layer, in widths: one hidden (or MLP) vector in 16 bits."""

    # Memory of training: what one layer keeps for its backward pass, with plain and fused kernels.
    saved_mlp: float = 4.0  # in MLP widths
    saved_hidden: float = 11.0  # in hidden widths
    saved_mlp_fused: float = 3.0
    saved_hidden_fused: float = 9.0
    saved_hidden_adapter: float = 14.5  # more for adapter branches on q, k, v, o with dropout
    work_mlp: float = 1.0  # gradients of the layer at work, in MLP widths
    # Per token and vocabulary entry without a fused loss: 16-bit logits, 32-bit copy, gradient.
    logit_bytes: float = 12.0
    score_bytes: float = 6.0  # per attention score, where the scores are held
    fixed_gib: float = 0.06  # workspaces of the matrix library
    context_gib: float = 1.05  # CUDA context and slack of the allocator, beside the tensors

    # Memory of sampling: what vLLM sets aside beside weights and KV cache.
    sampler_fixed_gib: float = 0.6
    sampler_token_mlp: float = 2.0  # activations of the longest prefill, in MLP widths per token

    # Time on a GPU: shares of what the data sheet promises, and fixed costs.
    train_share: float = 0.441
    train_share_turing: float = 0.138
    launch_s: float = 0.006  # per layer and step: kernel launches and Python
    launch_unsloth_s: float = 0.0038
    fused_s: float = 0.117  # per step: launches of the fused kernels
    paged_optimizer_s: float = 0.186  # per 1e9 trained weights, paged 8-bit state
    nf4_slowdown_float32: float = 4.18  # weights unpacked to float32, the default of bitsandbytes
    nf4_unpack_s: float = 0.00379  # per 1e9 weights and pass
    prefill_share: float = 0.572
    decode_share: float = 0.95  # of the bandwidth
    decode_step_s: float = 0.00274
    # Per layer and token with generate() of transformers, which launches kernel by kernel.
    generate_launch_s: float = 0.00074
    # Import, compilation and CUDA graphs with empty caches, beyond what a worker takes without it:
    # ready after 98.5 s on the host of an H200, docs/results/gpu.md.
    gpu_vllm_start_s: float = 90.0
    nf4_decode: float = 6.1  # bytes moved per packed byte: read packed, written and read unpacked

    # Time and memory on a CPU.
    cpu_fixed_gib: float = 0.55
    cpu_saved: float = 1.65  # autocast keeps float32 copies beside the 16-bit ones
    cpu_token_s: float = 4.41e-05
    cpu_sample_token_s: float = 4.71e-05
    # generate() of transformers in 16 bits against vLLM: 2026-11-27, bench/vllm.py, 1.55 to 1.78.
    cpu_generate_slowdown: float = 1.7
    # Import and engine, in CPU seconds: 2026-11-21, server with AVX2, one thread.
    cpu_vllm_start_s: float = 11.0
    # In launches of generate(), float32; by bench/vllm.py at 1 and 32 prompts.
    cpu_vllm_launches: float = 1.35
    cpu_vllm_swap_s: float = 0.1  # per task: merged weights and the check that they took effect
    cpu_decode_step_s: float = 0.00178


FITTED = Coefficients()
