"""A converted component in the manifest's terms."""

from __future__ import annotations

from pathlib import Path

from tm_export.exporters.graph.liveness import user_inputs
from tm_export.exporters.graph.nodes import arguments, value_of
from tm_export.exporters.partition.names import block_name, signature_of_piece
from tm_export.exporters.partition.prepare import Prepared
from tm_export.exporters.targets.base import Target
from tm_export.exporters.targets.specs import tensor_specs
from tm_export.runtime import manifest


def component_of(prepared: Prepared, target: Target, bundle: Path) -> manifest.Component:
    """The component's blocks, their variants and files, and the calls that run it."""
    source = prepared.source
    count = len(prepared.blocks)
    names = [block_name(i, count) for i in range(count)]
    return manifest.Component(
        name=source.name,
        blocks=tuple(_block(prepared, i, names[i], target, bundle) for i in range(count)),
        variants=tuple(
            manifest.ComponentVariant(
                name=variant,
                inputs=tensor_specs(prepared.signature.inputs, source.inputs_of(variant), target),
                outputs=tensor_specs(prepared.signature.outputs, prepared.outputs[variant], target),
                state=tuple(manifest.State(input=each.input, output=each.output) for each in source.state),
                calls=tuple(
                    manifest.Call(block=name, reads=block.pieces[variant].reads, writes=block.pieces[variant].writes)
                    for name, block in zip(names, prepared.blocks, strict=True)
                ),
            )
            for variant in prepared.raised
        ),
    )


def _block(prepared: Prepared, i: int, name: str, target: Target, bundle: Path) -> manifest.Block:
    block, need = prepared.blocks[i], prepared.needs[i]
    folder = bundle / prepared.source.name
    variants = []
    for variant, piece in block.pieces.items():
        signature = signature_of_piece(prepared, block, variant)
        (output,) = (node for node in piece.program.graph.nodes if node.op == "output")
        inputs = [value_of(node) for node in user_inputs(piece.program)]
        outputs = [value_of(node) for node in arguments(output)[0]]
        variants.append(
            manifest.Variant(
                name=variant,
                artifact=f"{prepared.source.name}/{target.artifact(name, variant)}",
                function=target.function(variant, len(block.pieces)),
                inputs=tensor_specs(signature.inputs, inputs, target),
                outputs=tensor_specs(signature.outputs, outputs, target),
                activation_bytes=need.activation_bytes,
            )
        )
    tops = {Path(target.artifact(name, variant)).parts[0] for variant in block.pieces}
    files = [file for top in sorted(tops) for file in (folder / top, *sorted((folder / top).rglob("*")))]
    return manifest.Block(
        name=name,
        variants=tuple(variants),
        weight_bytes=need.weight_bytes,
        files=tuple(file.relative_to(bundle).as_posix() for file in files if file.is_file()),
    )
