"""A finished model as a graph that other programs run: ONNX, or a program of torch.export.

Preparation is inside the graph: raw rows go in, with gaps and categories that nobody has seen, and
named predictions come out. A graph is written only where it gives what the model itself gives
(``parity.py``); a folder of one opens, and predicts, without torch (``folder.py``, ``session.py``).

It never trains, and changes no model.
"""
