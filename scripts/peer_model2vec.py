"""Distil and tune model2vec, in an environment of its own: ``python peer_model2vec.py ROWS.json OUTPUT ENCODER ...``.

That environment is made by ``pip install "model2vec[distill,train,quantization]"``. :mod:`peers` runs this; the last
line printed is what was chosen, as JSON.
"""

import itertools
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

from model2vec.distill import distill
from model2vec.train import StaticModelForClassification

LEARNING_RATES = (1e-3, 1e-2)
LAYERS = (0, 1)  # hidden layers of the head
EPOCHS = 30  # at most; training stops early


def main(rows_file: str, output: str, *encoders: str) -> None:
    """Keep the pipeline that answers most validation rows rightly."""
    with open(rows_file, encoding="utf-8") as file:
        rows = json.load(file)
    train, validation = rows["train"], rows["validation"]
    labels = {name: [str(label) for label in part["labels"]] for name, part in rows.items()}
    best = {"validation_accuracy": -1.0}
    for number, encoder in enumerate(encoders):
        static = distill(encoder)
        for rate, layers in itertools.product(LEARNING_RATES, LAYERS):
            classifier = StaticModelForClassification.from_static_model(model=static, n_layers=layers)
            classifier.fit(
                train["texts"],
                labels["train"],
                learning_rate=rate,
                max_epochs=EPOCHS,
                X_val=validation["texts"],
                y_val=labels["validation"],
            )
            answers = classifier.predict(validation["texts"])
            right = sum(answer == label for answer, label in zip(answers, labels["validation"], strict=True))
            score = right / len(answers)
            if score > best["validation_accuracy"]:
                best = {"encoder": number, "learning_rate": rate, "hidden_layers": layers}
                best["validation_accuracy"] = score
                classifier.to_pipeline().save_pretrained(output)
    print(json.dumps(best))


if __name__ == "__main__":
    main(*sys.argv[1:])
