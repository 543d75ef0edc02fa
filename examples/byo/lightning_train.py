"""A training script with Lightning: key=value arguments, numbers in metrics.csv, Lightning's own checkpoints.

python lightning_train.py learning_rate=0.01 width=32 depth=2 max_epochs=4 root=run1
python lightning_train.py learning_rate=0.01 width=32 depth=2 max_epochs=9 root=run1 resume=run1/last.ckpt
"""

import sys
import warnings
from pathlib import Path

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

DEFAULTS = {
    "learning_rate": 0.01,
    "width": 32,
    "depth": 1,
    "dropout": 0.0,
    "max_epochs": 4,
    "seed": 0,
    "root": "lightning_run",
    "resume": "",
}


class Digits(lightning.LightningModule):
    def __init__(self, learning_rate, width, depth, dropout):
        super().__init__()
        self.learning_rate = learning_rate
        layers, before = [], 64
        for _ in range(depth):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
            before = width
        self.net = nn.Sequential(*layers, nn.Linear(before, 10))

    def training_step(self, batch, _):
        loss = cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        answers = self.net(batch[0])
        self.log("val/loss", cross_entropy(answers, batch[1]))
        self.log("val/acc", (answers.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def loaders():
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(x / 16.0, dtype=torch.float32)[order], torch.tensor(y)[order]
    train = DataLoader(TensorDataset(x[:1200], y[:1200]), batch_size=64, shuffle=True)
    return train, DataLoader(TensorDataset(x[1200:1500], y[1200:1500]), batch_size=300)


def main():
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    config = {name: type(value)(given.pop(name, value)) for name, value in DEFAULTS.items()}
    if given:
        sys.exit(f"unknown arguments: {', '.join(given)}")
    warnings.filterwarnings("ignore")
    lightning.seed_everything(config["seed"], verbose=False)
    root = Path(config["root"])
    trainer = lightning.Trainer(
        max_epochs=config["max_epochs"],
        logger=CSVLogger(root, name="logs"),
        callbacks=[ModelCheckpoint(dirpath=root, save_last=True, save_top_k=0)],
        accelerator="cpu",
        log_every_n_steps=50,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = Digits(*(config[name] for name in ("learning_rate", "width", "depth", "dropout")))
    trainer.fit(model, *loaders(), ckpt_path=config["resume"] or None)


if __name__ == "__main__":
    main()
