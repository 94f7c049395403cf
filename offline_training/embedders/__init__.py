"""Fine-tunes embedders on the categories of a shop (Savchenko and Demochkin, DDA 2018): from pictures to `backbone.onnx`.

In the order of the data: `training_data/` (pictures with categories, and their views), `backbones/` (the networks), `probe`
(quality of an embedding), `finetuning`, `exporting` (ONNX, int8), `recipe` (all steps), `cli`.
"""
