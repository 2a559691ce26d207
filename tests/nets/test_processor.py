"""What the processor can do."""

import pytest

from nets import processor


@pytest.mark.parametrize(
    "flags, low",
    [
        ({"avx2"}, set()),
        (set(), set()),
        ({"avx512f", "avx512_bf16"}, {"bfloat16"}),
        ({"amx_tile", "amx_bf16"}, {"bfloat16"}),
        ({"avx512_fp16"}, {"float16"}),
        ({"amx_bf16", "amx_fp16"}, {"bfloat16", "float16"}),
    ],
    ids=["AVX2", "no Linux", "Zen 4", "Sapphire Rapids' AMX", "AVX-512's float16", "Granite Rapids' AMX"],
)
def test_what_it_computes_in(monkeypatch, flags, low):
    monkeypatch.setattr(processor, "cpu_flags", lambda: flags)
    found = {dtype for dtype in ("float32", "bfloat16", "float16") if processor.computes_in(dtype)}
    assert found == {"float32"} | low
