"""What each patch of a picture says in the space of texts: how to read it off the last attention of an image tower.

A tower pools its patches into one feature by attention, in one of two ways, and each has its own reading:

- by a class token (or a mean), as CLIP does. The last block runs once more with value-value attention: a patch looks at
  the patches whose values are like its own, in place of those that its query asks for (CLIP Surgery, Li et al. 2023,
  which does so in several of the last blocks). As in ClearCLIP (Lan et al. 2024), the residual connection and the MLP
  of that block are left out; what comes out takes the class token's way to the common space: last norm, projection.
- by a pool with a query of its own, as SigLIP and CoCa do. Each patch is given to the pool alone, which then has
  nothing else to look at: the value path of the last attention, as in MaskCLIP (Zhou et al. 2022), with the pool's own
  MLP. What the tower computes up to there stays as it is.

Nothing is trained and no weight is changed. Towers that are neither (ResNets, ConvNeXt, EVA) have no patches here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_CLASS_TOKEN = frozenset({"clip", "altclip", "chinese_clip", "clipseg", "metaclip_2"})
"""Architectures of transformers with CLIP's vision model: a class token before the patches. Tested."""


def of_open_clip(model: Any) -> Callable[[Tensor], Tensor] | None:
    """The patches of a model of open_clip: its own ViT, or a plain ViT of timm; None for other towers."""
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    def run(pixels: Tensor) -> Any:
        return model.encode_image(pixels, normalize=False)

    tower = model.visual
    if isinstance(tower, TimmModel):
        return _of_timm(tower, run)
    if not isinstance(tower, VisionTransformer):
        return None
    if tower.attn_pool is not None:
        if tower.attn_pool_contrastive is not None:
            return None
        pool = tower.attn_pool

        def project(tokens: Tensor) -> Tensor:
            found: Tensor = tower.ln_post(pool(tokens))[:, 0] @ tower.proj
            return found

        return lambda pixels: _each_alone(_into(pool, run, pixels)[:, 1:], project)
    block = tower.transformer.resblocks[-1]
    if not isinstance(block, ResidualAttentionBlock):
        return None
    packed, heads = block.attn, block.attn.num_heads

    def patches(pixels: Tensor) -> Tensor:
        tokens = block.ln_1(_into(block, run, pixels))
        width = tokens.shape[-1]
        values = tokens @ packed.in_proj_weight[2 * width :].T + packed.in_proj_bias[2 * width :]
        found: Tensor = tower.ln_post(packed.out_proj(_among_values(values, heads))[:, 1:]) @ tower.proj
        return found

    return patches


def _of_timm(tower: Any, run: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor] | None:
    from timm.models.vision_transformer import Attention, VisionTransformer

    trunk = tower.trunk
    if not isinstance(trunk, VisionTransformer):
        return None
    before = trunk.num_prefix_tokens
    if trunk.attn_pool is not None:

        def project(tokens: Tensor) -> Tensor:
            found: Tensor = tower.head(trunk.head(trunk.fc_norm(trunk.attn_pool(tokens))))
            return found

        return lambda pixels: _each_alone(_into(trunk.attn_pool, run, pixels)[:, -_count(trunk) :], project)
    block = trunk.blocks[-1]
    attention: Any = getattr(block, "attn", None)
    if type(attention) is not Attention or attention.gate is not None or trunk.global_pool not in ("token", "avg"):
        return None

    def patches(pixels: Tensor) -> Tensor:
        tokens = block.norm1(_into(block, run, pixels))
        values = attention.qkv(tokens).chunk(3, dim=-1)[2]
        mixed = attention.proj(attention.norm(_among_values(values, attention.num_heads)))
        found: Tensor = tower.head(trunk.head(trunk.fc_norm(trunk.norm(mixed[:, before:]))))
        return found

    return patches


def _count(trunk: Any) -> int:
    """How many patches a ViT of timm cuts a picture into."""
    count: int = trunk.patch_embed.num_patches
    return count


def of_transformers(model: Any) -> Callable[[Tensor], Tensor] | None:
    """The patches of a model of transformers: CLIP and those built like it, or SigLIP; None for others."""
    kind = model.config.model_type
    whole = getattr(model, "clip", model)  # CLIPSeg has its CLIP inside

    def run(pixels: Tensor) -> Any:
        return model.get_image_features(pixel_values=pixels)

    if kind == "siglip" and whole.vision_model.use_head:
        head = whole.vision_model.head
        return lambda pixels: _each_alone(_into(head, run, pixels), head)
    if kind not in _CLASS_TOKEN:
        return None
    tower = whole.vision_model
    block = tower.encoder.layers[-1]
    attention = block.self_attn

    def patches(pixels: Tensor) -> Tensor:
        values = attention.v_proj(block.layer_norm1(_into(block, run, pixels)))
        mixed = attention.out_proj(_among_values(values, attention.num_heads))
        found: Tensor = whole.visual_projection(tower.post_layernorm(mixed[:, 1:]))
        return found

    return patches


def _among_values(values: Tensor, heads: int) -> Tensor:
    """Value-value attention: (B, L, D) -> (B, L, D), each head by itself, with the usual scale."""
    from torch.nn import functional

    batch, length, width = values.shape
    split = values.reshape(batch, length, heads, width // heads).transpose(1, 2)  # (B, heads, L, D / heads)
    mixed: Tensor = functional.scaled_dot_product_attention(split, split, split)
    return mixed.transpose(1, 2).reshape(batch, length, width)


def _each_alone(tokens: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """(B, P, D) -> (B, P, D'): what the pool makes of each token where it sees no other."""
    batch, patches, _ = tokens.shape
    return pool(tokens.reshape(batch * patches, 1, -1)).reshape(batch, patches, -1)


_lock = threading.Lock()  # a hook is the module's, whichever thread runs it


def _into(module: Module, run: Callable[[Tensor], Any], pixels: Tensor) -> Tensor:
    """What a module is given (its first argument) while `run` encodes a batch."""
    given: list[Tensor] = []

    def keep(_: Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        given.append(arguments[0] if arguments else named["hidden_states"])

    with _lock:
        hook = module.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            run(pixels)
        finally:
            hook.remove()
    return given[0]
