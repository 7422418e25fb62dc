#!/usr/bin/env python3
"""Makes the repository's own golden set: tiny random models with the numbers of the published implementation.

    python3 -m venv venv && venv/bin/pip install torch==2.9.0 transformers==5.0.0 tokenizers==0.22.2 numpy==2.3.5 safetensors==0.7.0
    venv/bin/python tests/golden/make_golden.py tests/golden/models [NAME...]

Each model is a Hugging Face directory (BF16 weights, exact in float32) with golden.npz: tokens_i, logits_i, greedy_i
for i = 0.., hidden_0, and for DeepSeek-V3 mtp_tokens and mtp_logits. All arithmetic in float32. The tokenizer is a small
byte-level BPE with DeepSeek's pre-tokenizer and added tokens, so that the directories can be served. In deepseek_v3_fp8 the
matrices of the layers are E4M3 blocks of 128 x 128 with weight_scale_inv, as in DeepSeek's releases.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, DeepseekV2Config, DeepseekV3Config, LlamaConfig, Qwen2Config

VOCAB = 512
ADDED = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
MARKS = ["<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
         "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
         "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>"]
TEXT = ["The bank pays 12 euro for the first account and 7 for the second.", "Why does the answer need a proof?",
        "def add(a, b):\n    return a + b\n", "你好，世界！今天天气很好。", '{"name": "weather", "arguments": {"city": "Paris"}}',
        "A private stronghold keeps every record inside its own walls.", "1234567 and 3.14159 are numbers."] * 4
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{{ '<｜Assistant｜>' + (m['content'] or '').split('</think>')[-1] + eos_token }}"
    "{% elif m['role'] == 'tool' %}{{ '<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + m['content'] + "
    "'<｜tool▁output▁end｜><｜tool▁outputs▁end｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}")
PRE = ["\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
       "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
       "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]


def make_tokenizer(folder):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in PRE]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(MARKS), special_tokens=ADDED,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tok.train_from_iterator(TEXT, trainer)
    from tokenizers import AddedToken
    tok.add_tokens([AddedToken(m, normalized=False, special=False) for m in MARKS])
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "add_bos_token": True, "add_eos_token": False, "bos_token": ADDED[0], "eos_token": ADDED[1],
        "pad_token": ADDED[2], "chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"},
        ensure_ascii=False, indent=1))


def hf_name_state(model):
    """The state under the names and shapes of released checkpoints: one tensor an expert."""
    state = {}
    for name, value in model.state_dict().items():
        value = value.detach().to(torch.float32)
        if name.endswith("mlp.experts.gate_up_proj"):
            base = name[: -len("gate_up_proj")]
            for e in range(value.shape[0]):
                gate, up = value[e].chunk(2, dim=0)
                state[f"{base}{e}.gate_proj.weight"], state[f"{base}{e}.up_proj.weight"] = gate.contiguous(), up.contiguous()
        elif name.endswith("mlp.experts.down_proj"):
            base = name[: -len("down_proj")]
            for e in range(value.shape[0]):
                state[f"{base}{e}.down_proj.weight"] = value[e].contiguous()
        else:
            state[name] = value.contiguous()
    return state


def save(folder, config, state, tied):
    folder.mkdir(parents=True, exist_ok=True)
    if tied:
        state.pop("lm_head.weight", None)
    keep = lambda n, v: v.dtype == torch.float8_e4m3fn or n.endswith(("e_score_correction_bias", "_scale_inv"))
    save_file({n: (v if keep(n, v) else v.to(torch.bfloat16)) for n, v in state.items()},
              str(folder / "model.safetensors"), {"format": "pt"})
    text = config.to_dict()
    for key in ("dtype", "_name_or_path", "id2label", "label2id", "problem_type"):
        text.pop(key, None)
    text["torch_dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(text, indent=1, default=str))
    (folder / "generation_config.json").write_text(json.dumps(
        {"bos_token_id": 0, "eos_token_id": 1, "do_sample": True, "temperature": 0.6, "top_p": 0.95}))
    make_tokenizer(folder)


@torch.no_grad()
def golden(model, rng):
    out = {}
    for i, n in enumerate((9, 70, 1)):
        tokens = torch.from_numpy(rng.integers(3, VOCAB - len(MARKS), n))
        result = model(tokens[None], output_hidden_states=True)
        out[f"tokens_{i}"], out[f"logits_{i}"] = tokens.numpy(), result.logits[0].numpy()
        if i == 0:
            out["hidden_0"] = torch.stack([h[0] for h in result.hidden_states]).numpy()
        ids = tokens.tolist()
        for _ in range(24):
            ids.append(int(model(torch.tensor(ids)[None]).logits[0, -1].argmax()))
        out[f"greedy_{i}"] = np.array(ids[n:])
    return out


def rounded(model, rng_seed):
    """Random weights that BF16 holds exactly, large enough that the logits have a shape."""
    gen = torch.Generator().manual_seed(rng_seed)
    for name, p in list(model.named_parameters()) + [(n, b) for n, b in model.named_buffers() if "correction_bias" in n]:
        if "norm" in name:
            value = 1 + 0.1 * torch.randn(p.shape, generator=gen)
        elif "correction_bias" in name:
            value = 0.05 * torch.randn(p.shape, generator=gen)
        else:
            value = 0.15 * torch.randn(p.shape, generator=gen)
        p.data = value.to(torch.bfloat16).to(torch.float32)


BLOCK = 128


def to_fp8_blocks(weight):
    """E4M3 codes and, for each block of 128 x 128, the float32 by which they are multiplied."""
    rows, cols = ((n + BLOCK - 1) // BLOCK for n in weight.shape)
    codes, scales = torch.empty(weight.shape, dtype=torch.float8_e4m3fn), torch.empty(rows, cols)
    for i in range(rows):
        for j in range(cols):
            part = (slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK))
            scales[i, j] = weight[part].abs().max() / 448
            codes[part] = (weight[part] / scales[i, j]).to(torch.float8_e4m3fn)
    return codes, scales


def from_fp8_blocks(codes, scales):
    wide = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return codes.float() * wide[: codes.shape[0], : codes.shape[1]]


def is_fp8(name):
    return "layers." in name and name.endswith("proj.weight")  # not the router, as in the releases


def quantise(model):
    """Gives the model the weights that its FP8 blocks hold; returns the blocks under the names of released checkpoints."""
    state = hf_name_state(model)
    blocks = {}
    for name in filter(is_fp8, list(state)):
        blocks[name], blocks[name + "_scale_inv"] = to_fp8_blocks(state[name])
        state[name] = from_fp8_blocks(blocks[name], blocks[name + "_scale_inv"])
    for name, p in model.named_parameters():
        if name.endswith("mlp.experts.gate_up_proj"):
            base = name[: -len("gate_up_proj")]
            p.data = torch.stack([torch.cat([state[f"{base}{e}.gate_proj.weight"], state[f"{base}{e}.up_proj.weight"]])
                                  for e in range(p.shape[0])])
        elif name.endswith("mlp.experts.down_proj"):
            base = name[: -len("down_proj")]
            p.data = torch.stack([state[f"{base}{e}.down_proj.weight"] for e in range(p.shape[0])])
        else:
            p.data = state[name]
    return blocks


@torch.no_grad()
def mtp(model, config, rng):
    """The MTP module by the equations of the V3 report, around transformers' own decoder layer."""
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer
    index = config.num_hidden_layers
    layer = DeepseekV3DecoderLayer(config, index).float().eval()
    rounded(layer, 99)
    gen = torch.Generator().manual_seed(7)
    draw = lambda *s: (0.1 * torch.randn(*s, generator=gen)).to(torch.bfloat16).float()
    h = config.hidden_size
    extra = {"enorm.weight": 1 + draw(h), "hnorm.weight": 1 + draw(h), "shared_head.norm.weight": 1 + draw(h),
             "eh_proj.weight": draw(h, 2 * h)}
    extra = {n: v.to(torch.bfloat16).float() for n, v in extra.items()}
    norm = lambda x, w: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps) * w
    tokens = torch.from_numpy(rng.integers(3, VOCAB - len(MARKS), 33))
    hidden = model.model(tokens[None]).last_hidden_state
    e = norm(model.model.embed_tokens(tokens[1:])[None], extra["enorm.weight"])
    g = norm(hidden[:, :-1], extra["hnorm.weight"])
    x = torch.cat([e, g], -1) @ extra["eh_proj.weight"].T
    n = x.shape[1]
    positions = torch.arange(n)[None]
    mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
    out = layer(x, attention_mask=mask, position_ids=positions, position_embeddings=model.model.rotary_emb(x, positions))
    out = out[0] if isinstance(out, tuple) else out
    logits = norm(out, extra["shared_head.norm.weight"]) @ model.lm_head.weight.T
    state = {f"model.layers.{index}.{n}": v for n, v in {**hf_name_state(layer), **extra}.items()}
    state[f"model.layers.{index}.embed_tokens.weight"] = model.model.embed_tokens.weight.detach()
    state[f"model.layers.{index}.shared_head.head.weight"] = model.lm_head.weight.detach()
    return state, {"mtp_tokens": tokens.numpy(), "mtp_logits": logits[0].numpy()}


def main(out, names):
    torch.manual_seed(0)
    shape = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, max_position_embeddings=1024, num_attention_heads=4,
                 bos_token_id=0, eos_token_id=1, attn_implementation="eager")
    deepseek = shape | dict(moe_intermediate_size=32, num_key_value_heads=4, n_shared_experts=1, kv_lora_rank=32, qk_nope_head_dim=16,
                            qk_rope_head_dim=8, v_head_dim=16, first_k_dense_replace=1, rope_theta=10000.0)
    v3 = deepseek | dict(norm_topk_prob=True, routed_scaling_factor=2.5)
    configs = {
        "deepseek_v3": DeepseekV3Config(**v3 | dict(
            num_hidden_layers=3, n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=3, q_lora_rank=24,
            num_nextn_predict_layers=1,
            rope_scaling={"rope_type": "yarn", "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128,
                          "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0})),
        "qwen2": Qwen2Config(**shape | dict(num_hidden_layers=2, num_key_value_heads=2)),
        "llama3": LlamaConfig(**shape | dict(
            num_hidden_layers=2, num_key_value_heads=1, tie_word_embeddings=True, rope_theta=500000.0,
            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 128})),
        # As V2-Lite: no query compression, softmax router without groups.
        "deepseek_v2": DeepseekV2Config(**deepseek | dict(
            num_hidden_layers=2, n_shared_experts=2, n_routed_experts=8, num_experts_per_tok=3, q_lora_rank=None,
            topk_method="greedy", norm_topk_prob=False, routed_scaling_factor=1.0)),
        "deepseek_v3_fp8": DeepseekV3Config(**v3 | dict(
            hidden_size=160, num_hidden_layers=2, n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2,
            q_lora_rank=136, num_nextn_predict_layers=0)),
    }
    for seed, (name, config) in enumerate(configs.items()):
        if names and name not in names:
            continue
        model = AutoModelForCausalLM.from_config(config).float().eval()
        rounded(model, seed)
        rng = np.random.default_rng(seed)
        blocks = quantise(model) if name.endswith("_fp8") else {}
        if blocks:
            config.quantization_config = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
        numbers, state = golden(model, rng), {**hf_name_state(model), **blocks}
        if name == "deepseek_v3":
            extra, mtp_numbers = mtp(model, config, rng)
            state.update(extra)
            numbers.update(mtp_numbers)
        save(out / name, config, state, config.tie_word_embeddings)
        np.savez(out / name / "golden.npz", **numbers)
        print(name, {k: v.shape for k, v in numbers.items()})


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
