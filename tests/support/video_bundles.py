"""A bundle that makes a video by known arithmetic, written as ONNX graphs, and a tokenizer of a few words."""

from pathlib import Path

import onnx
import onnx.parser
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tm_export.runtime.apps.videos.contract import TextToVideo
from tm_export.runtime.manifest import (
    Block,
    BlockRef,
    Call,
    Component,
    ComponentVariant,
    DType,
    FileEntry,
    Manifest,
    TensorSpec,
    Variant,
    file_sha256,
    write_manifest,
)

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "circle", "moves", "left")
TOKENS, LATENT, HIDDEN = 6, (1, 4, 4, 2, 3), 2
VIDEO = TextToVideo(
    files={"tokenizer": "host/tokenizer.json"},
    text_tokens=TOKENS,
    prompt_suffix="",
    cleaning="none",
    latent_shape=(1, 4, 4, 2, 3),
    frames=5,
    height=16,
    width=24,
    window=2,
    window_frames=3,
    batch_frames=2,
    fps=8,
    steps=10,
    guidance=3,
    time_shift=1.5,
    app_time_shift=1.2,
)

_V = "float[1,4,4,2,3]"
_TEXT_ENCODER = """enc (int64[1,6] input_ids, float[1,6] mask) => (float[1,6,2] states)
<int64[1] last = {2}, float[2] scale = {0.1, -0.05}> {
  x = Cast<to = 1>(input_ids)
  y = Mul(x, mask)
  z = Unsqueeze(y, last)
  states = Mul(z, scale)
}"""
# prediction = [0.8 (latent twice) ± timestep / 1000 + fps / 100 + sum of states; the first term times 0.5 alone]
_DENOISER = """net (float[1,4,4,2,3] latent, float[1] timestep, float[1,6,2] states, float[1,6] mask, float[1] fps)
  => (float[2,8,4,2,3] prediction)
<float a = {SCALE}, float half = {0.5}, float thousand = {1000.0}, float hundred = {100.0}> {
  sum = ReduceSum<keepdims = 0>(states)
  real = ReduceSum<keepdims = 0>(mask)
  t = Div(timestep, thousand)
  f = Div(fps, hundred)
  twice = Concat<axis = 1>(latent, latent)
  scaled = Mul(twice, a)
  c0 = Sub(scaled, t)
  c1 = Add(c0, f)
  c2 = Add(c1, sum)
  r = Div(real, thousand)
  cond = Add(c2, r)
  uncond = Mul(scaled, half)
  prediction = Concat<axis = 0>(cond, uncond)
}"""
_SAMPLER = f"""sampler ({_V} latent, float[2,8,4,2,3] prediction, {_V} previous_velocity, float[1] step, float[1] steps,
  float[1] guidance, float[1] time_shift, float[1] leap_step, float[1] first_step, float[1] tolerance,
  float[1] patience, float[4,4] plane, float[1] best, float[1] failures)
  => ({_V} next_latent, {_V} velocity, float[1] next_timestep, float[1] similarity, float[1] next_best,
  float[1] next_failures, float[1] done)
<int64[2] c0 = {{0, 0}}, int64[2] c1 = {{1, 4}}, int64[2] u0 = {{1, 0}}, int64[2] u1 = {{2, 4}},
 int64[2] axes = {{0, 1}}, int64[2] hw = {{2, 3}}, float[1] one = {{1.0}}, float[1] zero = {{0.0}},
 float[1] thousand = {{1000.0}}, float[1] tiny = {{0.000001}}, int64[1] flat = {{1}}> {{
  cond = Slice(prediction, c0, c1, axes)
  uncond = Slice(prediction, u0, u1, axes)
  difference = Sub(cond, uncond)
  guided = Mul(difference, guidance)
  velocity = Add(uncond, guided)
  part = Div(step, steps)
  tau = Sub(one, part)
  next_step = Add(step, one)
  next_part = Div(next_step, steps)
  next_tau = Sub(one, next_part)
  more = Sub(time_shift, one)
  a1 = Mul(more, tau)
  a2 = Add(a1, one)
  a3 = Mul(time_shift, tau)
  now = Div(a3, a2)
  b1 = Mul(more, next_tau)
  b2 = Add(b1, one)
  b3 = Mul(time_shift, next_tau)
  then = Div(b3, b2)
  plane4 = Unsqueeze(plane, hw)
  p = Mul(velocity, plane4)
  q = Mul(previous_velocity, plane4)
  pq = Mul(p, q)
  pp = Mul(p, p)
  qq = Mul(q, q)
  dot = ReduceSum<keepdims = 0>(pq)
  p_square = ReduceSum<keepdims = 0>(pp)
  q_square = ReduceSum<keepdims = 0>(qq)
  product = Mul(p_square, q_square)
  root = Sqrt(product)
  floor = Add(root, tiny)
  cosine = Div(dot, floor)
  similarity = Reshape(cosine, flat)
  looked = GreaterOrEqual(step, first_step)
  bound = Add(best, tolerance)
  better = Greater(similarity, bound)
  failed = Add(failures, one)
  best_if = Where(better, similarity, best)
  failures_if = Where(better, zero, failed)
  next_best = Where(looked, best_if, best)
  next_failures = Where(looked, failures_if, failures)
  out_of_patience = GreaterOrEqual(next_failures, patience)
  gave_up = And(looked, out_of_patience)
  fixed = GreaterOrEqual(step, leap_step)
  last = GreaterOrEqual(next_step, steps)
  leap0 = Or(gave_up, fixed)
  ends = Or(leap0, last)
  done = Cast<to = 1>(ends)
  then_or_zero = Where(ends, zero, then)
  dt = Sub(now, then_or_zero)
  move = Mul(velocity, dt)
  next_latent = Add(latent, move)
  next_timestep = Mul(then_or_zero, thousand)
}}"""
_VAE_TEMPORAL = """t (float[1,4,2,2,3] latent) => (float[1,4,3,2,3] frames)
<int64[1] s = {0}, int64[1] e = {1}, int64[1] axis = {2}, float half = {0.5}> {
  first = Slice(latent, s, e, axis)
  mixed = Mul(first, half)
  frames = Concat<axis = 2>(latent, mixed)
}"""
_VAE_SPATIAL = """s (float[2,4,2,3] frames) => (float[2,3,16,24] pictures)
<int64[1] s = {0}, int64[1] e = {3}, int64[1] axis = {1}, float[4] scales = {1.0, 1.0, 8.0, 8.0},
 float tenth = {0.1}> {
  three = Slice(frames, s, e, axis)
  large = Resize<mode = "nearest", nearest_mode = "floor",
    coordinate_transformation_mode = "asymmetric">(three, , scales)
  pictures = Mul(large, tenth)
}"""
_GRAPHS = {
    "text_encoder": {"full": _TEXT_ENCODER},
    "denoiser": {"full": _DENOISER.replace("SCALE", "0.8"), "merged": _DENOISER.replace("SCALE", "0.6")},
    "sampler": {"full": _SAMPLER},
    "vae_temporal": {"full": _VAE_TEMPORAL},
    "vae_spatial": {"full": _VAE_SPATIAL},
}
_DTYPES: dict[int, DType] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


def make_video_bundle(root: Path) -> Manifest:
    """Write the bundle; returns its manifest."""
    (root / "host").mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / VIDEO.tokenizer))
    components = tuple(_component(root, name, graphs) for name, graphs in _GRAPHS.items())
    files = sorted(path for path in root.rglob("*") if path.is_file())
    manifest = Manifest(
        model="video",
        target="onnx",
        weights="seeded",
        tool_versions={},
        components=components,
        files=tuple(
            FileEntry(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=file_sha256(path))
            for path in files
        ),
        load_schedule=tuple(BlockRef(component=name, block="00") for name in _GRAPHS),
        host=VIDEO.as_host(),
    )
    write_manifest(root, manifest)
    return manifest


def _component(root: Path, name: str, graphs: dict[str, str]) -> Component:
    (root / name).mkdir()
    variants = []
    for variant, text in graphs.items():
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]>\n{text}')
        onnx.checker.check_model(model)
        (root / name / f"{variant}.onnx").write_bytes(model.SerializeToString())
        variants.append(
            Variant(
                name=variant,
                artifact=f"{name}/{variant}.onnx",
                function="main",
                inputs=tuple(_spec(value) for value in model.graph.input),
                outputs=tuple(_spec(value) for value in model.graph.output),
                activation_bytes=10_000,
            )
        )
    block = Block(name="00", variants=tuple(variants), weight_bytes=0, files=tuple(one.artifact for one in variants))
    return Component(
        name=name,
        blocks=(block,),
        variants=tuple(
            ComponentVariant(
                name=one.name,
                inputs=one.inputs,
                outputs=one.outputs,
                calls=(
                    Call(
                        block="00",
                        reads=tuple(spec.name for spec in one.inputs),
                        writes=tuple(spec.name for spec in one.outputs),
                    ),
                ),
            )
            for one in variants
        ),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    return TensorSpec(name=value.name, dtype=_DTYPES[tensor.elem_type], shape=shape)
