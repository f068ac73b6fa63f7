"""Distil a fine-tuned BERT into a student ten to a hundred times cheaper, with the evidence."""
