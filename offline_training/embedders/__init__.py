"""Fine-tunes embedders on the categories of a shop (Savchenko and Demochkin, DDA 2018): from pictures to `embedder.onnx`.

Modules in the order of the data: `labelled` (category and split of each picture), `backbones` (the networks), `views` (pixels or
cached activations), `probe` (quality of an embedding), `finetuning`, `exporting` (ONNX, int8), `recipe` (all steps), `cli`.
"""
