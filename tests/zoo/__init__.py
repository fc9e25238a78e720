"""Small PyTorch models that merge, prune or cluster tokens the way people write it; none knows tm_export.

`ZOO` and `REFUSED` map a name to `build() -> (module, example inputs)`; two of the zoo are the examples that
users see. What is in `REFUSED` has a number of tokens (or a branch) that depends on the input's values.
`RANDOM` names the members of `ZOO` that draw random numbers in `forward`, so that two eager calls differ.
"""

from collections.abc import Callable

from torch import Tensor, nn

from examples import tomesd_unet, vit_tome

from . import (
    boolean_split,
    data_dependent,
    dpc_knn,
    kmeans,
    pair_mean,
    pooled_kv,
    prune_topk,
    threshold_capacity,
    tome_amax,
    tome_exclusive,
    tome_index_add,
    tome_index_put,
    tome_matmul,
    tome_mean,
    tome_scatter_add,
    tome_sizes,
    tome_source,
    tome_unmerge,
    vidtome,
)

Build = Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]

ZOO: dict[str, Build] = {
    "tome_mean": tome_mean.build,
    "tome_sizes": tome_sizes.build,
    "tome_amax": tome_amax.build,
    "tome_exclusive": tome_exclusive.build,
    "tome_scatter_add": tome_scatter_add.build,
    "tome_index_put": tome_index_put.build,
    "tome_index_add": tome_index_add.build,
    "tome_matmul": tome_matmul.build,
    "tome_source": tome_source.build,
    "tome_unmerge": tome_unmerge.build,
    "vit_tome": vit_tome.build,
    "tomesd_unet": tomesd_unet.build,
    "vidtome": vidtome.build,
    "prune_topk": prune_topk.build,
    "threshold_capacity": threshold_capacity.build,
    "kmeans_scatter": kmeans.build_scatter,
    "kmeans_index_add": kmeans.build_index_add,
    "kmeans_one_hot": kmeans.build_one_hot,
    "dpc_knn": dpc_knn.build,
    "boolean_checkerboard": boolean_split.build_checkerboard,
    "boolean_random_half": boolean_split.build_random_half,
    "random_keep": boolean_split.build_random_keep,
    "pair_mean": pair_mean.build,
    "pooled_kv": pooled_kv.build,
}

RANDOM = ("tomesd_unet", "vidtome", "boolean_random_half", "random_keep")

REFUSED: dict[str, Build] = {
    "threshold": data_dependent.build_threshold,
    "rate": data_dependent.build_rate,
    "unique": data_dependent.build_unique,
    "nonzero": data_dependent.build_nonzero,
    "masked_select": data_dependent.build_masked_select,
    "branch": data_dependent.build_branch,
}
