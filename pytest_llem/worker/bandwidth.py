"""Memory bandwidth of GPUs, from their makers' data sheets."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["GB_PER_S", "of"]

GB_PER_S: Mapping[str, float] = {
    # NVIDIA A100 Tensor Core GPU datasheet, 2022; 40 GB: the one of 2020.
    "A100-SXM4-40GB": 1555,
    "A100-PCIE-40GB": 1555,
    "A100-SXM4-80GB": 2039,
    "A100 80GB PCIe": 1935,
    # NVIDIA H100 Tensor Core GPU datasheet, 2022 (PCIe) and 2024 (SXM, NVL).
    "H100 PCIe": 2000,
    "H100 80GB HBM3": 3350,
    "H100 NVL": 3900,
    # NVIDIA H200 Tensor Core GPU datasheet, 2024: SXM and NVL alike.
    "H200": 4800,
    "H200 NVL": 4800,
    # NVIDIA DGX B200 datasheet, 2024: 64 TB/s for eight.
    "B200": 8000,
    # Datasheets of each, 2021 to 2023.
    "A10": 600,
    "A10G": 600,
    "L4": 300,
    "L40": 864,
    "L40S": 864,
    # NVIDIA T4 Tensor Core GPU datasheet, 2019.
    "T4": 320,
    # NVIDIA V100 Tensor Core GPU datasheet, 2020.
    "V100-SXM2-16GB": 900,
    "V100-SXM2-32GB": 900,
    "V100-PCIE-16GB": 900,
    "V100-PCIE-32GB": 900,
    # Architecture whitepapers: Ampere GA102 (2020), Ada (2022), RTX Blackwell (2025).
    "GeForce RTX 3090": 936,
    "GeForce RTX 4090": 1008,
    "GeForce RTX 5090": 1792,
    # AMD Instinct MI300X data sheet, 2023.
    "AMD Instinct MI300X": 5300,
}
"""By the name that NVML gives, without a leading ``NVIDIA`` or ``Tesla``; 1 GB/s is 1e9 bytes/s."""


def of(name: str) -> float | None:
    """Bytes per second of one GPU; None where its data sheet isn't known here."""
    known = GB_PER_S.get(name.removeprefix("NVIDIA ").removeprefix("Tesla "))
    return None if known is None else known * 1e9
