"""Policies that `Policy.export` wrote, as functions."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastifo.envs.backends.quiet import quiet
from fastifo.envs.experts.asked import Answer
from fastifo.envs.export_formats import METADATA, ONNX_EXTRA
from fastifo.utils.files import check_regular

SUFFIXES = (".onnx", ".pt2")


def read_exported(path: Path) -> Answer:
    """The policy in a file that `fastifo export` wrote: observations [B, D] to actions [B, A].

    Raises FileNotFoundError; ValueError naming the file if it is damaged, something else, or holds
    samples; ImportError for a missing package.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such policy file")
    check_regular(path)
    text, answer = (_read_onnx if path.suffix == ".onnx" else _read_pt2)(path)
    try:
        metadata = json.loads(text)
        inputs, cameras = [*metadata["inputs"]], [*metadata.get("images", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path}: expected a policy that fastifo exported, found a file without its metadata"
        ) from None
    if inputs != ["obs"]:
        raise ValueError(
            f"{path}: holds samples, which need random numbers; export the policy's mode (fastifo "
            "export --play mode, deterministic=True)"
        )
    if cameras:
        raise ValueError(
            f"{path}: expected a policy of observations alone, found one that reads the frames of "
            f"{', '.join(cameras)}"
        )

    def checked(obs: Tensor) -> Any:
        try:
            return answer(obs)
        except Exception as error:  # of each library's own kind, for observations of another width
            raise RuntimeError(str(error).partition("\n")[0]) from None

    return checked


def _read_pt2(path: Path) -> tuple[str, Answer]:
    files = {METADATA: ""}
    try:
        with quiet():
            program: Any = torch.export.load(path, extra_files=files).module()
    except Exception as error:  # torch.export has many kinds of them
        raise ValueError(
            f"{path}: expected a program of torch.export, found a damaged or unrelated file "
            f"({type(error).__name__})"
        ) from None

    def answer(obs: Tensor) -> Tensor:
        with torch.no_grad():
            action: Tensor = program(obs)
        return action

    return files[METADATA], answer


def _read_onnx(path: Path) -> tuple[str, Answer]:
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(f"{path}: needs the package onnxruntime: {ONNX_EXTRA}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, which share no base class
        raise ValueError(
            f"{path}: expected an ONNX model, found a damaged or unrelated file "
            f"({type(error).__name__})"
        ) from None
    text = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
    return text, lambda obs: session.run(None, {"obs": obs.numpy()})[0]
