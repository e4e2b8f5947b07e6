"""What is different on a GPU: the clock, the precision, the memory, graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def problem_with_device() -> str | None:
    """Why nothing can be measured on a GPU here, in a sentence; None if it can."""
    try:
        import torch
    except ModuleNotFoundError:
        return "--device cuda needs PyTorch: pip install 'numpy-rnn[torch]'"
    if not torch.cuda.is_available():
        return f"--device cuda needs an NVIDIA GPU and a PyTorch for CUDA, this is {torch.__version__} without a GPU"
    return None


def set_precision(dtype: str) -> dict[str, bool]:
    """Allow TF32 for "tf32" and forbid it for all else, in cuDNN and in matrix products alike.

    Returns
    -------
    dict of str to bool
        What PyTorch says of it afterwards.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    return {
        "cuDNN TF32": bool(torch.backends.cudnn.allow_tf32),
        "matmul TF32": bool(torch.backends.cuda.matmul.allow_tf32),
    }


def seconds(call: Callable[[], Any], number: int) -> float:
    """Seconds per call, by the GPU's own clock.

    The two events are on the stream that the calls use. So what the CPU does in vain while the GPU is busy does not
    count, and what the GPU waits for does.
    """
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call, unused-ignore]
    torch.cuda.synchronize()
    start.record()
    for _ in range(number):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / number


def peak_memory(call: Callable[[], Any]) -> tuple[Any, int]:
    """Run a call; what it returns, and how many bytes it needed on the GPU at most beyond what was there before.

    A graph's memory is taken when it is captured, so a replay needs none.
    """
    import torch

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    return result, int(torch.cuda.max_memory_allocated() - before)


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """Capture what a call does on the GPU, and make a function that replays it.

    Returns
    -------
    function
        Returns what the captured call returned; its tensors hold the newest replay's numbers.
    """
    import torch

    # PyTorch asks for some runs on another stream first: libraries set themselves up in them, which no graph can hold.
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def description() -> dict[str, str]:
    """The GPU, and the versions that matter."""
    import torch

    if not torch.cuda.is_available():
        return {}
    cudnn: Any = torch.backends.cudnn
    return {
        "gpu": torch.cuda.get_device_name(),
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(cudnn.version()),
    }
