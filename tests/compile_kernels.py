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

from torch_rnn.gpu import tiles
from torch_rnn.gpu.kernels import FACTORS, KERNELS

FLOATS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
SHARED = {80: 166912, 90: 232448}  # bytes that a program may have, by compute capability
# Precision of the product, its type, units, sequences; 45 units leave no row of W_hh aligned.
CASES = [("tf32x3", torch.float32, 192, 32), ("tf32x3", torch.float32, 512, 64), ("tf32", torch.float32, 256, 32),
         ("ieee", torch.bfloat16, 1024, 64), ("ieee", torch.float16, 45, 20)]  # fmt: skip


def compiled(name, precision, dtype, H, tile, capability):
    """A kernel's machine code."""
    kernel = KERNELS[name]
    constants = {
        "H": H, "ROWS": tile.rows, "UNITS": tile.units, "PARTS": tile.parts, "DEPTH": tile.depth, "GROUP": tile.group,
        "PRECISION": precision, "FACTOR": FACTORS[dtype],
    }  # fmt: skip
    constants |= {"RELU": False} if name[0] == "rnn" else {}
    types = (
        dict.fromkeys(("T", "first", "end", "B"), "i32") | {"arrived": "*i32"} | dict.fromkeys(constants, "constexpr")
    )
    types |= dict.fromkeys(("dh", "dc"), "*fp32") if name[1] == "backward" else {}
    signature = {arg: types.get(arg, FLOATS[dtype]) for arg in kernel.arg_names}
    aligned = {(k,): [["tt.divisibility", 16]] for k, type_ in enumerate(signature.values()) if type_.startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": tile.parts})


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
        chip = tiles.Chip(132, SHARED[capability])
        for precision, dtype, H, B in CASES:
            for name in KERNELS:
                if tile := tiles.tile(name, dtype, precision, H, B, chip):
                    found = needs(compiled(name, precision, dtype, H, tile, capability))
                    case = {"kernel": " ".join(name), "precision": precision, "H": H, "B": B, "tile": tile}
                    print(
                        json.dumps(
                            case | {"capability": capability, "planned": tile.shared, "limit": chip.shared} | found
                        ),
                        flush=True,
                    )


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
