"""Compile every kernel for GPUs that need not be here; print what each needs, as JSON. Needs Triton alone.

python tests/compile_kernels.py 80 90      compute capabilities 8.0, 9.0
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from torch_rnn import fused
from torch_rnn.kernels.launch import FACTORS, KERNELS

FLOATS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
# Way of the product, its type, units; 45 units leave no row of W_hh aligned.
CASES = [("ieee", torch.float32, 192), ("tf32", torch.float32, 192), ("half", torch.bfloat16, 192),
         ("ieee", torch.float32, 45), ("half", torch.float16, 45)]  # fmt: skip


def compiled(name, way, dtype, H, tile, capability):
    """A kernel's machine code."""
    kernel = KERNELS[name]
    constants = {
        "H": H, "ROWS": tile.rows, "UNITS": tile.units, "DEPTH": tile.depth, "STAGES": tile.stages,
        "PRECISION": "tf32" if way == "tf32" else "ieee", "FACTOR": FACTORS[dtype],
    }  # fmt: skip
    constants |= {"RELU": False} if name[0] == "rnn" else {}
    types = {"T": "i32", "B": "i32", **dict.fromkeys(constants, "constexpr")}
    types |= dict.fromkeys(("dh", "dc"), "*fp32") if name[1] == "backward" else {}
    signature = {arg: types.get(arg, FLOATS[dtype]) for arg in kernel.arg_names}
    aligned = {(k,): [["tt.divisibility", 16]] for k, type_ in enumerate(signature.values()) if type_.startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": tile.warps})


def needs(binary):
    """Registers a thread, bytes of shared memory, instructions that spill a register, kinds of products."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        tools = triton.knobs.nvidia
        usage = subprocess.run([tools.cuobjdump.path, "-res-usage", file.name], capture_output=True, text=True).stdout
        code = subprocess.run([tools.nvdisasm.path, "-c", file.name], capture_output=True, text=True).stdout
    (registers,) = re.findall(r"REG:(\d+)", usage)
    operations = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\d+ )?([A-Z0-9]+)", code, re.M)
    return {
        "registers": int(registers),
        "shared": binary.metadata.shared,
        "spills": sum(operation in ("STL", "LDL") for operation in operations),
        "products": sorted({"FFMA", "HMMA"} & set(operations)),
    }


def main(capabilities):
    for capability in capabilities:
        for way, dtype, H in CASES:
            for tile in fused.TILES[way]:
                for name in KERNELS:
                    found = needs(compiled(name, way, dtype, H, tile, capability))
                    case = {"kernel": " ".join(name), "way": way, "H": H, "rows": tile.rows, "capability": capability}
                    print(json.dumps(case | found), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
