"""Embedders fine-tuned on a shop's own categories (Savchenko and Demochkin, DDA 2018), from pictures to `embedder.onnx`.

In the order of the data: `labelled` (which picture, which category, which split), `backbones` (the networks), `views` (pixels
or kept activations), `probe` (how good an embedding is), `finetuning`, `exporting` (ONNX, int8), `recipe` (all of it), `cli`.
"""
