"""One's own data: ``fastnn train --data FILE`` and ``fastnn predict MODEL FILE``, and the same from Python.

    trained = prepare("people.csv", Settings(target="income")).train()
    trained.save("people-model")                           # the folder must be there
    Predictor.load("people-model").predict("more.csv").write("predictions.csv")

Files are CSV, Parquet, .npz, and folders of pictures. Training needs scikit-learn and matplotlib, prediction only what
reads the file. Nothing is pickled or unpickled.
"""

from .pictures import Size
from .predictor import Predictions, Predictor
from .settings import Settings
from .training import Prepared, Trained, prepare

__all__ = ["Predictions", "Predictor", "Prepared", "Settings", "Size", "Trained", "prepare"]
