"""Exports torch networks to the ONNX files of a bundle. The backbone computes in int8, the others store int8 matrices.

Inputs and outputs stay uint8 or float32.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from model.aggregator import AGES, LOG_WEIGHT, TREND, TREND_DAYS
from offline_training.aggregators.blend import TrendBlend
from offline_training.aggregators.served import Served
from offline_training.exporting.graphs import OPSET, strip_and_check

CALIBRATION_BATCH = 8  # pictures


def export_float_backbone(network: nn.Module, path: Path, image_size: int) -> None:
    """Write a backbone: `image` uint8 [B,image_size,image_size,3] -> `features` float32 [B,f]."""
    example = torch.zeros((2, image_size, image_size, 3), dtype=torch.uint8)
    _export(
        network,
        (example,),
        path,
        inputs=["image"],
        outputs=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


def quantize_backbone(float_path: Path, path: Path, pictures: NDArray[np.uint8]) -> None:
    """Quantize a float backbone by post-training static quantization (QDQ, weights int8 per channel, activations uint8).

    Args:
        float_path: File from `export_float_backbone`.
        path: File to write.
        pictures: Pictures of the domain, uint8 [N,size,size,3]. Their activations set the ranges.
    """
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(float_path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _CalibrationPictures(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    strip_and_check(path)


def export_aggregator(network: Served, embedding_size: int, path: Path) -> None:
    """Write an aggregator: `embeddings` float32 [B,M,d], `log_prior` float32 [B,M] (the log weights of the items)
    -> `scores` float32 [B,D], `attention` float32 [B,M].
    """
    batch, items = torch.export.Dim("batch"), torch.export.Dim("items")
    _export(
        network,
        (torch.zeros((2, 3, embedding_size)), torch.zeros((2, 3))),
        path,
        inputs=["embeddings", LOG_WEIGHT],
        outputs=["scores", "attention"],
        dynamic_shapes=({0: batch, 1: items}, {0: batch, 1: items}),
    )


def export_trend_aggregator(network: TrendBlend, embedding_size: int, categories: int, path: Path) -> None:
    """Write an aggregator that uses the trend: also `ages` float32 [B,M] and `trend` float32 [B,3,D]."""
    batch, items = torch.export.Dim("batch"), torch.export.Dim("items")
    _export(
        network,
        (
            torch.zeros((2, 3, embedding_size)),
            torch.zeros((2, 3)),
            torch.zeros((2, 3)),
            torch.zeros((2, len(TREND_DAYS), categories)),
        ),
        path,
        inputs=["embeddings", LOG_WEIGHT, AGES, TREND],
        outputs=["scores", "attention"],
        dynamic_shapes=({0: batch, 1: items}, {0: batch, 1: items}, {0: batch, 1: items}, {0: batch}),
    )


def export_items(trunk: nn.Module, feature_size: int, path: Path) -> None:
    """Write the trunk of an item network: `features` float32 [B,feature_size] -> `embedding` float32 [B,d]."""
    _export(
        trunk,
        (torch.zeros((2, feature_size)),),
        path,
        inputs=["features"],
        outputs=["embedding"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


def export_adapter(network: nn.Module, embedding_size: int, path: Path) -> None:
    """Write an adapter: `embedding` float32 [B,embedding_size], by an older bundle -> `adapted` float32 [B,d]."""
    _export(
        network,
        (torch.zeros((2, embedding_size)),),
        path,
        inputs=["embedding"],
        outputs=["adapted"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


class _CalibrationPictures(CalibrationDataReader):
    """Hands pictures to the calibration in batches."""

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        self.batches: Iterator[NDArray[np.uint8]] = iter(
            np.array_split(pictures, max(1, len(pictures) // CALIBRATION_BATCH))
        )

    def get_next(  # pyright: ignore[reportIncompatibleMethodOverride]  (None ends the iteration; the base class does not declare it)
        self,
    ) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def _export(
    network: nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    dynamic_shapes: tuple[dict[int, torch.export.Dim], ...],
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # inputs share an axis on purpose
        program = torch.onnx.export(
            network.eval(),
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"torch.onnx.export returned no program for {path}")
    program.save(str(path), external_data=False)
    strip_and_check(path)
