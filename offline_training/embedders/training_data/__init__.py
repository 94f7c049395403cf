"""Pictures for fine-tuning: their categories and splits, augmentation, and views as pixels or cached activations."""
